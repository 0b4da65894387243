"""What is stored in bfloat16 is what the forward pass computed with.

XLA computes with more digits than bfloat16 has (`xla_allow_excess_precision`), and
rounds where a value is stored.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxswap
from jaxswap._schedule.swap_heavy import SwapHeavy

X = jnp.asarray(np.linspace(1, 2, 129), jnp.bfloat16)
NOTHING = jnp.zeros(129)


@jax.custom_vjp
def shown(y: jax.Array, stored: jax.Array) -> jax.Array:
    """Return what the forward pass sees. The gradient of `stored` is what is stored."""
    del stored
    return y.astype(jnp.float32)


def _backward(y: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros_like(y), g * y.astype(jnp.float32)


shown.defvjp(lambda y, stored: (shown(y, stored), y), _backward)


def once(x: jax.Array, stored: jax.Array) -> jax.Array:
    return shown(x * x + jnp.bfloat16(1), stored)


def in_a_loop(x: jax.Array, stored: jax.Array) -> jax.Array:
    def step(x: jax.Array, stored: jax.Array) -> Any:
        return x * jnp.bfloat16(1.0078125), once(x, stored)

    return lax.scan(step, x, jnp.stack([stored, stored]))[1].sum(0)


@pytest.mark.parametrize("fn", [once, in_a_loop])
@pytest.mark.parametrize(
    "policy", [jaxswap.OFFLOAD, jaxswap.RECOMPUTE, SwapHeavy(min_bytes=0)]
)
def test_both_passes_see_the_same_numbers(fn: Any, policy: Any) -> None:
    offloaded = jaxswap.offload(fn, policy=policy)

    @jax.jit
    def both(x: jax.Array, stored: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen, pullback = jax.vjp(offloaded, x, stored)
        return seen, pullback(jnp.ones_like(seen))[1]

    seen, stored = both(X, NOTHING)
    np.testing.assert_array_equal(seen, stored)
