"""What a signature tells apart, what it does not, and that this is enough."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap._graph.signature import Signature

W = jnp.linspace(-1.0, 1.0, 64).reshape(8, 8)
X = jnp.linspace(0.0, 1.0, 64).reshape(8, 8)

Loss = Callable[..., jax.Array]


def loss(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sum(jnp.tanh(2.0 * x @ w), axis=0) ** 2)


def other_axis(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sum(jnp.tanh(2.0 * x @ w), axis=1) ** 2)


def other_constant(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sum(jnp.tanh(3.0 * x @ w), axis=0) ** 2)


def other_operation(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sum(jnp.sin(2.0 * x @ w), axis=0) ** 2)


def other_input(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sum(jnp.tanh(2.0 * w @ w), axis=0) ** 2)


def plan(fn: Loss, *args: Any) -> jaxswap.Plan:
    given: dict[str, Any] = {"policy": jaxswap.OFFLOAD, "progress": False}
    return jaxswap.plan(fn, *args, target="h100", compile=False, **given)


def signature(fn: Loss, *args: Any) -> Signature:
    return plan(fn, *(args or (W, X))).signature


@pytest.mark.parametrize("other", [other_operation, other_input])
def test_another_operation_or_input_is_another_program(other: Loss) -> None:
    assert signature(other).program != signature(loss).program


@pytest.mark.parametrize(
    "args", [(W, X[:4]), (W.astype(jnp.bfloat16), X.astype(jnp.bfloat16))]
)
def test_other_types_are_another_program(args: tuple[jax.Array, ...]) -> None:
    assert signature(loss, *args).arguments != signature(loss).arguments
    assert signature(loss, *args).program != signature(loss).program


@pytest.mark.parametrize("other", [other_axis, other_constant])
def test_parameters_do_not_count_and_gradients_do_not_depend_on_it(other: Loss) -> None:
    assert signature(other) == signature(loss)
    followed = jax.grad(jaxswap.offload(other, plan=plan(loss, W, X)))
    np.testing.assert_allclose(followed(W, X), jax.grad(other)(W, X), rtol=1e-6)
    assert not np.allclose(followed(W, X), jax.grad(loss)(W, X), rtol=0.01)
