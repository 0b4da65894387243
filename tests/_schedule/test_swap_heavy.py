"""What is narrower than what it is made of is swapped in its place."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

import jaxswap
from jaxswap._schedule.swap_heavy import SwapHeavy

TINY = SwapHeavy(min_bytes=0)
X = jnp.sin(jnp.arange(512.0 * 64).reshape(512, 64))
W = jnp.cos(jnp.arange(4.0 * 64 * 64).reshape(4, 64, 64)) / 8


def compressed(dtype: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return a layer that stores its input as narrow numbers."""

    @jax.custom_vjp
    def layer(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.tanh(x @ w)

    def forward(x: jax.Array, w: jax.Array) -> Any:
        return layer(x, w), ((x * 4).astype(dtype), w)

    def backward(residuals: Any, g: jax.Array) -> Any:
        x, w = residuals
        return g @ w.T, (x.astype(g.dtype) / 4).T @ g

    layer.defvjp(forward, backward)
    return layer


@jax.custom_vjp
def rectified(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return a layer's result. Its weights are not differentiated."""
    return jnp.maximum(x @ w, 0)


rectified.defvjp(
    lambda x, w: (jnp.maximum(x @ w, 0), (x @ w > 0, w)),
    lambda residuals, g: (jnp.where(residuals[0], g, 0) @ residuals[1].T, None),
)


def largest(x: jax.Array, w: jax.Array) -> jax.Array:
    """Pass the three largest entries of each row on. Their places are stored."""
    values, _ = lax.top_k(x @ lax.stop_gradient(w), 3)
    return jnp.tile(values, 22)[:, :64]


LAYERS = {
    "fp8": compressed(jnp.float8_e4m3fn),
    "int8": compressed(jnp.int8),
    "mask": rectified,
    "top_k": largest,
}


def swapped_types(fn: Callable[..., Any]) -> set[tuple[Any, int]]:
    """Types and sizes of all host arrays in a traced function, also within loops."""
    found: set[tuple[Any, int]] = set()

    def visit(jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            for v in eqn.outvars:
                if getattr(v.aval, "memory_space", None) == jax.memory.Space.Host:
                    found.add((v.aval.dtype.itemsize, v.aval.size))
            for inner in jaxprs_in_params(eqn.params):
                visit(inner)

    visit(jax.make_jaxpr(fn)(X, W).jaxpr)
    return found


@pytest.mark.parametrize("is_loop", [False, True], ids=["layers", "loop"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_narrow_form_is_swapped_alone(name: str, is_loop: bool) -> None:
    layer = LAYERS[name]

    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        if is_loop:
            x = lax.scan(lambda x, w: (layer(x, w), None), x, w)[0]
        else:
            for each in w:
                x = layer(x, each)
        return jnp.sum(x)

    gradient = jax.grad(jaxswap.offload(loss, policy=TINY), (0, 1))
    for a, e in zip(gradient(X, W), jax.grad(loss, (0, 1))(X, W), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * float(jnp.abs(e).max()))
    swapped = swapped_types(gradient)
    wide = {(itemsize, n) for itemsize, n in swapped if itemsize * n >= 4 * X.size}
    assert all(itemsize == 1 for itemsize, _ in wide)
