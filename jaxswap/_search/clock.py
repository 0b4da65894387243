"""How long a search may go on."""

import dataclasses
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds of work so far. By default the thread's processor time: other load on the
machine must not spoil a plan."""

MOST_SLOWDOWN = 8.0
"""How much of other load is made up for where only wall time can be limited."""


@dataclasses.dataclass(frozen=True)
class Deadline:
    """When to stop.

    Attributes:
        clock: What is looked at.
        at_seconds: Its reading then.
    """

    clock: Clock
    at_seconds: float

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> "Deadline":
        """Stop so many seconds from now."""
        return cls(clock, clock() + seconds)

    @property
    def left_seconds(self) -> float:
        """Seconds until then; negative when it is over."""
        return self.at_seconds - self.clock()

    @property
    def is_over(self) -> bool:
        """Whether it is time to stop."""
        return self.left_seconds < 0

    def earlier(self, seconds: float) -> "Deadline":
        """Stop so many seconds before."""
        return dataclasses.replace(self, at_seconds=self.at_seconds - seconds)

    def within(self, seconds: float) -> "Deadline":
        """Stop so many seconds from now, if that is sooner."""
        soon = self.clock() + seconds
        return dataclasses.replace(self, at_seconds=min(self.at_seconds, soon))


@dataclasses.dataclass(frozen=True)
class Instant:
    """A moment, by the clock on the wall and by this thread's processor time."""

    wall_seconds: float
    thread_seconds: float

    @classmethod
    def now(cls) -> "Instant":
        """Return this moment."""
        return cls(time.perf_counter(), time.thread_time())

    def slowdown(self) -> float:
        """How many times as long as its processor time this thread took since."""
        now = Instant.now()
        worked = max(now.thread_seconds - self.thread_seconds, 1e-3)
        slowdown = (now.wall_seconds - self.wall_seconds) / worked
        return min(MOST_SLOWDOWN, max(1.0, slowdown))
