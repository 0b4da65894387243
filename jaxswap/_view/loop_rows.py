"""`Plan` -> the actions of the values of loops, in each iteration."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Action, Graph, Loop, Segment
from jaxswap._plans.plan import Plan
from jaxswap._schedule.issue import schedule_body


@dataclasses.dataclass(frozen=True)
class LoopRow:
    """Some values of a loop's body that are of one kind.

    Attributes:
        loop: Position in `Plan.loops`.
        trip_count: Iterations of the loop.
        first: The first iteration that this is said of, counted from one.
        last: The last one.
        block: How many iterations are recomputed together. 1: each by itself.
        label: The operation that makes the values.
        action: Their action.
        count: How many there are in each iteration. Of blocks: in each block.
        nbytes: Bytes of all of them in one iteration, or in one block.
    """

    loop: int
    trip_count: int
    first: int
    last: int
    block: int
    label: str
    action: Action
    count: int
    nbytes: int


def loop_rows_of(plan: Plan) -> tuple[LoopRow, ...]:
    """List what each loop stores, where, and which heavy operations it recomputes."""
    return tuple(
        row
        for at, loop in enumerate(plan.loops)
        for segment, first in _placed(loop)
        for row in _rows_of(at, loop, segment, first)
    )


def loop_lines(plan: Plan) -> Iterator[str]:
    """Write the rows as text, under a heading for each segment of a loop."""
    place: dict[int, str] = {}
    for at, loop in enumerate(plan.loops):
        for block in loop.blocks:
            place[id(block)] = f", which are a block of loop {at + 1}"
        for inner in loop.graph.loops:
            place[id(inner)] = f", in each iteration of loop {at + 1}"
    for at, loop in enumerate(plan.loops):
        for segment, first in _placed(loop):
            yield ""
            heading = _heading(at, loop, segment, first)
            yield f"  {heading}{place.get(id(loop), '')}"
            rows = list(_rows_of(at, loop, segment, first))
            if not rows:
                yield "    nothing is stored for the backward pass"
            for row in rows:
                size = format_bytes(row.nbytes)
                size = f"{row.count} in {size}" if row.count > 1 else size
                yield f"  {size:>13}  {row.action.value:<9}  {row.label}"


def loop_data(row: LoopRow) -> dict[str, Any]:
    """Return a row as plain data, ready for JSON."""
    return {**dataclasses.asdict(row), "action": row.action.value}


def _placed(loop: Loop) -> Iterator[tuple[Segment, int]]:
    """Go over the segments of a loop, each with its first iteration, from one on."""
    first = 1
    for segment in loop.segments:
        yield segment, first
        first += segment.count


def _heading(at: int, loop: Loop, segment: Segment, first: int) -> str:
    """Say which iterations some rows are about."""
    where = f"of loop {at + 1}"
    if segment.block > 1:
        blocks = f"{segment.count // segment.block} blocks of {segment.block}"
        until = f"{first} to {first + segment.count - 1}"
        return f"before each of {blocks} iterations, {until} {where}"
    if segment.count == loop.graph.trip_count:
        return f"in each of {segment.count} iterations {where}"
    if segment.count == 1:
        return f"in iteration {first} {where}"
    return f"in each of iterations {first} to {first + segment.count - 1} {where}"


def _rows_of(at: int, loop: Loop, segment: Segment, first: int) -> Iterator[LoopRow]:
    graph = loop.graph
    rows = _of_iterations if segment.block == 1 else _of_blocks
    found: collections.Counter[tuple[str, Action]] = collections.Counter()
    nbytes: collections.Counter[tuple[str, Action]] = collections.Counter()
    for v, action in rows(graph, segment):
        value = graph.values[v]
        found[value.label, action] += 1
        nbytes[value.label, action] += value.nbytes
    last = first + segment.count - 1
    for key, count in found.items():
        place = (at, graph.trip_count, first, last, segment.block)
        yield LoopRow(*place, *key, count, nbytes[key])


def swapped_in(graph: Graph, segment: Segment) -> tuple[int, ...]:
    """Return the values of a body that a segment of its loop swaps."""
    rows = _of_iterations if segment.block == 1 else _of_blocks
    return tuple(v for v, action in rows(graph, segment) if action is Action.OFFLOAD)


def _of_blocks(graph: Graph, segment: Segment) -> Iterator[tuple[int, Action]]:
    """Go over the carry: of a block nothing else is stored."""
    for v in graph.carried:
        is_swapped = segment.actions[v] is Action.OFFLOAD
        if graph.values[v].nbytes:
            yield v, Action.OFFLOAD if is_swapped else Action.KEEP


def _of_iterations(graph: Graph, segment: Segment) -> Iterator[tuple[int, Action]]:
    """Go over what each iteration stores, and what heavy results it recomputes."""
    schedule, swapped = schedule_body(graph, segment.actions)
    given = {*graph.arguments} - {*graph.carried}
    stored = {v for v in schedule.device_residuals if v not in given}
    recomputations = {
        v
        for step in schedule.backward
        if getattr(step, "is_recomputed", False)
        for eqn in (graph.equations[step.equation],)  # type: ignore[union-attr]
        if eqn.is_heavy
        for v in eqn.outputs
    }
    for value in graph.values:
        if value.index in swapped:
            yield value.index, Action.OFFLOAD
        elif value.index in stored and value.nbytes:
            yield value.index, Action.KEEP
        elif value.index in recomputations:
            yield value.index, Action.RECOMPUTE
