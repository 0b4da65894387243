"""The scheduling options of a policy: when copies start, how long values stay."""

import dataclasses
import enum

COPIES_IN_FLIGHT = 2
"""Copies that may start at one point. XLA lets two asynchronous copies run at a time
(`xla_gpu_experimental_parallel_async_compute_limit`). It ends one before a third."""


class Distance(enum.Enum):
    """How the distance between two points of the program is counted."""

    HEAVY = "heavy"
    """By the heavy operations between them."""
    LEVEL = "level"
    """By topological level (longest path), as TFLMSv2 counts."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """How swaps are laid out in time.

    Attributes:
        distance: The unit of the three distances below.
        swapout_threshold: A value leaves the device if a use is farther than this from
            the point where it is made.
        swapin_ahead: A swap-in may start this far ahead of the first use it serves.
        swapin_groupby: Uses closer together than this share one swap-in.
        sync_swapout: Whether the next heavy operation waits for the swap-out.
        sync_swapin: Whether the swap-in starts only right before its use.
        min_bytes: Values of the backward pass that are smaller stay on the device.
        swap_cotangents: Whether cotangents that lie idle for longer than
            `swapout_threshold` are swapped as well.
        copies_in_flight: How many swap-ins may start at one point.
        is_forced: Whether to swap what the actions say even if no copy can be hidden.
    """

    distance: Distance = Distance.HEAVY
    swapout_threshold: int = 3
    swapin_ahead: int = 1
    swapin_groupby: int = 2
    sync_swapout: bool = False
    sync_swapin: bool = False
    min_bytes: int = 1 << 20
    swap_cotangents: bool = True
    copies_in_flight: int = COPIES_IN_FLIGHT
    is_forced: bool = False

    @property
    def staleness(self) -> tuple[int, int]:
        """Heavy operations, and the bytes from which they count; see `entries_of`."""
        return 2 * self.swapout_threshold, self.min_bytes
