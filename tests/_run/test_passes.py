"""Derivatives of a gradient are those of plain JAX, in value and in memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxswap
from jaxswap import OFFLOAD, RECOMPUTE

X = jnp.sin(jnp.arange(12.0).reshape(3, 4))
W = jnp.cos(jnp.arange(32.0).reshape(2, 4, 4)) / 2
COUNTS = jnp.arange(3)
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def layers(w: jax.Array, x: jax.Array) -> jax.Array:
    for each in w:
        x = jnp.where(COUNTS[:, None] > 0, jnp.tanh(x @ each), x)
    return jnp.sum(x**3)


def loop(w: jax.Array, x: jax.Array) -> jax.Array:
    def step(carry: Any, w: jax.Array) -> Any:
        count, x = carry
        return (count + 1, jnp.sin(x @ w) * count), None

    (_, x), _ = lax.scan(step, (1, x), w)
    return jnp.sum(x**3)


def reverse_over_reverse(f: Loss, w: jax.Array, v: jax.Array) -> Any:
    def along(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.vdot(jax.grad(f)(w, x), v)

    return jax.grad(along, (0, 1))(w, X)


def forward_over_reverse(f: Loss, w: jax.Array, v: jax.Array) -> Any:
    return jax.jvp(lambda w: jax.value_and_grad(f, (0, 1))(w, X), (w,), (v,))


def third_order(f: Loss, w: jax.Array, v: jax.Array) -> Any:
    return jax.grad(lambda w: jnp.vdot(reverse_over_reverse(f, w, v)[0], v))(w)


def with_the_slope_in_the_loss(f: Loss, w: jax.Array, v: jax.Array) -> Any:
    """Return a gradient as physics-informed networks train with."""

    def loss(w: jax.Array) -> jax.Array:
        value, slope = jax.value_and_grad(f, 1)(w + v, X)
        return value**2 + jnp.sum(slope**2)

    return jax.value_and_grad(loss)(w)


def mapped(f: Loss, w: jax.Array, v: jax.Array) -> Any:
    return jax.vmap(lambda v: reverse_over_reverse(f, w, v))(jnp.stack([v, 2 * v]))


ORDERS = [
    reverse_over_reverse,
    forward_over_reverse,
    third_order,
    with_the_slope_in_the_loss,
    mapped,
]


@pytest.mark.parametrize("policy", [OFFLOAD, RECOMPUTE], ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("fn", [layers, loop], ids=lambda f: f.__name__)
def test_higher_derivatives_are_those_of_plain_jax(
    fn: Loss, order: Any, policy: Any
) -> None:
    swapped = jaxswap.offload(fn, policy=policy)
    found = jax.jit(lambda w: order(swapped, w, jnp.cos(w)))(W)
    expected = jax.jit(lambda w: order(fn, w, jnp.cos(w)))(W)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.max(jnp.abs(e)))
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * largest)


def test_they_are_without_jit_too() -> None:
    swapped = jaxswap.offload(layers, policy=OFFLOAD)
    for order in (reverse_over_reverse, forward_over_reverse):
        found, expected = order(swapped, W, W), order(layers, W, W)
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, 1e-5), found, expected
        )


def test_nothing_waits_for_copies_in_a_derivative_of_a_gradient() -> None:
    swapped = jaxswap.offload(layers, policy=OFFLOAD)
    first = jax.jit(jax.grad(swapped)).lower(W, X).as_text()
    assert "optimization_barrier" in first
    for order in ORDERS:
        lowered = jax.jit(lambda w, order=order: order(swapped, w, w)).lower(W)
        assert "optimization_barrier" not in lowered.as_text()


def test_a_pullback_that_is_taken_as_constant_has_the_real_residuals() -> None:
    def loss(f: Loss, w: jax.Array) -> jax.Array:
        value, pullback = jax.vjp(f, w, X)
        constant = jax.tree.map(lax.stop_gradient, pullback)
        return value * jnp.sum(constant(jnp.float32(1))[0])

    found = jax.grad(lambda w: loss(jaxswap.offload(layers, policy=OFFLOAD), w))(W)
    expected = jax.grad(lambda w: loss(layers, w))(W)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
