"""At the memory that a simpler method needs, no plan is slower than that method.

Simpler methods are the policies, JAX's own checkpoints of each block and of the whole
function, and plain JAX, which keeps everything. All are simulated, nothing is compiled.
One search serves all budgets of a program, the smallest first: what it has found for
one budget must not hide what is better for the next.
"""

from collections.abc import Iterator
from typing import Any

import jax
import pytest

import jaxswap
from benchmarks.programs import TINY
from jaxswap import policies
from jaxswap._gpu.target import built_in_target, rates_of
from jaxswap._request import search_of
from jaxswap._run.loss import loss_source
from jaxswap._run.programs import ProgramsOf, Room
from jaxswap._search.limits import Limits
from jaxswap._search.loops import Programs
from jaxswap._search.ways import keep_all

GPU = "h100"
OPTIONS: dict[str, Any] = {"target": GPU, "compile": False, "progress": False}
SECONDS = 1.0
ROUNDING = 1 + 1e-9
QUICK = ("mlp", "resnet50-512", "transformer-unrolled")
SLOW = ("transformer-scanned", "unet3d-128-bf16", "unet3d-128-fp32")


def simpler(name: str) -> Iterator[tuple[str, jaxswap.Plan]]:
    """Plan a program by each simpler method."""
    loss, args = TINY[name]()
    for policy in policies.ALL:
        made = jaxswap.plan(loss, *args, policy=getattr(policies, policy)(), **OPTIONS)
        yield policy, made
    yield "plain", jaxswap.plan(loss, *args, policy=jaxswap.KEEP, **OPTIONS)
    whole = jax.checkpoint(loss)
    nothing = jax.checkpoint_policies.nothing_saveable
    blocks, args = TINY[name](policy=nothing)
    for label, function in (("whole", whole), ("blocks", blocks)):
        made = jaxswap.plan(function, *args, policy=jaxswap.KEEP, **OPTIONS)
        yield f"jax.checkpoint of {label}", made


def programs(name: str) -> Programs:
    """Return the search of a program, as `jaxswap.plan` makes it."""
    loss, args = TINY[name]()
    source = loss_source(loss, args, {}, 0, False)
    target = built_in_target(GPU)
    plain = source.traced(keep_all)
    room = Room(rates_of(target), Limits.smallest(None))
    found = ProgramsOf(source, plain, None, lambda g: search_of(g, target), room)
    return Programs(found.searches, mixers=found.mixers)


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_no_plan_is_slower_than_a_simpler_method_at_its_memory(name: str) -> None:
    search = programs(name)
    slower: dict[str, str] = {}
    made = sorted(simpler(name), key=lambda pair: pair[1].device_bytes)
    for method, plan in made:
        found = search.find(Limits(plan.device_bytes), seconds=SECONDS)
        seconds = found.draft.timeline.seconds
        if not found.fits:
            least = found.draft.timeline.device_bytes
            slower[method] = f"{plan.device_bytes} refused, not {least}"
        elif seconds > plan.seconds * ROUNDING:
            slower[method] = f"{seconds / plan.seconds:.4f} times as slow"
    assert not slower
