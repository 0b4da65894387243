"""Values that are stored in pieces: gradients, memory, plans and reports."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxswap
from jaxswap._graph.graph import Action, Graph
from jaxswap._graph.pieces import Pieces, axis_of
from jaxswap._graph.signature import signature_of
from jaxswap._plans import cache as plan_cache
from jaxswap._plans.file import Decisions
from jaxswap._run.loss import loss_source
from jaxswap._search.candidates import find_candidates
from jaxswap._search.ways import keep_all
from jaxswap._simulate.draft import Arranger

Array = jax.Array
WIDE: dict[str, Any] = {"target": "h200", "compile": False, "progress": False}
MIB = 1 << 20


def layers(weights: list[Array], x: Array) -> Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def convolutions(kernels: list[Array], x: Array) -> Array:
    for kernel in kernels:
        forms = ("NWC", "WIO", "NWC")
        x = lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=forms)
        x = jax.nn.relu(x - x.mean(1, keepdims=True))
    return jnp.sum(jnp.sort(x, 1)[:, ::2] ** 2)


def attention(weights: list[Array], x: Array) -> Array:
    for w in weights:
        scores = jax.nn.softmax(x @ w @ x.swapaxes(1, 2))
        x = x + jax.checkpoint(jnp.sin)(scores @ x)
    return jnp.mean(lax.top_k(x, 2)[0])


KEY = jax.random.key(1)
SQUARE = [jax.random.normal(k, (16, 16)) / 4 for k in jax.random.split(KEY, 4)]
CASES = {
    "products": (layers, SQUARE, jax.random.normal(KEY, (8, 16))),
    "convolutions": (
        convolutions,
        [jax.random.normal(k, (3, 4, 4)) / 3 for k in jax.random.split(KEY, 3)],
        jax.random.normal(KEY, (2, 32, 4)),
    ),
    "attention": (attention, SQUARE[:2], jax.random.normal(KEY, (2, 12, 16))),
    "bfloat16": (
        layers,
        [w.astype(jnp.bfloat16) for w in SQUARE],
        jax.random.normal(KEY, (8, 16), jnp.bfloat16),
    ),
}


def in_pieces(
    fn: Any, args: tuple[Any, ...], count: int, kinds: tuple[Action, ...]
) -> jaxswap.Plan:
    """Return a plan that stores in pieces whatever can be cut."""
    whole = jaxswap.plan(fn, *args, **WIDE)
    fusion = whole.arranger.simulator.fusion
    pieces = tuple(
        Pieces(v, axis, count)
        for v in find_candidates(whole.graph, fusion, 1).forward
        if (axis := axis_of(whole.graph.values[v].shape, count)) is not None
        and v not in whole.graph.outputs
    )
    source = loss_source(fn, args, {}, 0, False)
    graph = source.cut(None, pieces).traced(keep_all).graph
    actions = list(whole.actions)
    for one in pieces:
        actions[one.value] = Action.RECOMPUTE
    actions += [kinds[at % len(kinds)] for _ in pieces for at in range(count)]
    draft = Arranger(graph, whole.arranger.simulator.rates).arrange(actions, 0)
    return dataclasses.replace(
        whole,
        graph=graph,
        actions=draft.actions,
        swaps=draft.swaps,
        signature=signature_of(graph),
        plain_graph=whole.graph,
        staleness=draft.staleness,
    )


def largest_error(found: Any, expected: Any) -> float:
    errors = jax.tree.map(
        lambda a, b: jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)), found, expected
    )
    return max(map(float, jax.tree.leaves(errors)))


@pytest.mark.parametrize("kinds", [(Action.KEEP, Action.OFFLOAD), (Action.OFFLOAD,)])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_whole_values(
    name: str, kinds: tuple[Action, ...]
) -> None:
    fn, *args = CASES[name]
    plan = in_pieces(fn, tuple(args), 2, kinds)
    assert plan.summary()["in_pieces"]
    assert any(plan.graph.values[swap.value].shape for swap in plan.swaps)
    step = jax.jit(jax.value_and_grad(jaxswap.offload(fn, plan=plan)))
    value, gradient = step(*args)
    expected, plain = jax.jit(jax.value_and_grad(fn))(*args)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert largest_error(gradient, plain) < (1e-2 if name == "bfloat16" else 1e-5)


def deep(layer_count: int = 24) -> tuple[Any, ...]:
    w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    return [w] * layer_count, jax.ShapeDtypeStruct((16384, 1024), jnp.float32)


@pytest.fixture(scope="module")
def quarters() -> tuple[jaxswap.Plan, jaxswap.Plan]:
    options = {**WIDE, "budget": "575MiB"}
    return (
        jaxswap.plan(layers, *deep(), **options),
        jaxswap.plan(layers, *deep(), pieces=4, **options),
    )


def test_a_part_leaves_where_a_whole_value_takes_too_long(
    quarters: tuple[jaxswap.Plan, jaxswap.Plan],
) -> None:
    whole, parts = quarters
    assert parts.seconds < 0.95 * whole.seconds
    assert parts.bound_seconds <= parts.seconds
    assert parts.device_bytes <= parts.budget_bytes  # type: ignore[operator]
    swapped = {parts.graph.values[swap.value].shape for swap in parts.swaps}
    assert (4096, 1024) in swapped


@pytest.mark.parametrize("count", [2, 4])
def test_the_prediction_counts_pieces_and_the_joined_value(count: int) -> None:
    kinds = (Action.KEEP, Action.OFFLOAD)
    plan = in_pieces(layers, deep(6), count, kinds)
    step = jax.value_and_grad(jaxswap.offload(layers, plan=plan))
    compiled = jaxswap.inspect(step, *deep(6), target="h200")
    assert plan.device_bytes <= 1.01 * compiled.device_bytes
    gaps = plan.draft.fragmented_bytes
    assert compiled.device_bytes <= 1.01 * (plan.device_bytes + gaps)
    assert compiled.device_bytes < 0.9 * plan.all_kept.device_bytes
    assert compiled.host_bytes == plan.host_bytes


def test_reports_name_what_is_stored_in_pieces(
    quarters: tuple[jaxswap.Plan, jaxswap.Plan],
) -> None:
    whole, parts = quarters
    values = [parts.graph.values[v] for v in parts.summary()["in_pieces"]]
    assert values
    assert f"{len(values)} values of" in str(parts)
    assert "are stored in pieces" in str(parts)
    assert "joined again of 4 pieces" in {
        row.why.partition(" in ")[0] for row in parts.rows if row.value in values
    }
    rows, stored = {row.value.index for row in parts.rows}, {v.index for v in values}
    for one in parts.graph.pieces:
        join = parts.graph.remakers()[one.value]
        assert rows.isdisjoint(join.inputs) == (one.value not in stored)
    assert "stored in pieces" not in str(whole)
    assert whole.summary()["in_pieces"] == []


def test_a_plan_in_pieces_is_remembered(
    quarters: tuple[jaxswap.Plan, jaxswap.Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path))
    plan, source = quarters[1], loss_source(layers, deep(), {}, 0, False)

    def again(found: Decisions) -> tuple[Graph, Graph | None]:
        cut = source.cut(found.slabs, found.pieces)
        return cut.traced(found.decide_loop, found.inside).graph, plan.plain_graph

    plan_cache.keep("key", plan)
    found = plan_cache.find("key", again)
    assert found is not None
    assert found.graph.pieces == plan.graph.pieces
    assert found.seconds == plan.seconds


def test_a_plan_in_pieces_is_saved(
    quarters: tuple[jaxswap.Plan, jaxswap.Plan], tmp_path: Path
) -> None:
    plan = quarters[1]
    loaded = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    assert loaded.graph.pieces == plan.graph.pieces
    assert (loaded.seconds, loaded.device_bytes) == (plan.seconds, plan.device_bytes)


def test_offload_plans_in_pieces_for_a_budget() -> None:
    fn, weights, x = CASES["products"]
    swapped = jaxswap.offload(fn, budget="1MiB", target="h200", pieces=2)
    gradient = jax.jit(jax.grad(swapped))(weights, x)
    assert largest_error(gradient, jax.jit(jax.grad(fn))(weights, x)) < 1e-5


@pytest.mark.parametrize("other", ["policy", "plan"])
def test_pieces_beside_what_decides_alone_are_refused(other: str) -> None:
    fn, *args = CASES["products"]
    given: dict[str, Any] = {"policy": jaxswap.OFFLOAD}
    if other == "plan":
        given = {"plan": jaxswap.plan(fn, *args, **WIDE)}
    with pytest.raises(ValueError, match=f"`pieces` and `{other}`"):
        jaxswap.offload(fn, pieces=2, **given)


def test_pieces_and_a_policy_are_refused_by_plan() -> None:
    fn, *args = CASES["products"]
    with pytest.raises(ValueError, match="`pieces` and `policy`"):
        jaxswap.plan(fn, *args, policy=jaxswap.OFFLOAD, pieces=2, **WIDE)
    with pytest.raises(ValueError, match="`pieces` is 'half'"):
        jaxswap.plan(fn, *args, pieces="half", **WIDE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`pieces` is 0"):
        jaxswap.offload(fn, pieces=0)


def test_pieces_of_what_is_split_over_devices_are_refused() -> None:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    fn, weights, x = CASES["products"]
    split = jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=NamedSharding(mesh, PartitionSpec("data"))
    )
    with pytest.raises(NotImplementedError, match="`pieces` is given"):
        jaxswap.plan(fn, weights, split, pieces=2, **WIDE)
