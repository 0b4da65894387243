"""Search and compiler in a loop: plan, compile, compare, correct, plan again.

The simulation does not know what a compiler adds (copies of layout), nor where its
scheduler moves a copy. It expects gaps between buffers, and may be wrong. So each plan
is compiled. What the compiled program needs beyond the simulation is subtracted from
the limit of the next search. A copy that the compiler starts too late to hide is
requested earlier. If that does not help, its value stays on the device. If nothing
fits, the last compilation is that of the smallest plan, or of the function as JAX runs
it: XLA may need less memory for it than is simulated.

The rules are in `attempt`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxswap._base.units import format_bytes
from jaxswap._search.attempt import LATER, Attempt, Refined, Task, Tried
from jaxswap._search.lessons import likeness
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Measured
from jaxswap._search.search import Found
from jaxswap._simulate.draft import Draft

FEW_GAPS = 1.12
"""A plan with fewer gaps between buffers may take so many times as long. One whose
program does not fit is followed by slower ones."""
PLAIN = 1.25
"""The function as JAX runs it is compiled too, unless it is simulated to need so many
times the memory of the best program."""

Compile = Callable[[Draft], Measured]
Progress = Callable[[str], None]


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
        return min(
            (Refined.believed(found, task.correction_bytes), best),
            key=_rank_within(task.limits),
        )
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
    return Tried.of(found, measured, predicted, count, task)


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
        is_known = best.fits and plain.timeline.seconds >= best.seconds
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
        if best is None and compile_ is not None:
            attempt, found = _with_few_gaps(search, attempt, found, task)
        draft, limits = found.draft, attempt.limits
        known = attempt.needed_bytes * (1 if last is None else likeness(last, draft))
        predicted = limits.counted_bytes(draft) + int(known)
        if compile_ is None:
            believed = _or_smaller(search, found, attempt, task)
            return Refined.believed(believed, task.correction_bytes)
        if best is not None and draft is best.draft:
            attempt = None if attempt.is_anew else attempt.widened(task)
            continue
        if best is not None and attempt.is_anew and _is_as_small(last, draft, limits):
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


def _with_few_gaps(
    search: Programs, attempt: Attempt, found: Found, task: Task
) -> tuple[Attempt, Found]:
    """Count gaps between buffers as memory, where this does not cost much time.

    What XLA leaves free depends on details that no simulation knows. So a plan is not
    made much slower for gaps that are expected.
    """
    is_for_speed = attempt.limits.aim is Aim.FASTEST
    if not (is_for_speed and found.fits and found.draft.fragmented_bytes):
        return attempt, found
    careful = attempt.careful()
    seconds = LATER * attempt.search_seconds(task)
    other = search.find(careful.limits, careful.lessons, seconds)
    most_seconds = FEW_GAPS * found.draft.timeline.seconds
    if other.fits and other.draft.timeline.seconds <= most_seconds:
        return careful, other
    return attempt, found


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
    found = search.find(limits, attempt.lessons, attempt.search_seconds(task))
    if search.is_cut_short:
        progress("the search was stopped by the clock: elsewhere it may find more")
    return found


def _or_smaller(search: Programs, found: Found, attempt: Attempt, task: Task) -> Found:
    """Return a draft that fits, or else the smallest: a refusal names the least."""
    if found.fits or attempt.limits.aim is not Aim.FASTEST:
        return found
    limits = Limits.smallest(task.limits.host_bytes, is_own=False)
    least = search.find(limits, attempt.lessons, task.search_seconds / 2)
    taken = least.draft.timeline
    is_smaller = taken.device_bytes < found.draft.timeline.device_bytes
    if not is_smaller or limits.is_over_on_host(taken.host_bytes):
        return found
    fits = taken.device_bytes <= attempt.limits.device_bytes
    return dataclasses.replace(least, bound_seconds=found.bound_seconds, fits=fits)


def _is_as_small(one: Draft | None, other: Draft, limits: Limits) -> bool:
    counted_bytes = limits.counted_bytes
    return one is not None and counted_bytes(one) == counted_bytes(other)


def _rank_within(limits: Limits) -> Callable[[Refined], tuple[Any, ...]]:
    """Prefer the one that fits, then the faster one, with copies that nothing hides.

    Of those that do not fit prefer the smallest. No device memory pays for host memory.
    """

    def rank(refined: Refined) -> tuple[Any, ...]:
        is_over = limits.is_over_on_host(refined.host_bytes)
        size = (False, 0) if refined.fits else (is_over, refined.device_bytes)
        return (not refined.fits, *size, refined.seconds)

    return rank
