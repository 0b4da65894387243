"""One derivative runs forward in plain JAX and backward as the schedule says."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxswap
from jaxswap import OFFLOAD

X = jnp.sin(jnp.arange(12.0).reshape(3, 4))
W = jnp.cos(jnp.arange(16.0).reshape(4, 4))
COUNT = jnp.arange(3)


def results(x: jax.Array, w: jax.Array) -> Any:
    """Return two results with a tangent, one without."""
    h = jnp.tanh(x @ w)
    return jnp.tanh(h @ w), jnp.argmax(h, 1) + COUNT, jnp.sin(x)


swapped = jaxswap.offload(results, policy=OFFLOAD)


def assert_same(actual: Any, expected: Any) -> None:
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, e in pairs:
        assert a.dtype == e.dtype
        if a.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def test_results_without_a_tangent_have_none() -> None:
    given = (X, W), (jnp.cos(X), W)
    assert_same(jax.jvp(swapped, *given), jax.jvp(results, *given))


def test_results_whose_cotangent_is_zero_cost_nothing() -> None:
    """The second product and its tanh are not needed for the last result."""

    def last(f: Any) -> Any:
        return jax.grad(lambda x: jnp.sum(f(x, W)[2]))

    assert_same(last(swapped)(X), last(results)(X))
    lowered = jax.jit(last(swapped)).lower(X).as_text()
    assert lowered.count("dot_general") <= 2


def test_one_tangent_for_many_operands_gets_the_sum() -> None:
    def loss(f: Any, w: jax.Array) -> jax.Array:
        many = jax.vmap(lambda x: f(x, w)[0])(jnp.stack([X, 2 * X]))
        return jnp.sum(many**2)

    found = jax.jit(jax.grad(lambda w: loss(swapped, w)))(W)
    assert_same(found, jax.grad(lambda w: loss(results, w))(W))


def test_collectives_of_a_mapped_axis() -> None:
    def normalized(x: jax.Array) -> jax.Array:
        return jnp.tanh((x - jax.lax.pmean(x, "batch")) @ W)

    def mapped(f: Any, x: jax.Array) -> Any:
        one = lambda x: jax.vjp(f, x)[1](jnp.ones((4,)))  # noqa: E731
        return jax.vmap(one, axis_name="batch")(x)

    found = jax.jit(lambda x: mapped(jaxswap.offload(normalized, policy=OFFLOAD), x))(X)
    assert_same(found, mapped(normalized, X))


def test_within_a_checkpoint_and_a_loop() -> None:
    def loss(f: Any, x: jax.Array) -> jax.Array:
        body = jax.checkpoint(lambda x, _: (f(x, W)[0], None))
        return jnp.sum(jax.lax.scan(body, x, None, length=3)[0] ** 2)

    for transform in (jax.grad, jax.hessian):
        found = jax.jit(transform(lambda x: loss(swapped, x)))(X)
        assert_same(found, jax.jit(transform(lambda x: loss(results, x)))(X))
