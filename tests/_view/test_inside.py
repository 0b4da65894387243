"""What reports say of values in a user's `jax.checkpoint` and in branches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from jaxswap._base.units import format_bytes
from jaxswap._view.inside import inside_lines, unplanned

W = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
X = jax.ShapeDtypeStruct((4096, 1024), jnp.float32)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sin(jnp.tanh(x @ w) @ w)


OPTIONS: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}


def plan(
    block: Callable[[jax.Array, jax.Array], jax.Array], share: float
) -> jaxswap.Plan:
    """Plan six blocks for a share of the memory that plain JAX needs for them."""

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        for _ in range(6):
            x = block(x, w)
        return jnp.sum(x**2)

    kept = jaxswap.plan(loss, W, X, policy=jaxswap.KEEP, **OPTIONS)
    budget = int(share * kept.plain.device_bytes)
    return jaxswap.plan(loss, W, X, budget=budget, search_seconds=1.0, **OPTIONS)


def test_an_open_checkpoint_is_faster_where_there_is_memory() -> None:
    found = plan(jax.checkpoint(layer), 1.2)
    assert found.budget_bytes is not None
    assert found.device_bytes <= found.budget_bytes
    assert found.seconds < 0.97 * found.plain.seconds
    (line,) = inside_lines(found)
    assert line == "those in jax.checkpoint are decided on like all others"
    assert line in str(found)


def test_a_checkpoint_that_stays_closed_says_what_was_not_planned() -> None:
    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jax.checkpoint(layer)(x, w) ** 2)

    found = jaxswap.plan(loss, W, X, policy=jaxswap.KEEP, **OPTIONS)
    (nbytes,) = unplanned(found).values()
    assert nbytes >= 4096 * 1024 * 4
    (line,) = inside_lines(found)
    assert line.startswith(f"not planned: up to {format_bytes(nbytes)} inside of a")
    assert "(1 of them)" in line


def test_branches_that_store_less_fit_into_less() -> None:
    def branching(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.cond(jnp.sum(x) > 0, layer, lambda x, w: jnp.cos(x @ w), x, w)

    found = plan(branching, 0.6)
    assert found.budget_bytes is not None
    assert found.device_bytes <= found.budget_bytes
    assert any(line.startswith("branches store ") for line in inside_lines(found))
