"""At the memory that a simpler method needs, no plan is slower than that method.

Simpler methods are the policies, JAX's own checkpoints of each block and of the whole
function, and plain JAX, which keeps everything. All are simulated, nothing is compiled.
"""

from collections.abc import Iterator
from typing import Any

import jax
import pytest

import jaxswap
from benchmarks.programs import TINY
from jaxswap import policies

OPTIONS: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}
QUICK = {"search_seconds": 0.2}
PROGRAMS = ("mlp", "transformer-scanned")
NAMES = (*policies.PUBLISHED, *policies.JAX_OWN)


def simpler(name: str) -> Iterator[tuple[str, jaxswap.Plan]]:
    """Plan a program by each simpler method."""
    loss, args = TINY[name]()
    for policy in NAMES:
        made = jaxswap.plan(loss, *args, policy=getattr(policies, policy)(), **OPTIONS)
        yield policy, made
    yield "plain", jaxswap.plan(loss, *args, policy=jaxswap.KEEP, **OPTIONS)
    whole = jax.checkpoint(loss)
    nothing = jax.checkpoint_policies.nothing_saveable
    blocks, args = TINY[name](policy=nothing)
    for label, function in (("whole", whole), ("blocks", blocks)):
        made = jaxswap.plan(function, *args, policy=jaxswap.KEEP, **OPTIONS)
        yield f"jax.checkpoint of {label}", made


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_plan_is_slower_than_a_simpler_method_at_its_memory(name: str) -> None:
    loss, args = TINY[name]()
    slower: dict[str, str] = {}
    for method, made in simpler(name):
        try:
            budget = {"budget": made.device_bytes, **QUICK}
            plan = jaxswap.plan(loss, *args, **budget, **OPTIONS)
        except jaxswap.BudgetError as error:
            slower[method] = f"{made.device_bytes} refused, not {error.smallest_bytes}"
            continue
        if plan.seconds > made.seconds * (1 + 1e-9):
            slower[method] = f"{plan.seconds / made.seconds:.4f} times as slow"
    assert not slower
