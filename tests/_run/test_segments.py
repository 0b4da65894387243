"""Loops whose iterations run in segments, with the gradients of plain JAX."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from _run.test_loop import (
    LOOPS,
    WEIGHTS,
    X,
    assert_equal,
    host_shapes,
    in_low_precision,
    layers,
    loss,
    plain_gradients,
)
from jax import lax

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE, Action, Value
from jaxswap._graph.graph import Graph, Segment
from jaxswap._run.loop import DecideLoop
from jaxswap._run.machine import Machine
from jaxswap._run.source import Source
from jaxswap._run.step import step_of
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.timing import Timing
from jaxswap._trace.function import Arguments, flatten_function

Array = jax.Array


def carry(action: Action, rest: Action = RECOMPUTE) -> Callable[[Graph], list[Action]]:
    def decide(body: Graph) -> list[Action]:
        of_carry = {v for v in body.carried if body.values[v].nbytes}
        return [action if v in of_carry else rest for v in range(len(body.values))]

    return decide


def thirds(body: Graph) -> list[Action]:
    return [(OFFLOAD, KEEP, RECOMPUTE)[v % 3] for v in range(len(body.values))]


keep, swap, recompute = carry(KEEP, KEEP), carry(OFFLOAD), carry(KEEP)
Split = Sequence[tuple[int, Callable[[Graph], list[Action]], int]]
SPLITS: dict[str, dict[int, Split]] = {
    "three": {4: [(1, swap, 1), (2, keep, 1), (1, recompute, 1)]},
    "ends": {4: [(3, thirds, 1), (1, keep, 1)]},
    "blocks": {4: [(4, recompute, 2)], 2: [(2, keep, 1)]},
    "blocks that swap": {4: [(4, swap, 2)], 2: [(1, recompute, 1), (1, keep, 1)]},
    "one block": {4: [(1, keep, 1), (3, recompute, 3)], 3: [(3, thirds, 1)]},
}


def split(by_count: Mapping[int, Split]) -> DecideLoop:
    def decide(body: Graph) -> tuple[Segment, ...]:
        segments = by_count.get(body.trip_count, [(body.trip_count, swap, 1)])
        return tuple(Segment(n, tuple(of(body)), b) for n, of, b in segments)

    return decide


def step(
    fn: Callable[..., Any], decide: DecideLoop, *args: Any, compress: str = ""
) -> Callable[..., Any]:
    """Return value and gradient of a function whose loops run as it is decided."""
    arguments = Arguments.of(args, {}, lambda x: isinstance(x, jax.Array))
    flat, captured = flatten_function(fn, arguments)
    wanted = [False] * len(captured) + [True] * len(args)
    traced = Source(flat, wanted, compress=compress).traced(decide)
    actions = [KEEP] * len(traced.graph.values)
    both = step_of(Machine(traced, schedule(traced.graph, actions, Timing())))

    def value_and_grad(*args: Any) -> Any:
        (value,), gradients = both(*captured, *args)
        return value, tuple(gradients[len(captured) :])

    return value_and_grad


FEW = ("three", "blocks that swap")


@pytest.mark.parametrize(
    "name",
    [n if n in FEW else pytest.param(n, marks=pytest.mark.thorough) for n in SPLITS],
)
@pytest.mark.parametrize("fn", LOOPS, ids=lambda fn: fn.__name__)
@pytest.mark.filterwarnings("ignore:.*unroll.*")
def test_gradient_is_that_of_the_plain_loop(fn: Any, name: str) -> None:
    split_step = jax.jit(step(loss(fn), split(SPLITS[name]), X, WEIGHTS))
    rtol = 2e-2 if fn is in_low_precision else 1e-5
    assert_equal(split_step(X, WEIGHTS), plain_gradients(fn), rtol)


def test_segments_of_a_loop_over_integers_are_exact() -> None:
    """Sums of whole numbers: any other order of iterations would be seen."""

    def fn(x: Array, weights: Array) -> Array:
        def one(h: Array, w: Array) -> tuple[Array, Array]:
            return 3 * h - w + weights[1], h * w

        h, ys = lax.scan(one, x, weights, reverse=True)
        return jnp.sum(h) + jnp.sum(ys * jnp.arange(1.0, 5.0)[:, None, None])

    x, weights = jnp.arange(9.0).reshape(3, 3), jnp.arange(36.0).reshape(4, 3, 3)
    expected = jax.value_and_grad(fn, (0, 1))(x, weights)
    for by_count in SPLITS.values():
        actual = step(fn, split(by_count), x, weights)(x, weights)
        assert_equal(actual, expected, 0.0)


def test_each_segment_swaps_what_it_says() -> None:
    first = {4: [(3, swap, 1), (1, keep, 1)]}
    found = host_shapes(step(loss(layers), split(first), X, WEIGHTS), X, WEIGHTS)
    assert {shape for shape in found if len(shape) > 2} == {(3, *X.shape)}
    blocks = {4: [(4, swap, 2)], 2: [(2, keep, 1)]}
    found = host_shapes(step(loss(layers), split(blocks), X, WEIGHTS), X, WEIGHTS)
    assert {shape for shape in found if len(shape) > 2} == {(2, *X.shape)}


def test_of_a_block_only_its_beginning_is_stored() -> None:
    by_count = {4: [(4, recompute, 2)], 2: [(2, keep, 1)]}
    forward = jax.make_jaxpr(step(loss(layers), split(by_count), X, WEIGHTS))
    scans = [e for e in forward(X, WEIGHTS).jaxpr.eqns if e.primitive.name == "scan"]
    stacked = [v.aval.shape for v in scans[0].outvars if len(v.aval.shape) > 2]
    assert stacked == [(2, *X.shape)]


def test_a_plan_of_segments_and_blocks_is_followed_and_saved(tmp_path: Path) -> None:
    def fn(x: Array, steps: Array) -> Array:
        def one(h: Array, s: Array) -> tuple[Array, None]:
            slope = jnp.sin(s * h)
            return h + 0.01 * (slope + jnp.cos(s * slope)), None

        return jnp.sum(lax.scan(one, x, steps)[0] ** 2)

    x, steps = jnp.linspace(0.0, 1.0, 3000).reshape(30, 100), jnp.linspace(0, 1.0, 100)
    options: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}
    kept = jaxswap.plan(fn, x, steps, argnums=(0, 1), policy=recompute_all, **options)
    plan = jaxswap.plan(
        fn,
        x,
        steps,
        argnums=(0, 1),
        budget=kept.device_bytes // 2,
        host_budget=0,
        **options,
    )
    segments = plan.loops[0].segments
    assert [segment.block > 1 for segment in segments] == [True, False]
    assert "blocks of" in str(plan)
    assert "which are a block of loop 1" in str(plan)
    plan = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    followed = jax.jit(jax.value_and_grad(jaxswap.offload(fn, plan=plan), (0, 1)))
    expected = jax.jit(jax.value_and_grad(fn, (0, 1)))(x, steps)
    assert_equal(followed(x, steps), expected)


def recompute_all(value: Value) -> Action:
    return KEEP if value.primitive == "carry" else RECOMPUTE


def test_what_blocks_swap_may_be_narrowed() -> None:
    decide = split(SPLITS["blocks that swap"])
    exact = jax.jit(step(loss(layers), decide, X, WEIGHTS))(X, WEIGHTS)
    for compress in ("bfloat16", "int8"):
        lossy = jax.jit(step(loss(layers), decide, X, WEIGHTS, compress=compress))
        found = lossy(X, WEIGHTS)
        assert_equal(found, exact, 0.03)
        with pytest.raises(AssertionError):
            assert_equal(found, exact, 1e-6)
