"""Programs with loops inside of loops, which are decided on from the inside out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxswap
from jaxswap._gpu.target import built_in_target
from jaxswap._graph.graph import Action, DecideLoop
from jaxswap._request import search_of
from jaxswap._run.loss import loss_source
from jaxswap._search.inside_out import LIKELY, InsideOut
from jaxswap._search.limits import Limits
from jaxswap._search.search import Search
from jaxswap._search.ways import keep_all

Struct = jax.ShapeDtypeStruct
STAGES, LAYERS = 3, 16
WEIGHTS = (
    Struct((STAGES, LAYERS, 256, 1024), jnp.bfloat16),
    Struct((STAGES, LAYERS, 1024, 256), jnp.bfloat16),
)
ROWS = Struct((16384, 256), jnp.bfloat16)
OPTIONS: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}


def same(fn: Any) -> Any:
    return fn


def loss(weights: Any, x: Any, inner: Any = same, outer: Any = same) -> Any:
    """Stages of layers. What is inner and outer may be a checkpoint."""

    def layer(h: Any, w: Any) -> Any:
        return h + jnp.tanh(jnp.sin(h @ w[0])) @ w[1], None

    def stage(h: Any, ws: Any) -> Any:
        return lax.scan(inner(layer), h, ws)[0], None

    return jnp.mean(lax.scan(outer(stage), x, weights)[0].astype(jnp.float32) ** 2)


CHECKPOINTS = {
    "inner": functools.partial(loss, inner=jax.checkpoint),
    "outer": functools.partial(loss, outer=jax.checkpoint),
    "both": functools.partial(loss, inner=jax.checkpoint, outer=jax.checkpoint),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_no_plan_is_slower_than_a_checkpoint_at_its_memory(name: str) -> None:
    by_hand = jaxswap.plan(
        CHECKPOINTS[name], WEIGHTS, ROWS, policy=jaxswap.KEEP, **OPTIONS
    ).plain
    plan = jaxswap.plan(
        loss, WEIGHTS, ROWS, budget=by_hand.device_bytes, host_budget=0, **OPTIONS
    )
    assert plan.device_bytes <= by_hand.device_bytes
    assert plan.seconds <= by_hand.seconds * (1 + 1e-9)


def test_blocks_of_inner_loops_go_below_both_checkpoints() -> None:
    both = jaxswap.plan(
        CHECKPOINTS["both"], WEIGHTS, ROWS, policy=jaxswap.KEEP, **OPTIONS
    ).plain
    plan = jaxswap.plan(
        loss, WEIGHTS, ROWS, budget="smallest", host_budget=0, **OPTIONS
    )
    caller_bytes = plan.timeline.caller_bytes
    saved = 1 - (plan.device_bytes - caller_bytes) / (both.device_bytes - caller_bytes)
    assert saved > 0.1
    assert any(s.block > 1 for loop in plan.loops for s in loop.segments)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_compiled_plan_needs_what_was_predicted(share: float) -> None:
    kept = jaxswap.plan(loss, WEIGHTS, ROWS, **OPTIONS).plain
    room = kept.device_bytes - kept.caller_bytes
    budget = kept.caller_bytes + int(share * room)
    options = OPTIONS | {"compile": True, "host_budget": 0, "most_compiles": 1}
    plan = jaxswap.plan(loss, WEIGHTS, ROWS, budget=budget, **options)
    assert plan.compiled is not None
    predicted = plan.compiled.predicted_device_bytes
    assert 0.95 <= predicted / plan.compiled.device_bytes <= 1.05


def inside_out() -> tuple[InsideOut, Search, list[Any]]:
    source = loss_source(loss, (WEIGHTS, ROWS), {}, 0, False)
    target = built_in_target("h100")
    made = []

    def make(decide: DecideLoop) -> Search:
        graph = source.traced(decide).graph
        made.append(graph)
        return search_of(graph, target)

    base = make(keep_all)
    return InsideOut(base, make), base, made


def stored(graph: Any) -> tuple[tuple[Action, ...], ...]:
    (outer,) = graph.loops
    return tuple(s.actions for inner in outer.graph.loops for s in inner.segments)


def test_inner_loops_run_in_several_ways_and_few_are_made_for_a_limit() -> None:
    mixer, base, made = inside_out()
    kept = base.kept.timeline
    room = kept.device_bytes - kept.caller_bytes
    limit = Limits(kept.caller_bytes + room // 4, host_bytes=0)
    found = [*mixer.searches(limit)]
    assert len({stored(search.arranger.graph) for search in found}) > 1
    assert any(s.kept.timeline.device_bytes <= limit.device_bytes for s in found)
    count = len(made)
    again = [*mixer.searches(limit)]
    assert again == found
    assert len(made) == count
    assert count <= 1 + 6 + LIKELY * 7


def test_nothing_is_swapped_in_inner_loops_without_host_memory() -> None:
    mixer, base, made = inside_out()
    for _ in mixer.searches(Limits(base.kept.timeline.device_bytes // 2, host_bytes=0)):
        pass
    actions = {a for graph in made for segment in stored(graph) for a in segment}
    assert Action.OFFLOAD not in actions
    for _ in mixer.searches(Limits(base.kept.timeline.device_bytes // 2)):
        pass
    actions = {a for graph in made for segment in stored(graph) for a in segment}
    assert Action.OFFLOAD in actions
