"""How much a search may do: counted in drafts, so that it ends alike everywhere."""

import dataclasses
import math
import time
from collections.abc import Callable

Count = Callable[[], int]
"""Returns how many drafts were laid out so far."""


@dataclasses.dataclass(frozen=True)
class Quota:
    """A number of drafts after which to stop.

    Attributes:
        count: Counts the drafts.
        end: The count at which to stop.
        stop_at_seconds: The reading of `time.monotonic` at which to stop whatever was
            counted. A search that ends there may find another plan on a faster machine.
    """

    count: Count
    end: int
    stop_at_seconds: float = math.inf

    @classmethod
    def of(cls, drafts: float, count: Count, seconds: float = math.inf) -> "Quota":
        """Return the quota of so many drafts from now on, and at most so much time."""
        return cls(count, count() + int(drafts), time.monotonic() + seconds)

    @property
    def left(self) -> int:
        """Drafts that are left. Negative if there were more."""
        return self.end - self.count()

    @property
    def is_late(self) -> bool:
        """Whether it is time to stop, whatever was counted."""
        return time.monotonic() > self.stop_at_seconds

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self.left <= 0 or self.is_late

    def earlier(self, drafts: float) -> "Quota":
        """Return the quota that ends so many drafts before this one."""
        return dataclasses.replace(self, end=self.end - int(drafts))

    def within(self, drafts: float) -> "Quota":
        """Return a quota of so many drafts from now on, or this one if that is less."""
        return dataclasses.replace(self, end=min(self.end, self.count() + int(drafts)))
