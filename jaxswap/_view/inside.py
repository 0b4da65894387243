"""What a plan does with the values in a user's `jax.checkpoint` and in branches."""

from collections.abc import Iterator

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Inside
from jaxswap._plans.plan import Plan

_TREATED = {
    Inside.OPEN: "those in jax.checkpoint are decided on like all others",
    Inside.OPEN_STORING_PRODUCTS: "branches store results of products, no other values",
    Inside.OPEN_STORING_NOTHING: "branches store nothing and recompute everything",
}


def inside_lines(plan: Plan) -> Iterator[str]:
    """Say how values inside of calls are treated, and which were not planned."""
    treated = _TREATED.get(plan.graph.inside)
    if treated:
        yield treated
    closed = unplanned(plan)
    if closed:
        most = format_bytes(max(closed.values()))
        yield (
            f"not planned: up to {most} inside of a jax.checkpoint in the backward "
            f"pass ({len(closed)} of them)"
        )


def unplanned(plan: Plan) -> dict[int, int]:
    """Return the bytes inside of each `jax.checkpoint` that stayed as it is.

    Returns:
        By the index of its equation: the most that it needs beside its operands and
        results, simulated.
    """
    simulator = plan.arranger.simulator
    return {
        eqn.index: simulator.inner_bytes(eqn.index)
        for eqn in plan.graph.equations
        if eqn.body is not None and not eqn.body.is_body
    }
