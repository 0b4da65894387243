"""Search and compiler in a loop: plan, compile, compare, correct, plan again.

The simulation does not know what a compiler adds (copies of layout, gaps between
buffers), nor where its scheduler moves a copy. So each plan is compiled. What the
compiled program needs beyond the simulation is subtracted from the limit of the next
search. A copy that the compiler starts too late to hide is requested earlier. If that
does not help, its value stays on the device. If nothing fits, the last compilation is
that of the smallest plan, or of the function as JAX runs it: XLA may need less memory
for it than is simulated.

`Attempt.after` holds all of these rules: it makes the next attempt from the result of
the last one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxswap._base.units import format_bytes
from jaxswap._search.lessons import NO_LESSONS, Lessons, exposed_values, likeness
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Compiled, Measured, compiled_of
from jaxswap._search.search import Found
from jaxswap._simulate.draft import Draft

ENOUGH = 0.03
"""A prediction needs no correction if it was off by less than this share."""
EXPOSED = 0.05
"""Share of the swapped bytes that may be exposed."""
MARGIN = 1 / 256
"""If a program exceeded its budget, the next plan leaves this share of it free. After
each further failure the share is four times as large."""

PLAIN = 1.25
"""The function as JAX runs it is compiled too, unless it is simulated to need so many
times the memory of the best program."""

Compile = Callable[[Draft], Measured]
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """What the loop is to find.

    Attributes:
        limits: How much memory the compiled program may use.
        most_compiles: The largest number of programs to compile.
        search_seconds: How much to search each time.
        correction_bytes: What programs are already known to need beyond the simulation.
    """

    limits: Limits
    most_compiles: int
    search_seconds: float
    correction_bytes: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Refined:
    """The result of the loop.

    Attributes:
        draft: The fastest draft whose program fits. If none fits, the draft with the
            smallest program.
        bound_seconds: No draft is faster, by the planner's model.
        correction_bytes: What the program needs beyond the simulation.
        lasting_bytes: The same without the gaps between buffers.
        compiled: What was read from the draft's program. `None` without a compiler.
        fits: Whether the program fits.
    """

    draft: Draft
    bound_seconds: float
    correction_bytes: int
    lasting_bytes: int
    compiled: Compiled | None
    fits: bool

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
    """

    found: Found
    compiled: Compiled
    fits: bool

    @property
    def is_hidden(self) -> bool:
        """Whether copies are hidden, or the draft waits for some of them on purpose."""
        timeline = self.found.draft.timeline
        is_waiting = timeline.stall_seconds > EXPOSED * timeline.seconds
        exposed_bytes = self.compiled.exposed_bytes
        return is_waiting or exposed_bytes <= EXPOSED * self.compiled.swapped_bytes

    @property
    def is_as_predicted(self) -> bool:
        """Whether the program needs about as much as was predicted."""
        predicted = self.compiled.predicted_device_bytes
        return abs(self.compiled.device_bytes - predicted) <= ENOUGH * predicted

    @property
    def refined(self) -> Refined:
        """The draft, with what its program needs beyond the simulation."""
        draft, compiled = self.found.draft, self.compiled
        needed = compiled.device_bytes - draft.timeline.device_bytes
        lasting = needed - compiled.fragmented_bytes
        bound = self.found.bound_seconds
        return Refined(draft, bound, needed, lasting, compiled, self.fits)


@dataclasses.dataclass(frozen=True, eq=False)
class Attempt:
    """What to search for before the next program is compiled.

    Attributes:
        limits: How much memory the simulation may use.
        lessons: What is known of each program.
        number: Number of the next program to compile, from one on.
        failures: How many programs did not fit so far.
        needed_bytes: What the last program needed beyond its simulation.
        again: A draft to lay out once more, instead of a search.
        is_anew: Whether the search starts from nothing, for the least memory.
        too_much_bytes: The least that a simulation was given for a program that did not
            fit, if there is one.
    """

    limits: Limits
    lessons: Mapping[int, Lessons]
    number: int = 1
    failures: int = 0
    needed_bytes: int = 0
    again: Found | None = None
    is_anew: bool = False
    too_much_bytes: int | None = None

    @classmethod
    def first(cls, task: Task) -> "Attempt":
        """Return the attempt that a task begins with."""
        known = task.correction_bytes
        return cls(limits=_less(task.limits, known), lessons={}, needed_bytes=known)

    def after(self, tried: Tried, best: Refined, task: Task) -> "Attempt | None":
        """Return the next attempt, or `None` if nothing is left to try.

        Args:
            tried: The result of this attempt.
            best: The best result so far.
            task: What the loop is to find.
        """
        if tried.fits and tried.is_hidden and tried.is_as_predicted:
            return None
        is_for_speed = task.limits.aim is Aim.FASTEST
        is_hopeless = is_for_speed and not (tried.fits or tried.found.fits)
        if self.number >= task.most_compiles or (is_hopeless and self.is_anew):
            return None
        failures = self.failures + (not tried.fits)
        made = tried.refined
        following = dataclasses.replace(
            self,
            number=self.number + 1,
            failures=failures,
            needed_bytes=made.correction_bytes,
            again=None,
            is_anew=False,
        )
        is_last = following.number == task.most_compiles and not best.fits
        if is_hopeless or (is_last and is_for_speed):
            # When simulated, a policy's draft may be the smallest.
            return following._for_the_least(task, tried)
        if is_last:
            limits = Limits.smallest(task.limits.host_bytes, is_own=False)
            return dataclasses.replace(following, limits=limits)
        if tried.fits:
            limits = _less(task.limits, made.lasting_bytes)
        else:
            limits = _less(task.limits, self._spent(made, task))
            given = self.limits.device_bytes
            too_much = given if self.too_much_bytes is None else self.too_much_bytes
            following = dataclasses.replace(
                following, too_much_bytes=min(given, too_much)
            )
        following = dataclasses.replace(following, limits=limits)
        return following._taught(tried)

    def widened(self, task: Task) -> "Attempt | None":
        """Return this attempt with half of the way to what was too much.

        The search may find nothing new because plans are few and far between.
        """
        if self.too_much_bytes is None or self.limits.aim is not Aim.FASTEST:
            return None
        left = self.too_much_bytes - self.limits.device_bytes
        if left < ENOUGH * task.limits.device_bytes:
            return None
        return dataclasses.replace(self, limits=_less(self.limits, -left // 2))

    def _for_the_least(self, task: Task, tried: Tried) -> "Attempt":
        """Return this attempt for the least memory, with nothing left from before."""
        taught = self._taught(tried).lessons
        lessons = {
            program: dataclasses.replace(known, grounded=frozenset())
            for program, known in taught.items()
        }
        limits = Limits.smallest(task.limits.host_bytes)
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
            again = None if exposed & known.grounded else found
        lessons = {**self.lessons, found.program: known}
        return dataclasses.replace(self, lessons=lessons, again=again)

    def _spent(self, made: Refined, task: Task) -> int:
        """Return how far to stay below the limit after a program did not fit.

        XLA may leave gaps between buffers. They vary from plan to plan, so they are
        subtracted from the limit only after a second failure. Steps grow, since a plan
        that needs a little less may compile to as many bytes.
        """
        assert made.compiled is not None
        limit_bytes = task.limits.device_bytes
        expected = made.correction_bytes if self.failures else made.lasting_bytes
        is_room = self.limits.device_bytes > 0
        spent = limit_bytes - self.limits.device_bytes if is_room else expected
        missing = max(0, made.compiled.device_bytes - limit_bytes) << self.failures
        margin = MARGIN * 4**self.failures
        return max(expected, spent) + min(int(margin * limit_bytes), missing)


def refine(
    search: Programs, compile_: Compile | None, task: Task, progress: Progress
) -> Refined:
    """Find the fastest draft whose compiled program fits.

    Args:
        search: Finds drafts.
        compile_: Compiles a draft. `None`: the simulation is trusted.
        task: What the loop is to find.
        progress: Is told what happens, one line at a time.
    """
    plain = search.plain
    best = _refined(search, compile_, _with_one_left_for(plain, task), progress)
    predicted = plain.timeline.device_bytes
    count = 1 + (best.compiled.compile_count if best.compiled else 0)
    if count > task.most_compiles or not _is_worth_trying(plain, best):
        return best
    found = Found(plain, best.bound_seconds, predicted <= task.limits.device_bytes)
    if compile_ is None:
        return min((_believed(found, task), best), key=_rank_within(task.limits))
    progress("compiling the function as JAX runs it")
    tried = _tried(found, compile_, predicted, count, task, progress)
    return min((tried.refined, best), key=_rank_within(task.limits))


def _tried(
    found: Found,
    compile_: Compile,
    predicted: int,
    count: int,
    task: Task,
    progress: Progress,
) -> Tried:
    """Compile a draft, as the program of that number."""
    measured = compile_(found.draft)
    progress(f"compiled: {format_bytes(measured.device_bytes)}")
    compiled = compiled_of(measured, predicted, count)
    return Tried(found, compiled, is_within(measured, task.limits))


def _with_one_left_for(plain: Draft, task: Task) -> Task:
    """Leave a compilation for the function as JAX runs it, if it is likely to fit."""
    is_near = plain.timeline.device_bytes <= PLAIN * task.limits.device_bytes
    left = task.most_compiles - is_near
    return dataclasses.replace(task, most_compiles=max(1, left))


def _is_worth_trying(plain: Draft, best: Refined) -> bool:
    """Whether the function as JAX runs it may be better than the best program."""
    if plain.graph is best.draft.graph:
        is_known = best.fits or plain.actions == best.draft.actions
    else:
        is_known = best.fits and plain.timeline.seconds >= best.draft.timeline.seconds
    return not is_known and plain.timeline.device_bytes <= PLAIN * best.device_bytes


def _refined(
    search: Programs, compile_: Compile | None, task: Task, progress: Progress
) -> Refined:
    """Search, compile and learn until nothing is left to try."""
    best: Refined | None = None
    last: Draft | None = None
    attempt: Attempt | None = Attempt.first(task)
    while attempt is not None:
        found = _find(search, attempt, task, progress)
        draft = found.draft
        known = attempt.needed_bytes * (1 if last is None else likeness(last, draft))
        predicted = draft.timeline.device_bytes + int(known)
        if compile_ is None:
            return _believed(found, task)
        if best is not None and draft is best.draft:
            attempt = None if attempt.is_anew else attempt.widened(task)
            continue
        if best is not None and attempt.is_anew and _is_as_small(last, draft):
            break
        progress(f"compiling a plan of {format_bytes(predicted)} predicted")
        tried = _tried(found, compile_, predicted, attempt.number, task, progress)
        last = draft
        best = min(
            (tried.refined, best or tried.refined), key=_rank_within(task.limits)
        )
        attempt = attempt.after(tried, best, task)
    assert best is not None
    return best


def _find(search: Programs, attempt: Attempt, task: Task, progress: Progress) -> Found:
    """Search, or lay the last draft out once more."""
    limits = attempt.limits
    is_for_speed = limits.aim is Aim.FASTEST
    what = format_bytes(max(0, limits.device_bytes)) if is_for_speed else "the least"
    progress(f"planning for {what}")
    if attempt.is_anew:
        search.forget()
    if attempt.again is not None:
        return search.lay_out_again(attempt.again, limits, attempt.lessons)
    found = search.find(limits, attempt.lessons, task.search_seconds)
    if search.is_cut_short:
        progress("the search was stopped by the clock: elsewhere it may find more")
    return found


def _believed(found: Found, task: Task) -> Refined:
    """Return the result of the loop without a compiler."""
    known = task.correction_bytes
    return Refined(found.draft, found.bound_seconds, known, known, None, found.fits)


def _less(limits: Limits, nbytes: int) -> Limits:
    """Subtract bytes from a limit of device memory."""
    if limits.aim is not Aim.FASTEST:
        return limits
    return dataclasses.replace(limits, device_bytes=limits.device_bytes - nbytes)


def is_within(measured: Measured, limits: Limits) -> bool:
    """Whether a program stays within limits."""
    is_on_device = measured.device_bytes <= limits.device_bytes
    return is_on_device and not limits.is_over_on_host(measured.host_bytes)


def _is_as_small(one: Draft | None, other: Draft) -> bool:
    return one is not None and (
        one.timeline.device_bytes == other.timeline.device_bytes
    )


def _rank_within(limits: Limits) -> Callable[[Refined], tuple[Any, ...]]:
    """Prefer the one that fits, then the one that hides copies, then the faster one.

    Of those that do not fit prefer the smallest. No device memory pays for host memory.
    """

    def rank(refined: Refined) -> tuple[Any, ...]:
        draft, fits = refined.draft, refined.fits
        found, compiled = Found(draft, refined.bound_seconds, fits), refined.compiled
        is_hidden = compiled is None or Tried(found, compiled, fits).is_hidden
        is_over = limits.is_over_on_host(refined.host_bytes)
        size = (False, 0) if fits else (is_over, refined.device_bytes)
        return (not fits, *size, not is_hidden, draft.timeline.seconds)

    return rank
