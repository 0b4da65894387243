"""Small losses, plans of them, and their gradients through a plan."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from zoo import normal, weight

import jaxswap
from jaxswap import Plan

W, X = weight(16, 16), normal(64, 16)


def loss(w: jax.Array, x: jax.Array) -> jax.Array:
    for _ in range(3):
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def plan(fn: Callable[..., Any], *args: Any, **options: Any) -> Plan:
    given: dict[str, Any] = {
        "target": "h100",
        "compile": False,
        "progress": False,
    }
    if "policy" not in options:
        given["search_seconds"] = 3.0
    return jaxswap.plan(fn, *args, **(given | options))


@functools.cache
def kept_bytes() -> int:
    """Device memory of `loss` if everything is kept."""
    return plan(loss, W, X).plain.device_bytes


def between(plan: Plan, share: float) -> int:
    """A budget: what the caller holds, and a share of the rest that keeping needs."""
    least = plan.plain.caller_bytes
    return int(least + share * (plan.plain.device_bytes - least))


def deep(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to rounding, relative to the largest entry of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.asarray(a).dtype == jnp.asarray(e).dtype
        scale = float(np.max(np.abs(np.asarray(e, np.float64)), initial=1e-6))
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-5 * scale)


def follow(
    made: Plan, fn: Callable[..., Any], *args: Any, is_jitted: bool = True, **how: Any
) -> Any:
    """Value and gradient through the plan."""
    grad = jax.value_and_grad(jaxswap.offload(fn, plan=made), **how)
    return (jax.jit(grad) if is_jitted else grad)(*args)


def with_aux(w: jax.Array, x: jax.Array) -> Any:
    h = jnp.tanh(jnp.tanh(x @ w) @ w)
    return jnp.sum(h @ w), {"h": h, "count": jnp.arange(3), "nothing": None}
