"""How much memory a draft may use, and which draft is the best."""

import dataclasses
import enum

from jaxswap._search.trial import Laid, Trial


class Aim(enum.Enum):
    """Which draft is the best."""

    FASTEST = "fastest"
    """The fastest that fits. If none fits, the smallest."""
    SMALLEST = "smallest"
    """The smallest, drafts of policies included."""
    SMALLEST_OWN = "smallest of the planner's own"
    """The smallest without drafts of policies: XLA does not keep to their waits."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """The memory that a draft may use.

    Attributes:
        device_bytes: Device memory. Zero if the smallest draft is wanted.
        host_bytes: Pinned host memory; `None`: any amount.
        aim: Which draft is the best.
        with_gaps: Whether gaps between buffers count as device memory.
    """

    device_bytes: int
    host_bytes: int | None = None
    aim: Aim = Aim.FASTEST
    with_gaps: bool = False

    @classmethod
    def smallest(
        cls, host_bytes: int | None, *, is_own: bool = True, with_gaps: bool = False
    ) -> "Limits":
        """Ask for the smallest draft."""
        aim = Aim.SMALLEST_OWN if is_own else Aim.SMALLEST
        return cls(0, host_bytes, aim, with_gaps)

    def counted_bytes(self, draft: Laid) -> int:
        """Return the device memory of a draft that counts."""
        gaps = draft.fragmented_bytes if self.with_gaps else 0
        return draft.timeline.device_bytes + gaps

    def may_take(self, draft: Laid) -> bool:
        """Whether a draft is of the kind that is looked for: a policy's, or not."""
        is_followed = isinstance(draft, Trial) and draft.is_followed
        return not (is_followed and self.aim is Aim.SMALLEST_OWN)

    def is_over_on_host(self, nbytes: int) -> bool:
        """Whether pinned host memory is over the limit."""
        return self.host_bytes is not None and nbytes > self.host_bytes
