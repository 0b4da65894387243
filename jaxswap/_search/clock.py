"""How long a search may take."""

import dataclasses
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns the seconds of work so far. By default it is the processor time of the
thread, so that other load on the machine does not make plans worse."""

MOST_SLOWDOWN = 8.0
"""If only wall time can be limited, it is extended for other load by up to this."""


@dataclasses.dataclass(frozen=True)
class Deadline:
    """The time at which to stop.

    Attributes:
        clock: The clock that is read.
        at_seconds: The reading of the clock at which to stop.
    """

    clock: Clock
    at_seconds: float

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> "Deadline":
        """Return the deadline that is this many seconds from now."""
        return cls(clock, clock() + seconds)

    @property
    def left_seconds(self) -> float:
        """Seconds until the deadline. Negative after it."""
        return self.at_seconds - self.clock()

    @property
    def is_over(self) -> bool:
        """Whether it is time to stop."""
        return self.left_seconds < 0

    def earlier(self, seconds: float) -> "Deadline":
        """Return the deadline that is this many seconds before this one."""
        return dataclasses.replace(self, at_seconds=self.at_seconds - seconds)

    def within(self, seconds: float) -> "Deadline":
        """Return the deadline this many seconds from now, or this one if earlier."""
        soon = self.clock() + seconds
        return dataclasses.replace(self, at_seconds=min(self.at_seconds, soon))


@dataclasses.dataclass(frozen=True)
class Instant:
    """A moment, on the wall clock and in processor time of this thread."""

    wall_seconds: float
    thread_seconds: float

    @classmethod
    def now(cls) -> "Instant":
        """Return this moment."""
        return cls(time.perf_counter(), time.thread_time())

    def slowdown(self) -> float:
        """How many times its processor time this thread took since the moment."""
        now = Instant.now()
        worked = max(now.thread_seconds - self.thread_seconds, 1e-3)
        slowdown = (now.wall_seconds - self.wall_seconds) / worked
        return min(MOST_SLOWDOWN, max(1.0, slowdown))
