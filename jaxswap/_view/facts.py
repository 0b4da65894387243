"""The numbers of a plan that its text and its JSON both show."""

import collections
from collections.abc import Sequence
from typing import Any

from jaxswap._graph.compress import copied_bytes, is_lossy
from jaxswap._graph.graph import Value
from jaxswap._plans.plan import Plan, Row
from jaxswap._simulate.kernels import Kernel, is_alias, is_fusible
from jaxswap._simulate.timeline import Timeline
from jaxswap._view.loop_rows import swapped_in
from jaxswap._view.rows import Outcome


def times(timeline: Timeline) -> dict[str, Any]:
    """Return the memory of a simulated step, and its seconds by what they are."""
    recompute = timeline.recompute_seconds
    return {
        "device_bytes": timeline.device_bytes,
        "host_bytes": timeline.host_bytes,
        "seconds": timeline.seconds,
        "compute_seconds": timeline.compute_seconds - recompute,
        "recompute_seconds": recompute,
        "stall_seconds": round(max(0.0, timeline.stall_seconds), 12),
    }


def copied(plan: Plan, is_inward: bool) -> dict[str, Any]:
    """Return number, bytes and seconds of the copies in one direction."""
    copies = [t for t in plan.timeline.transfers if t.is_inward == is_inward]
    values = plan.graph.values
    return {
        "count": len(copies),
        "bytes": sum(
            copied_bytes(values[t.value], plan.graph.compress) for t in copies
        ),
        "seconds": float(sum(t.seconds for t in copies)),
    }


def lossy_values(plan: Plan) -> list[Value]:
    """Return the values that are rounded as they leave, those in loops included."""
    graphs = [(plan.graph, {swap.value for swap in plan.swaps})]
    for loop in plan.loops:
        for segment in loop.segments:
            graphs.append((loop.graph, set(swapped_in(loop.graph, segment))))
    return [
        graph.values[v]
        for graph, swapped in graphs
        for v in sorted(swapped)
        if is_lossy(graph.values[v], plan.graph.compress)
    ]


def totals(
    rows: Sequence[Row], outcomes: dict[int, Outcome]
) -> dict[Outcome, tuple[int, int]]:
    """Return how many values have each outcome, and their bytes."""
    counts: collections.Counter[Outcome] = collections.Counter()
    nbytes: collections.Counter[Outcome] = collections.Counter()
    for row in rows:
        outcome = outcomes[row.value.index]
        counts[outcome] += 1
        nbytes[outcome] += row.value.nbytes
    return {outcome: (counts[outcome], nbytes[outcome]) for outcome in Outcome}


def guessed(plan: Plan) -> list[str]:
    """Return the primitives whose cost was guessed from their bytes."""
    return sorted({e.primitive for e in plan.graph.equations if not e.is_known})


def fused(plan: Plan) -> tuple[int, int]:
    """Return number and bytes of the large forward values that need no buffer."""
    stored = {*plan.timeline.steps.values, *plan.plain.steps.values}
    found = [
        plan.graph.values[v].nbytes
        for eqn in plan.graph.equations
        for v in eqn.outputs
        if not eqn.is_backward and is_fusible(eqn) and not is_alias(eqn)
        if v not in stored and plan.graph.values[v].nbytes >= plan.large_bytes
    ]
    return len(found), sum(found)


def written_in_place(plan: Plan) -> int:
    """Return how many results are written over operands that are not read again."""
    steps = plan.timeline.steps.steps
    return sum(isinstance(step, Kernel) and step.is_in_place for step in steps)


def in_pieces(plan: Plan) -> list[Value]:
    """Return the values that are stored in pieces."""
    made = {*plan.timeline.steps.values}
    return [
        plan.graph.values[eqn.outputs[0]]
        for eqn in plan.graph.equations
        if eqn.is_join and not made.isdisjoint(eqn.inputs)
    ]


def predicted_bytes(plan: Plan) -> int:
    """Return the device memory that was predicted before the plan was compiled."""
    if plan.compiled is not None:
        return plan.compiled.predicted_device_bytes
    return plan.timeline.device_bytes + plan.correction_bytes
