"""A plan as data for `json.dumps`."""

import dataclasses
from typing import Any

from jaxswap._gpu.target import rates_of
from jaxswap._plans.plan import Plan, Row
from jaxswap._search.measured import Compiled
from jaxswap._view.basis import measured_seconds
from jaxswap._view.facts import (
    copied,
    fused,
    guessed,
    in_pieces,
    lossy_values,
    predicted_bytes,
    times,
    totals,
    written_in_place,
)
from jaxswap._view.loop_rows import loop_data, loop_rows_of
from jaxswap._view.rows import Outcome, outcomes_of
from jaxswap._view.sweep_rows import slab_data


def summary(plan: Plan) -> dict[str, Any]:
    """Write a plan as data for `json.dumps`.

    Args:
        plan: The plan.

    Returns:
        The numbers and rows of `describe`. Keys name the unit. `"simulated"`,
        `"plain"` and `"compiled"` hold what was found in that way. `"plain"` is the
        simulated step in which everything is kept.
    """
    rows, outcomes = plan.rows, outcomes_of(plan)
    rates = rates_of(plan.target)
    return {
        "target": plan.target.name,
        "rates_are_measured": rates.is_measured,
        "rates_source": rates.source,
        "compiler_options": dict(plan.compiler_options),
        "measured_seconds": measured_seconds(plan),
        "call_seconds": rates.call_seconds,
        "policy": plan.policy,
        "program": plan.signature.program,
        "arguments": list(plan.signature.arguments),
        "budget_bytes": plan.budget_bytes,
        "reserve_bytes": plan.reserve_bytes,
        "host_budget_bytes": plan.host_budget_bytes,
        "compress": plan.graph.compress,
        "lossy": [value.label for value in lossy_values(plan)],
        "large_bytes": plan.large_bytes,
        "predicted_device_bytes": predicted_bytes(plan),
        "simulated": {
            **times(plan.timeline),
            "bound_seconds": plan.bound_seconds,
            "gap_share": plan.gap,
            "out": copied(plan, is_inward=False),
            "in": copied(plan, is_inward=True),
        },
        "plain": times(plan.plain),
        "compiled": None if plan.compiled is None else _compiled(plan.compiled),
        "guessed_primitives": guessed(plan),
        "written_in_place": {"count": written_in_place(plan)},
        "in_pieces": [value.index for value in in_pieces(plan)],
        "fused": dict(zip(("count", "bytes"), fused(plan), strict=True)),
        "outcomes": {
            outcome.value: {"count": count, "bytes": nbytes}
            for outcome, (count, nbytes) in totals(rows, outcomes).items()
        },
        "rows": [_row_data(row, outcomes[row.value.index]) for row in rows],
        "slabs": slab_data(plan),
        "loops": [loop_data(row) for row in loop_rows_of(plan)],
    }


def _compiled(compiled: Compiled) -> dict[str, Any]:
    fields = dataclasses.asdict(compiled)
    return {**fields, "exposed_returns": list(compiled.exposed_returns)}


def _row_data(row: Row, outcome: Outcome) -> dict[str, Any]:
    value = row.value
    return {
        "value": value.index,
        "name": value.name,
        "scope": value.scope,
        "primitive": value.primitive,
        "source": value.source,
        "dtype": str(value.dtype) if value.dtype is not None else None,
        "shape": list(value.shape),
        "bytes": value.nbytes,
        "action": row.action.value,
        "outcome": outcome.value,
        "seconds": row.seconds,
        "stall_seconds": row.stall_seconds,
        "why": row.why,
    }
