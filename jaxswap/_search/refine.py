"""Search and compiler in a loop: plan, compile, compare, correct, plan again.

The simulation knows neither what a compiler adds (layout copies, gaps between buffers)
nor where its scheduler moves a copy. So the plan is compiled, and what the compiled
program needs beyond the simulation is taken off the limit of the next search. A copy
that the compiler started too late to hide is asked for earlier; if that does not help,
its value stays on the device. Where nothing fits, the last program that may be compiled
is the smallest.

`Attempt.after` is the whole of it: from what one attempt came to, the next one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Graph
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Compiled, Measured
from jaxswap._search.search import Found
from jaxswap._simulate.draft import Draft

ENOUGH = 0.03
"""A prediction that was off by less than this share needs no correction."""
EXPOSED = 0.05
"""Share of the swapped bytes that may be exposed."""
MARGIN = 1 / 256
"""Share of the budget that a corrected plan leaves free, if so much was missing; four
times as much after each failure."""

Compile = Callable[[Draft], Measured]
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of the loop.

    Attributes:
        limits: What the compiled program may use.
        most_compiles: Programs to compile at most.
        search_seconds: Time for each search.
        correction_bytes: What programs are known to need beyond the simulation.
    """

    limits: Limits
    most_compiles: int
    search_seconds: float
    correction_bytes: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Refined:
    """What the loop came to.

    Attributes:
        draft: The fastest draft whose program fits, else the one with the smallest.
        bound_seconds: No draft is faster, as far as the model can tell.
        correction_bytes: What the program needs beyond the simulation.
        lasting_bytes: The same without the gaps between its arrays.
        compiled: What was read from the draft's program; `None` without a compiler.
        fits: Whether it fits.
    """

    draft: Draft
    bound_seconds: float
    correction_bytes: int
    lasting_bytes: int
    compiled: Compiled | None
    fits: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """A draft, and the program that it was compiled to.

    Attributes:
        found: What the search found.
        compiled: What was read from the program, beside what was predicted.
        fits: Whether the program stays within the limits.
    """

    found: Found
    compiled: Compiled
    fits: bool

    @property
    def is_hidden(self) -> bool:
        """Whether copies are hidden, or the draft is meant to wait for some of them."""
        timeline = self.found.draft.timeline
        is_waiting = timeline.stall_seconds > EXPOSED * timeline.seconds
        exposed_bytes = self.compiled.exposed_bytes
        return is_waiting or exposed_bytes <= EXPOSED * self.compiled.swapped_bytes

    @property
    def is_as_predicted(self) -> bool:
        """Whether the program needs about what was predicted for it."""
        predicted = self.compiled.predicted_device_bytes
        return abs(self.compiled.device_bytes - predicted) <= ENOUGH * predicted

    @property
    def refined(self) -> Refined:
        """What the draft's program needs beyond the simulation."""
        draft, compiled = self.found.draft, self.compiled
        needed = compiled.device_bytes - draft.timeline.device_bytes
        lasting = needed - compiled.fragmented_bytes
        bound = self.found.bound_seconds
        return Refined(draft, bound, needed, lasting, compiled, self.fits)


@dataclasses.dataclass(frozen=True, eq=False)
class Attempt:
    """What is searched for before the next program is compiled.

    Attributes:
        limits: What the simulation may use.
        lessons: What is known of each program.
        number: Of the program that is compiled next, from one on.
        failures: Programs that did not fit so far.
        needed_bytes: What the last program needed beyond its simulation.
        again: A draft to lay out once more instead of a search.
        is_anew: Whether the search begins anew, for the least that can be had.
    """

    limits: Limits
    lessons: Mapping[int, Lessons]
    number: int = 1
    failures: int = 0
    needed_bytes: int = 0
    again: Found | None = None
    is_anew: bool = False

    @classmethod
    def first(cls, task: Task) -> "Attempt":
        """Return the attempt that a task begins with."""
        known = task.correction_bytes
        return cls(limits=_less(task.limits, known), lessons={}, needed_bytes=known)

    def after(self, tried: Tried, best: Refined, task: Task) -> "Attempt | None":
        """Return the next attempt; `None` if there is nothing left to try.

        Args:
            tried: What this attempt came to.
            best: The best so far.
            task: What is asked for.
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
            # A policy's draft may be the smallest when simulated alone.
            return following._for_the_least(task, tried)
        if is_last:
            limits = Limits.smallest(task.limits.host_bytes, is_own=False)
            return dataclasses.replace(following, limits=limits)
        if tried.fits:
            limits = _less(task.limits, made.lasting_bytes)
        else:
            limits = _less(task.limits, self._spent(made, task))
        following = dataclasses.replace(following, limits=limits)
        return following._taught(tried)

    def _for_the_least(self, task: Task, tried: Tried) -> "Attempt":
        """The same, for the least memory that can be had, nothing kept from before."""
        taught = self._taught(tried).lessons
        lessons = {
            program: dataclasses.replace(known, grounded=frozenset())
            for program, known in taught.items()
        }
        limits = Limits.smallest(task.limits.host_bytes)
        return dataclasses.replace(self, limits=limits, lessons=lessons, is_anew=True)

    def _taught(self, tried: Tried) -> "Attempt":
        """The same, with what a program taught."""
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
        """Bytes to stay below the limit after a program did not fit.

        XLA may leave gaps between arrays. They vary from plan to plan, so they are
        taken off the limit only after a second failure.
        """
        assert made.compiled is not None
        limit_bytes = task.limits.device_bytes
        expected = made.correction_bytes if self.failures else made.lasting_bytes
        is_room = self.limits.device_bytes > 0
        spent = limit_bytes - self.limits.device_bytes if is_room else expected
        missing = max(0, made.compiled.device_bytes - limit_bytes)
        margin = MARGIN * 4**self.failures
        return max(expected, spent) + min(int(margin * limit_bytes), missing)


def refine(
    search: Programs, compile_: Compile | None, task: Task, progress: Progress
) -> Refined:
    """Find the fastest draft whose compiled program fits.

    Args:
        search: Finds drafts.
        compile_: Compiles a draft; `None`: the simulation is believed.
        task: What is asked for.
        progress: Told what is going on, a line at a time.
    """
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
        if best is not None and (
            draft is best.draft or (attempt.is_anew and _is_as_small(last, draft))
        ):
            break
        progress(f"compiling a plan of {format_bytes(predicted)} predicted")
        measured = compile_(draft)
        progress(f"compiled: {format_bytes(measured.device_bytes)}")
        compiled = compiled_of(measured, predicted, attempt.number)
        tried = Tried(found, compiled, is_within(measured, task.limits))
        last = draft
        best = tried.refined if best is None else _better(best, tried.refined)
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
    return search.find(limits, attempt.lessons, task.search_seconds)


def _believed(found: Found, task: Task) -> Refined:
    """What the loop comes to without a compiler."""
    known = task.correction_bytes
    return Refined(found.draft, found.bound_seconds, known, known, None, found.fits)


def _less(limits: Limits, nbytes: int) -> Limits:
    """Take bytes off a limit of device memory."""
    if limits.aim is not Aim.FASTEST:
        return limits
    return dataclasses.replace(limits, device_bytes=limits.device_bytes - nbytes)


def is_within(measured: Measured, limits: Limits) -> bool:
    """Whether a program stays within limits."""
    is_on_host = limits.host_bytes is None or measured.host_bytes <= limits.host_bytes
    return measured.device_bytes <= limits.device_bytes and is_on_host


def likeness(one: Draft, other: Draft) -> float:
    """Share of the large values, by bytes, with which two drafts do the same.

    What a compiled program needs beyond the simulation is expected of another program
    to this extent.
    """
    if one.graph is not other.graph:
        return 0.0
    sizes = [v.nbytes for v in one.graph.values]
    large = [v for v, n in enumerate(sizes) if n >= one.staleness[1]]
    same = [v for v in large if one.actions[v] is other.actions[v]]
    return sum(sizes[v] for v in same) / max(1, sum(sizes[v] for v in large))


def compiled_of(measured: Measured, predicted_bytes: int, count: int) -> Compiled:
    """Note what a compiled program needs beside what was predicted for it."""
    return Compiled(
        **dataclasses.asdict(measured),
        predicted_device_bytes=predicted_bytes,
        compile_count=count,
    )


def exposed_values(graph: Graph, measured: Measured) -> frozenset[int]:
    """Values whose copies back to the device overlap nothing."""
    labels = set(measured.exposed_returns)
    return frozenset(v.index for v in graph.values if v.scope_label in labels)


def _is_as_small(one: Draft | None, other: Draft) -> bool:
    return one is not None and (
        one.timeline.device_bytes == other.timeline.device_bytes
    )


def _better(old: Refined, new: Refined) -> Refined:
    """The one that fits, then the one that hides its copies, then the faster one."""

    def rank(refined: Refined) -> tuple[Any, ...]:
        compiled = refined.compiled
        assert compiled is not None
        found = Found(refined.draft, refined.bound_seconds, refined.fits)
        is_hidden = Tried(found, compiled, refined.fits).is_hidden
        size = 0 if refined.fits else compiled.device_bytes
        return (not refined.fits, size, not is_hidden, refined.draft.timeline.seconds)

    return min((new, old), key=rank)
