"""Mutable arrays are refused wherever they are read or written."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

import jaxswap


@jax.custom_vjp
def doubled(x: jax.Array) -> jax.Array:
    return 2 * x


def _forward(x: jax.Array) -> tuple[jax.Array, None]:
    ref = jax.new_ref(x)
    ref[...] = ref[...] * 2
    return ref[...], None


doubled.defvjp(_forward, lambda _, g: (2 * g,))


def in_the_function(x: jax.Array) -> jax.Array:
    return jnp.sum(_forward(x)[0])


def in_a_rule(x: jax.Array) -> jax.Array:
    return jnp.sum(doubled(x))


def in_a_loop(x: jax.Array) -> jax.Array:
    return jnp.sum(jax.lax.scan(lambda c, _: (doubled(c), None), x, length=3)[0])


@pytest.mark.parametrize("fn", [in_the_function, in_a_rule, in_a_loop])
def test_mutable_arrays_are_refused(fn: Callable[[jax.Array], jax.Array]) -> None:
    with pytest.raises(NotImplementedError, match="mutable arrays"):
        jax.grad(jaxswap.offload(fn, policy=jaxswap.OFFLOAD))(jnp.ones(3))
