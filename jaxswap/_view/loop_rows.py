"""`Plan` -> the actions of the values of loops, in each iteration."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Action, Loop
from jaxswap._plans.plan import Plan
from jaxswap._schedule.issue import schedule_body


@dataclasses.dataclass(frozen=True)
class LoopRow:
    """Some values of a loop's body that are of one kind.

    Attributes:
        loop: Position in `Plan.loops`.
        trip_count: Iterations of the loop.
        label: The operation that makes the values.
        action: Their action.
        count: How many there are in each iteration.
        nbytes: Bytes of all of them in one iteration.
    """

    loop: int
    trip_count: int
    label: str
    action: Action
    count: int
    nbytes: int


def loop_rows_of(plan: Plan) -> tuple[LoopRow, ...]:
    """List what each loop stores, where, and which heavy operations it recomputes."""
    return tuple(
        row for at, loop in enumerate(plan.loops) for row in _rows_of_loop(at, loop)
    )


def loop_lines(plan: Plan) -> Iterator[str]:
    """Write the rows as text, under a heading for each loop."""
    rows = loop_rows_of(plan)
    for at, loop in enumerate(plan.loops):
        yield ""
        yield f"  in each of {loop.graph.trip_count} iterations of loop {at + 1}"
        of_loop = [row for row in rows if row.loop == at]
        if not of_loop:
            yield "    nothing is stored for the backward pass"
        for row in of_loop:
            size = format_bytes(row.nbytes)
            size = f"{row.count} in {size}" if row.count > 1 else size
            yield f"  {size:>13}  {row.action.value:<9}  {row.label}"


def loop_data(row: LoopRow) -> dict[str, Any]:
    """Return a row as plain data, ready for JSON."""
    return {**dataclasses.asdict(row), "action": row.action.value}


def _rows_of_loop(at: int, loop: Loop) -> Iterator[LoopRow]:
    graph = loop.graph
    schedule, swapped = schedule_body(graph, loop.actions)
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
    found: collections.Counter[tuple[str, Action]] = collections.Counter()
    nbytes: collections.Counter[tuple[str, Action]] = collections.Counter()
    for value in graph.values:
        if value.index in swapped:
            action = Action.OFFLOAD
        elif value.index in stored and value.nbytes:
            action = Action.KEEP
        elif value.index in recomputations:
            action = Action.RECOMPUTE
        else:
            continue
        found[value.label, action] += 1
        nbytes[value.label, action] += value.nbytes
    for key, count in found.items():
        yield LoopRow(at, graph.trip_count, *key, count, nbytes[key])
