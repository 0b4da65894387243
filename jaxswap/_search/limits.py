"""What a draft may use, and what is looked for within that."""

import dataclasses
import enum


class Aim(enum.Enum):
    """Which draft is the best."""

    FASTEST = "fastest"
    """The fastest that fits; the smallest if none does."""
    SMALLEST = "smallest"
    """The smallest, those of policies included."""
    SMALLEST_OWN = "smallest of the planner's own"
    """The smallest without those of policies, to whose waits XLA does not keep."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """The memory that a draft may use.

    Attributes:
        device_bytes: Device memory; none if the smallest draft is looked for.
        host_bytes: Pinned host memory; `None`: any amount.
        aim: Which draft is the best.
    """

    device_bytes: int
    host_bytes: int | None = None
    aim: Aim = Aim.FASTEST

    @classmethod
    def smallest(cls, host_bytes: int | None, *, is_own: bool = True) -> "Limits":
        """Ask for the smallest draft."""
        return cls(0, host_bytes, Aim.SMALLEST_OWN if is_own else Aim.SMALLEST)
