"""Loops inside of loops: in segments and blocks, with the gradients of plain JAX."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from _run.test_loop import assert_equal
from _run.test_segments import keep, recompute, split, step, swap, thirds
from jax import lax

import jaxswap
from jaxswap import KEEP, RECOMPUTE

Array = jax.Array
OUTER, INNER = 4, 6
KEYS = jax.random.split(jax.random.key(0), 3)
X = jax.random.normal(KEYS[0], (5, 8))
WEIGHTS = jax.random.normal(KEYS[1], (OUTER, INNER, 8, 8)) / 3
SHARED = jax.random.normal(KEYS[2], (8, 8)) / 3


def stages(x: Array, weights: Array, shared: Array) -> Array:
    """Constants in both loops, scanned results of both, a carried integer."""

    def layer(carry: Any, w: Array) -> Any:
        count, h = carry
        h = jnp.tanh(h @ w + h @ shared) * (1.0 + 0.1 * count)
        return (count + 1, h), jnp.sin(h)

    def stage(carry: Any, ws: Array) -> Any:
        (count, h), ys = lax.scan(layer, carry, ws)
        return (count, h + carry[1]), jnp.sum(ys * ys, 0)

    (_, h), ys = lax.scan(stage, (0, x), weights)
    return jnp.sum(h**2) + jnp.sum(jnp.cos(ys))


def over_time(x: Array, weights: Array, shared: Array) -> Array:
    """Layers of a recurrent network, every second one backwards in time."""

    def layer(xs: Array, ws: Array) -> tuple[Array, None]:
        def cell(h: Array, item: Array) -> tuple[Array, Array]:
            h = jnp.tanh(item @ ws[0] + h @ ws[1])
            return h, h

        start = jnp.zeros_like(x)
        _, there = lax.scan(cell, start, xs)
        _, back = lax.scan(cell, start, there @ ws[2], reverse=True)
        return there + back, None

    xs = jnp.stack([x * i for i in range(1, 1 + INNER)])
    ys, _ = lax.scan(layer, xs, weights, reverse=True)
    return jnp.sum((ys @ shared) ** 2)


def micro_batches(x: Array, weights: Array, shared: Array) -> Array:
    """A sum over batches, around a loop over layers that is a constant to it."""

    def one(total: Array, batch: Array) -> tuple[Array, None]:
        h, _ = lax.scan(lambda h, w: (jnp.tanh(h @ w), None), batch, weights[0])
        return total + jnp.mean((h @ shared) ** 2), None

    batches = jnp.stack([x, x + 1, x - 1, x * 2])
    return lax.scan(one, jnp.float32(0), batches)[0]


PROGRAMS = (stages, over_time, micro_batches)
blocks = [(6, recompute, 3)]
DECISIONS: dict[str, dict[int, Any]] = {
    "inner recomputed, outer kept": {4: [(4, keep, 1)], 6: [(6, recompute, 1)]},
    "both recomputed": {4: [(4, recompute, 1)], 6: [(6, recompute, 1)]},
    "inner segments": {4: [(4, keep, 1)], 6: [(4, recompute, 1), (2, keep, 1)]},
    "inner blocks": {4: [(4, keep, 1)], 6: blocks, 3: [(3, keep, 1)]},
    "inner blocks, outer recomputed": {
        4: [(1, recompute, 1), (3, thirds, 1)],
        6: blocks,
        3: [(2, recompute, 1), (1, keep, 1)],
    },
    "blocks in blocks": {
        4: [(4, recompute, 2)],
        2: [(2, keep, 1)],
        6: blocks,
        3: [(3, keep, 1)],
    },
    "inner swapped": {4: [(4, recompute, 1)], 6: [(3, swap, 1), (3, keep, 1)]},
    "outer swapped": {4: [(4, swap, 1)], 6: [(6, recompute, 1)]},
}
FEW = ("inner segments", "blocks in blocks")


@pytest.mark.parametrize(
    "name",
    [n if n in FEW else pytest.param(n, marks=pytest.mark.thorough) for n in DECISIONS],
)
@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda fn: fn.__name__)
def test_gradient_is_that_of_plain_loops(fn: Any, name: str) -> None:
    args = (X, WEIGHTS, SHARED)
    decided = jax.jit(step(fn, split(DECISIONS[name]), *args))
    expected = jax.jit(jax.value_and_grad(fn, (0, 1, 2)))(*args)
    assert_equal(decided(*args), expected, 1e-4)


OPTIONS: dict[str, Any] = {
    "target": "h100",
    "compile": False,
    "progress": False,
    "argnums": (0, 1, 2),
}


def wide(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function of the same arguments whose residuals are large."""
    return lambda x, weights, shared: fn(jnp.tile(x, (400, 1)), weights, shared)


def test_a_plan_is_followed_saved_and_refused_elsewhere(tmp_path: Path) -> None:
    fn, args = wide(stages), (X, WEIGHTS, SHARED)
    plain = jaxswap.plan(fn, *args, **OPTIONS)
    plan = jaxswap.plan(
        fn, *args, budget=int(0.4 * plain.device_bytes), host_budget=0, **OPTIONS
    )
    outer, inner = plan.loops[:2]
    assert (outer.graph.trip_count, inner.graph.trip_count) == (OUTER, INNER)
    assert f"of {INNER} iterations of loop 2" in str(plan)
    assert "in each iteration of loop 1" in str(plan)
    plan = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    offloaded = jaxswap.offload(fn, plan=plan)
    expected = jax.jit(jax.value_and_grad(fn, (0, 1, 2)))(*args)
    followed = jax.jit(jax.value_and_grad(offloaded, (0, 1, 2)))
    assert_equal(followed(*args), expected, 1e-4)
    with pytest.raises(ValueError, match="lies in a loop"):
        plan.with_action("dot_general", KEEP)
    with pytest.raises(ValueError, match="the plan was made for"):
        jax.grad(offloaded)(X, WEIGHTS[:, :5], SHARED)


def test_a_plan_is_followed_under_vmap() -> None:
    args = (X, WEIGHTS, SHARED)
    plan = jaxswap.plan(stages, *args, budget="smallest", host_budget=0, **OPTIONS)
    many = jnp.stack([X, X + 1, X * 2])
    fns = (jaxswap.offload(stages, plan=plan), stages)
    actual, expected = (
        jax.vmap(jax.grad(fn, (0, 1, 2)), (0, None, None))(many, *args[1:])
        for fn in fns
    )
    assert_equal(actual, expected, 1e-4)


def test_what_inner_loops_swap_takes_host_memory() -> None:
    fn, args = wide(stages), (X, WEIGHTS, SHARED)

    def policy(value: jaxswap.Value) -> jaxswap.Action:
        is_inner = value.primitive == "carry" and value.nbytes
        return jaxswap.OFFLOAD if is_inner else RECOMPUTE

    plan = jaxswap.plan(fn, *args, policy=policy, **OPTIONS)
    outer, inner = (loop.graph for loop in plan.loops[:2])
    carried = [
        graph.trip_count * sum(graph.values[v].nbytes for v in graph.carried)
        for graph in (outer, inner)
    ]
    assert plan.host_bytes == pytest.approx(sum(carried), rel=0.01)
