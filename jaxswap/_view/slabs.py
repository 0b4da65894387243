"""What a plan computes slab by slab."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Graph
from jaxswap._plans.plan import Plan


def slab_lines(plan: Plan) -> Iterator[str]:
    """Say how values are cut into slabs, and what the sweeps make."""
    slabs = plan.slabs
    if slabs is None:
        return
    axis = "the longest axis" if slabs.axis is None else f"dimension {slabs.axis}"
    levels = "the finest level" if slabs.levels == 1 else f"{slabs.levels} levels"
    again = f", {slabs.recomputed} results recomputed" if slabs.recomputed else ""
    yield f"up to {slabs.count} along {axis}, on {levels}{again}"
    sweeps = sweeps_of(plan.graph)
    made = [plan.graph.values[v] for outputs in sweeps.values() for v in outputs]
    nbytes = sum(value.nbytes for value in made)
    yield f"{len(sweeps)} sweeps over all slabs write {format_bytes(nbytes)}"


def sweeps_of(graph: Graph) -> dict[int, tuple[int, ...]]:
    """Return the values that each sweep makes, by the index of its equation."""
    return {
        eqn.index: eqn.outputs
        for eqn in graph.equations
        if eqn.primitive == "jit"
        and re.match(r"sweep\d+(/|$)", graph.values[eqn.outputs[0]].scope)
    }


def slab_data(plan: Plan) -> dict[str, Any] | None:
    """Return how values are cut into slabs as plain data; `None` if they are not."""
    if plan.slabs is None:
        return None
    sweeps = [
        {"makes": [plan.graph.values[v].label for v in outputs]}
        for outputs in sweeps_of(plan.graph).values()
    ]
    return {**dataclasses.asdict(plan.slabs), "sweeps": sweeps}
