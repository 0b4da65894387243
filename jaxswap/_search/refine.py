"""Search and compiler in a loop: plan, compile, compare, correct, plan again.

The simulation knows neither what a compiler adds (layout copies, gaps between
buffers) nor where its scheduler moves a copy. So the plan is compiled, and what the
compiled program needs beyond the simulation is taken off the limit of the next
search. Gaps that it left between arrays are taken off after the second failure only:
another plan has others. A copy that the compiler started too late to hide is asked for
earlier; if that does not help, its value stays on the device. Where nothing fits, the
last program that may be compiled is the smallest.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Graph
from jaxswap._plans.plan import Compiled
from jaxswap._search.loops import Finder
from jaxswap._simulate.draft import Draft

ENOUGH = 0.03
"""A prediction that was off by less than this share needs no correction."""
EXPOSED = 0.05
"""Share of the swapped bytes that may be exposed."""
MARGIN = 1 / 256
"""Share of the budget that a corrected plan leaves free, if so much was missing; four
times as much after each failure."""


class Seen(Protocol):
    """What is read from a compiled program; see `jaxswap.Evidence`."""

    @property
    def device_bytes(self) -> int:
        """As `jaxswap.Evidence` has it."""
        ...

    @property
    def temp_bytes(self) -> int:
        """As `jaxswap.Evidence` has it."""
        ...

    @property
    def fragmented_bytes(self) -> int:
        """As `jaxswap.Evidence` has it."""
        ...

    @property
    def host_bytes(self) -> int:
        """As `jaxswap.Evidence` has it."""
        ...

    @property
    def swapped_bytes(self) -> int:
        """As `jaxswap.Evidence` has it."""
        ...

    @property
    def exposed_bytes(self) -> int:
        """As `jaxswap.Evidence` has it."""
        ...

    @property
    def exposed_copies(self) -> Any:
        """As `jaxswap.Evidence` has it."""
        ...


Compile = Callable[[Draft], Seen]
Progress = Callable[[str], None]


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


def refine(
    search: Finder,
    limit_bytes: int,
    host_limit_bytes: int | None,
    compile_: Compile | None,
    most_compiles: int,
    search_seconds: float,
    progress: Progress,
    correction_bytes: int = 0,
) -> Refined:
    """Find the fastest draft whose compiled program fits.

    Args:
        search: Finds drafts.
        limit_bytes: Device memory that the program may use.
        host_limit_bytes: Pinned host memory; `None`: any amount.
        compile_: Compiles a draft; `None`: the simulation is believed.
        most_compiles: Programs to compile at most.
        search_seconds: Time for each search.
        progress: Told what is going on, a line at a time.
        correction_bytes: What programs are known to need beyond the simulation.
    """
    best: Refined | None = None
    again: Draft | None = None
    last: Draft | None = None
    needed = correction = correction_bytes
    margin, is_least = MARGIN, False
    for count in range(1, max(1, most_compiles) + 1):
        is_last = count == most_compiles and best is not None and not best.fits
        is_least = is_least or (is_last and limit_bytes > 0)
        if is_least:
            search.forget()
        # Below one byte policies' drafts take part, below none they do not.
        room = 0 if is_least else 1 if is_last else limit_bytes - correction
        progress(f"planning for {format_bytes(max(0, room))}")
        found = search.find(room, host_limit_bytes, search_seconds, again)
        known = needed * (1 if last is None else likeness(last, found.draft))
        predicted = found.draft.timeline.device_bytes + int(known)
        if compile_ is None:
            bound, fits = found.bound_seconds, found.fits
            return Refined(found.draft, bound, correction, correction, None, fits)
        is_known = best is not None and found.draft is best.draft
        if is_known or (is_least and _is_as_small(last, found.draft)):
            break
        progress(f"compiling a plan of {format_bytes(predicted)} predicted")
        seen = compile_(found.draft)
        progress(f"compiled: {format_bytes(seen.device_bytes)}")
        last, compiled = found.draft, compiled_of(seen, predicted, count)
        fits = _is_within(seen, limit_bytes, host_limit_bytes)
        made = refined_of(last, found.bound_seconds, seen, compiled, fits=fits)
        needed, correction = made.correction_bytes, made.lasting_bytes
        best = made if best is None else _better(best, made)
        again, is_hidden = None, _is_hidden(seen, found.draft)
        if fits and is_hidden and _is_near(seen.device_bytes, predicted):
            break
        if limit_bytes > 0 and not (fits or found.fits):
            if is_least:
                break
            is_least = True  # A policy's draft may be the smallest when simulated.
            continue
        is_least = False
        if fits and not is_hidden and _ask_earlier(search, found.draft, seen):
            again = found.draft
        if not fits:
            correction = _after_failure(made, limit_bytes, room, margin)
            margin *= 4
            search.refused |= {found.draft.actions}
    assert best is not None
    return best


def refined_of(
    draft: Draft, bound_seconds: float, seen: Seen, compiled: Compiled, *, fits: bool
) -> Refined:
    """Note what a draft's program needs beyond the simulation."""
    needed = seen.device_bytes - draft.timeline.device_bytes
    lasting = needed - seen.fragmented_bytes
    return Refined(draft, bound_seconds, needed, lasting, compiled, fits)


def _after_failure(made: Refined, limit_bytes: int, room: int, margin: float) -> int:
    """Bytes to stay below the limit after a program did not fit in some room.

    Gaps between its arrays count from the second time on: another plan has others.
    """
    assert made.compiled is not None
    expected = made.lasting_bytes if margin == MARGIN else made.correction_bytes
    spent = limit_bytes - room if room > 0 else expected
    missing = max(0, made.compiled.device_bytes - limit_bytes)
    return max(expected, spent) + min(int(margin * limit_bytes), missing)


def _is_as_small(one: Draft | None, other: Draft) -> bool:
    return one is not None and (
        one.timeline.device_bytes == other.timeline.device_bytes
    )


def _ask_earlier(search: Finder, draft: Draft, seen: Seen) -> bool:
    """Have exposed copies made earlier; whether that is enough.

    Values of which that was asked before stay on the device from now on.
    """
    exposed = _exposed(draft.graph, seen)
    search.grounded |= exposed & search.eager
    search.eager |= exposed
    return not exposed & search.grounded


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


def compiled_of(seen: Seen, predicted: int, count: int) -> Compiled:
    """Note what a compiled program needs beside what was predicted for it."""
    return Compiled(
        predicted_device_bytes=predicted,
        device_bytes=seen.device_bytes,
        temp_bytes=seen.temp_bytes,
        host_bytes=seen.host_bytes,
        swapped_bytes=seen.swapped_bytes,
        exposed_bytes=seen.exposed_bytes,
        compile_count=count,
    )


def _better(old: Refined, new: Refined) -> Refined:
    """The one that fits, then the one that hides its copies, then the faster one."""
    assert old.compiled is not None
    assert new.compiled is not None

    def rank(refined: Refined, compiled: Compiled) -> tuple[Any, ...]:
        is_hidden = _is_hidden(compiled, refined.draft)
        size = 0 if refined.fits else compiled.device_bytes
        return (not refined.fits, size, not is_hidden, refined.draft.timeline.seconds)

    return min(
        (new, old),
        key=lambda r: rank(r, r.compiled),  # type: ignore[arg-type]
    )


def _is_near(device_bytes: int, predicted_bytes: int) -> bool:
    return abs(device_bytes - predicted_bytes) <= ENOUGH * predicted_bytes


def _is_within(seen: Seen, limit_bytes: int, host_limit_bytes: int | None) -> bool:
    is_on_host = host_limit_bytes is None or seen.host_bytes <= host_limit_bytes
    return seen.device_bytes <= limit_bytes and is_on_host


def _is_hidden(seen: Seen | Compiled, draft: Draft) -> bool:
    """Whether copies are hidden, or a draft is meant to wait for some of them."""
    timeline = draft.timeline
    is_waiting = timeline.stall_seconds > EXPOSED * timeline.seconds
    return is_waiting or seen.exposed_bytes <= EXPOSED * seen.swapped_bytes


def _exposed(graph: Graph, seen: Seen) -> frozenset[int]:
    """Values whose copies back to the device overlap nothing."""
    labels = {c.label for c in seen.exposed_copies if c.direction == "to_device"}
    return frozenset(
        v.index
        for v in graph.values
        if v.label.replace("/", ".").replace(" ", ":") in labels
    )
