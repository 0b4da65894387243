"""What the linear model knows of a program, and its answer. See `linear_model`."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Item:
    """A candidate as the model describes it.

    Attributes:
        nbytes: Its size.
        made: The segment that makes it.
        gap: The first and the last segment in which it may be away, between one use
            and the next.
        away: More such gaps. If the value leaves, it spends these on the host, too.
        use: The segment of its first use after the gap. Recomputations that read it
            count as uses.
        is_needed: Whether the backward pass itself reads it.
        recompute_seconds: Time to recompute it. `None` if it cannot be recomputed.
        roots: Positions of the items that its recomputation reads.
        can_leave: Whether it may be swapped.
    """

    nbytes: int
    made: int
    gap: tuple[int, int]
    away: tuple[tuple[int, int], ...]
    use: int
    is_needed: bool
    recompute_seconds: float | None
    roots: tuple[int, ...]
    can_leave: bool = True


@dataclasses.dataclass(frozen=True)
class Model:
    """The whole problem.

    Attributes:
        seconds: Time of each segment.
        device_bytes: Memory of each segment if all items that the backward pass
            reads stay, and all others are dropped.
        items: The candidates.
        out_bytes_per_second: Bandwidth to the host.
        in_bytes_per_second: Bandwidth to the device.
        copy_seconds: Time that computation loses when a copy is issued.
    """

    seconds: np.ndarray
    device_bytes: np.ndarray
    items: tuple[Item, ...]
    out_bytes_per_second: float
    in_bytes_per_second: float
    copy_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """A solution of the model.

    Attributes:
        leaves: Share of each item that is swapped.
        recomputations: Share of each item that is recomputed.
        stays: Share of each item that stays only because recomputations read it.
        extra_seconds: Time of recomputations and stalls.
        excess_bytes: Device memory over the limit.
        device_bytes: Memory of each segment, by the model.
    """

    leaves: np.ndarray
    recomputations: np.ndarray
    stays: np.ndarray
    extra_seconds: float
    excess_bytes: float
    device_bytes: np.ndarray
