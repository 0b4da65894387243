"""What to search for before a program is compiled, and what follows from its bytes.

`Attempt.after` holds the rules: it makes the next attempt from the result of the last
one.
"""

import dataclasses
import math
from collections.abc import Mapping

from jaxswap._search.lessons import NO_LESSONS, Lessons, exposed_values
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.measured import Compiled, Measured, compiled_of
from jaxswap._search.search import Found
from jaxswap._simulate.draft import Draft

ENOUGH = 0.03
"""A prediction needs no correction if it was off by less than this share."""
EXPOSED = 0.02
"""Copies that nothing hides may take this share of the step."""
GAIN = 0.01
"""A plan that fits is not improved if plain is faster by less than this share."""
FAR = 1.05
"""A plan that fits is improved if one that did not was so many times as fast."""
IMPROVED = 2
"""How many more programs are compiled after one that fits."""
LATER = 0.5
"""Share of the search for programs after the first: they begin where it ended."""
MARGIN = 1 / 128
"""If a program exceeded its budget, the next plan leaves this share of it free. After
each further failure the share is twice as large."""
AMPLE = 1 / 8
"""The last program but one leaves this share free if two exceeded their budget before:
the last one is the smallest, which may be several times as slow."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What the loop is to find.

    Attributes:
        limits: How much memory the compiled program may use.
        most_compiles: The largest number of programs to compile.
        search_seconds: How much to search for the first program.
        swap_bytes_per_second: How fast a copy is that nothing hides.
        plain_seconds: Of the function as JAX runs it, simulated.
        correction_bytes: What programs are already known to need beyond the simulation.
    """

    limits: Limits
    most_compiles: int
    search_seconds: float
    swap_bytes_per_second: float
    plain_seconds: float
    correction_bytes: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Refined:
    """The result of the loop.

    Attributes:
        draft: The fastest draft whose program fits. If none fits, the draft with the
            smallest program.
        bound_seconds: No draft is faster, by the planner's model.
        seconds: The step as simulated, and the copies that nothing hides.
        correction_bytes: What the program needs beyond the simulation.
        lasting_bytes: The same without the gaps between buffers.
        compiled: What was read from the draft's program. `None` without a compiler.
        fits: Whether the program fits.
    """

    draft: Draft
    bound_seconds: float
    seconds: float
    correction_bytes: int
    lasting_bytes: int
    compiled: Compiled | None
    fits: bool

    @classmethod
    def believed(cls, found: Found, correction_bytes: int = 0) -> "Refined":
        """Return the result where nothing is compiled."""
        return cls(
            draft=found.draft,
            bound_seconds=found.bound_seconds,
            seconds=found.draft.timeline.seconds,
            correction_bytes=correction_bytes,
            lasting_bytes=correction_bytes,
            compiled=None,
            fits=found.fits,
        )

    @property
    def host_bytes(self) -> int:
        """Pinned host memory of the program. Without a compiler: of its simulation."""
        seen = self.compiled
        return seen.host_bytes if seen else self.draft.timeline.host_bytes

    @property
    def device_bytes(self) -> int:
        """Device memory of the program. Without a compiler: of its simulation."""
        seen = self.compiled
        return seen.device_bytes if seen else self.draft.timeline.device_bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """A draft and the program that was compiled from it.

    Attributes:
        found: The result of the search.
        compiled: What was read from the program, and what was predicted.
        fits: Whether the program stays within the limits.
        exposed_seconds: What the copies take beside which nothing runs.
    """

    found: Found
    compiled: Compiled
    fits: bool
    exposed_seconds: float

    @classmethod
    def of(
        cls,
        found: Found,
        measured: Measured,
        predicted_bytes: int,
        count: int,
        task: Task,
    ) -> "Tried":
        """Return what follows for a task from a program, the one of that number."""
        return cls(
            found=found,
            compiled=compiled_of(measured, predicted_bytes, count),
            fits=is_within(measured, task.limits),
            exposed_seconds=measured.exposed_bytes / task.swap_bytes_per_second,
        )

    @property
    def unhidden_seconds(self) -> float:
        """What copies take beside which nothing runs, and which no draft waits for."""
        stall_seconds = self.found.draft.timeline.stall_seconds
        return max(0.0, self.exposed_seconds - stall_seconds)

    @property
    def is_hidden(self) -> bool:
        """Whether copies are hidden, or the draft waits for them on purpose."""
        return self.unhidden_seconds <= EXPOSED * self.found.draft.timeline.seconds

    @property
    def is_as_predicted(self) -> bool:
        """Whether the program needs about as much as was predicted."""
        predicted = self.compiled.predicted_device_bytes
        return abs(self.compiled.device_bytes - predicted) <= ENOUGH * predicted

    @property
    def is_over_by_gaps(self) -> bool:
        """Whether the program did not fit for gaps about as large as expected."""
        expected = self.found.draft.fragmented_bytes
        gaps, nbytes = self.compiled.fragmented_bytes, self.compiled.device_bytes
        is_right = abs(gaps - expected) <= ENOUGH * nbytes
        return not self.fits and is_right and expected > ENOUGH * nbytes

    @property
    def refined(self) -> Refined:
        """The draft, with what its program needs beyond the simulation."""
        draft, compiled = self.found.draft, self.compiled
        needed = compiled.device_bytes - draft.timeline.device_bytes
        lasting = needed - compiled.fragmented_bytes
        return Refined(
            draft=draft,
            bound_seconds=self.found.bound_seconds,
            seconds=draft.timeline.seconds + self.unhidden_seconds,
            correction_bytes=needed,
            lasting_bytes=lasting,
            compiled=compiled,
            fits=self.fits,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Attempt:
    """What to search for before the next program is compiled.

    Attributes:
        limits: How much memory the simulation may use.
        lessons: What is known of each program.
        number: Number of the next program to compile, from one on.
        failures: How many programs did not fit so far.
        improved: How many programs were compiled after the first that fits.
        needed_bytes: What the last program needed beyond its simulation.
        least_bytes: The least that a program that did not fit needed beyond it. `None`
            before there was one.
        again: A draft to lay out once more, instead of a search.
        is_anew: Whether the search starts from nothing, for the least memory.
        too_much_bytes: The least that a simulation was given for a program that did not
            fit, if there is one.
        failed_seconds: The fewest seconds of a program that did not fit.
    """

    limits: Limits
    lessons: Mapping[int, Lessons]
    number: int = 1
    failures: int = 0
    improved: int = 0
    needed_bytes: int = 0
    least_bytes: int | None = None
    again: Found | None = None
    is_anew: bool = False
    too_much_bytes: int | None = None
    failed_seconds: float = math.inf

    def search_seconds(self, task: Task) -> float:
        """Return how much to search."""
        is_first = self.number == 1 or self.is_anew
        return task.search_seconds * (1 if is_first else LATER)

    def careful(self) -> "Attempt":
        """Return this attempt with gaps between buffers counted as memory."""
        limits = dataclasses.replace(self.limits, with_gaps=True)
        return dataclasses.replace(self, limits=limits)

    @classmethod
    def first(cls, task: Task) -> "Attempt":
        """Return the attempt that a task begins with."""
        known = task.correction_bytes
        return cls(limits=less(task.limits, known), lessons={}, needed_bytes=known)

    def after(self, tried: Tried, best: Refined, task: Task) -> "Attempt | None":
        """Return the next attempt, or `None` if nothing is left to try.

        Args:
            tried: The result of this attempt.
            best: The best result so far.
            task: What the loop is to find.
        """
        seconds = tried.found.draft.timeline.seconds
        is_fast = seconds <= (1 + GAIN) * task.plain_seconds
        is_good = tried.is_as_predicted or is_fast
        is_good &= tried.is_hidden and not self._is_far(tried.refined)
        if tried.fits and is_good:
            return None
        is_for_speed = task.limits.aim is Aim.FASTEST
        is_hopeless = is_for_speed and not (tried.fits or tried.found.fits)
        is_enough = is_for_speed and self.improved == IMPROVED
        is_last = self.number >= task.most_compiles or is_enough
        if is_last or (is_hopeless and self.is_anew):
            return None
        made, following = tried.refined, self._counted(tried, best)
        with_gaps = self._with_gaps_after(tried, is_for_speed=is_for_speed)
        allowed = dataclasses.replace(task.limits, with_gaps=with_gaps)
        is_last = following.number == task.most_compiles and not best.fits
        if is_hopeless or (is_last and is_for_speed):
            # When simulated, a policy's draft may be the smallest.
            return following._for_the_least(task, tried)
        if is_last:
            limits = Limits.smallest(task.limits.host_bytes, is_own=False)
            return dataclasses.replace(following, limits=limits)
        if tried.fits and self._is_far(made):
            limits = following._half_way_to(made)
        elif tried.fits:
            limits = less(allowed, made.lasting_bytes)
        elif best.fits and best.draft.graph is made.draft.graph:
            limits = following._half_way_to(best)
        else:
            spent = self._spent(made, task, following.least_bytes or 0)
            limits = less(allowed, spent)
        following = dataclasses.replace(following, limits=limits)
        return following._taught(tried)

    def _with_gaps_after(self, tried: Tried, *, is_for_speed: bool) -> bool:
        """Whether gaps between buffers count as memory after a program.

        They do if they were why the program did not fit. A second program that does not
        fit says that other gaps were expected. For the least memory they count every
        other time: of drafts that are as small, many have gaps, and some have none.
        """
        if not is_for_speed:
            return not self.limits.with_gaps
        is_right = self.limits.with_gaps or tried.is_over_by_gaps
        return is_right and (tried.fits or not self.failures)

    def widened(self, task: Task) -> "Attempt | None":
        """Return this attempt with half of the way to what was too much.

        The search may find nothing new because plans are few and far between.
        """
        if self.too_much_bytes is None or self.limits.aim is not Aim.FASTEST:
            return None
        left = self.too_much_bytes - self.limits.device_bytes
        if left < ENOUGH * task.limits.device_bytes:
            return None
        return dataclasses.replace(self, limits=less(self.limits, -left // 2))

    def _for_the_least(self, task: Task, tried: Tried) -> "Attempt":
        """Return this attempt for the least memory, with nothing left from before."""
        taught = self._taught(tried).lessons
        lessons = {
            program: dataclasses.replace(known, grounded=frozenset())
            for program, known in taught.items()
        }
        limits = Limits.smallest(task.limits.host_bytes, with_gaps=True)
        return dataclasses.replace(self, limits=limits, lessons=lessons, is_anew=True)

    def _taught(self, tried: Tried) -> "Attempt":
        """Return this attempt with the lessons of a program."""
        found = tried.found
        known = self.lessons.get(found.program, NO_LESSONS)
        again = None
        if not tried.fits:
            known = known.without(found.draft.actions)
        elif not tried.is_hidden:
            exposed = exposed_values(found.draft.graph, tried.compiled)
            known = known.exposed(exposed)
            again = None if exposed & known.grounded or not exposed else found
            known = dataclasses.replace(known, is_exposed=not exposed)
        lessons = {**self.lessons, found.program: known}
        return dataclasses.replace(self, lessons=lessons, again=again)

    def _counted(self, tried: Tried, best: Refined) -> "Attempt":
        """Return this attempt with its number, and with what did not fit."""
        given, simulated = self.limits.device_bytes, tried.found.draft
        needed = tried.compiled.device_bytes - self.limits.counted_bytes(simulated)
        following = dataclasses.replace(
            self,
            number=self.number + 1,
            improved=self.improved + best.fits,
            needed_bytes=needed,
            again=None,
            is_anew=False,
        )
        if tried.fits:
            return following
        least, too_much = self.least_bytes, self.too_much_bytes
        return dataclasses.replace(
            following,
            failures=self.failures + 1,
            least_bytes=needed if least is None else min(least, needed),
            too_much_bytes=given if too_much is None else min(given, too_much),
            failed_seconds=min(self.failed_seconds, tried.refined.seconds),
        )

    def _is_far(self, fitting: Refined) -> bool:
        """Whether a program that fits is much slower than one that did not.

        XLA may leave a large gap between the buffers of one plan, and none in the next.
        """
        return fitting.seconds > FAR * self.failed_seconds

    def _half_way_to(self, fitting: Refined) -> Limits:
        """Return limits between a draft whose program fits and what was too much."""
        known, too_much = self.limits.counted_bytes(fitting.draft), self.too_much_bytes
        assert too_much is not None
        return dataclasses.replace(self.limits, device_bytes=(known + too_much) // 2)

    def _spent(self, made: Refined, task: Task, least_bytes: int) -> int:
        """Return how far to stay below the limit after a program did not fit.

        XLA may leave gaps between buffers. They vary from plan to plan, so they are
        subtracted from the limit only after a second failure, and no more than the
        least that was seen. Steps grow, since a plan that needs a little less may
        compile to as many bytes. Before the smallest program is the only one left, one
        step is large.
        """
        assert made.compiled is not None
        limit_bytes = task.limits.device_bytes
        expected = least_bytes if self.failures else made.lasting_bytes
        is_room = self.limits.device_bytes > 0
        spent = limit_bytes - self.limits.device_bytes if is_room else expected
        missing = max(0, made.compiled.device_bytes - limit_bytes) << self.failures
        margin = MARGIN * 2**self.failures
        spent = max(expected, spent) + min(int(margin * limit_bytes), missing)
        is_last_but_one = self.failures > 0 and self.number + 2 == task.most_compiles
        return max(spent, int(AMPLE * limit_bytes)) if is_last_but_one else spent


def less(limits: Limits, nbytes: int) -> Limits:
    """Subtract bytes from a limit of device memory."""
    if limits.aim is not Aim.FASTEST:
        return limits
    return dataclasses.replace(limits, device_bytes=limits.device_bytes - nbytes)


def is_within(measured: Measured, limits: Limits) -> bool:
    """Whether a program stays within limits."""
    is_on_device = measured.device_bytes <= limits.device_bytes
    return is_on_device and not limits.is_over_on_host(measured.host_bytes)
