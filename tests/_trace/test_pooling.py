"""The gradient of a max pooling, without XLA's scatter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxswap

FORMS = ("NHWC", "HWIO", "NHWC")
WINDOWS = {
    "apart": ((2, 8, 6, 3), (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "overlapping": ((2, 9, 7, 3), (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
    "dense": ((1, 6, 5, 2), (1, 3, 2, 1), (1, 1, 1, 1), "SAME"),
    "left out": ((2, 11, 3), (1, 2, 1), (1, 4, 1), "VALID"),
    "uneven": ((1, 6, 7, 5, 2), (1, 3, 2, 2, 1), (1, 2, 3, 2, 1), [(0, 0), (2, 1)]),
    "all": ((2, 9, 9, 1), (1, 9, 9, 1), (1, 1, 1, 1), "VALID"),
}
"""Shapes, windows, strides and padding. The last window is left to XLA."""
CASES = [(name, way) for name in WINDOWS for way in ("max", "min")]


def pooled(way: str, size: Any, stride: Any, padding: Any, x: jax.Array) -> jax.Array:
    if not isinstance(padding, str):
        padding = [*padding, *[(0, 0)] * (x.ndim - len(padding))]
    first, pool = {"max": (-jnp.inf, lax.max), "min": (jnp.inf, lax.min)}[way]
    y = lax.reduce_window(jax.nn.relu(x), first, pool, size, stride, padding)
    places = jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)
    return jnp.sum(jnp.sin(y + places))


@pytest.mark.parametrize(("name", "way"), CASES)
def test_gradients_are_those_of_jax_to_the_last_bit(name: str, way: str) -> None:
    """After a `relu` many elements are equal. The first of them is chosen."""
    shape, size, stride, padding = WINDOWS[name]
    x = jax.random.normal(jax.random.key(0), shape)

    def loss(x: jax.Array) -> jax.Array:
        return pooled(way, size, stride, padding, x)

    swaps = jaxswap.policies.SwapEverything()
    seen = jax.jit(jax.grad(jaxswap.offload(loss, policy=swaps)))(x)
    np.testing.assert_array_equal(seen, jax.jit(jax.grad(loss))(x))


def test_gradients_are_those_of_jax_under_vmap_and_in_16_bits() -> None:
    shape, size, stride, padding = WINDOWS["apart"]
    x = jax.random.normal(jax.random.key(0), (3, *shape), jnp.bfloat16)

    def loss(x: jax.Array) -> jax.Array:
        return pooled("max", size, stride, padding, x)

    seen = jax.jit(jax.vmap(jax.grad(jaxswap.offload(loss))))(x)
    np.testing.assert_array_equal(seen, jax.jit(jax.vmap(jax.grad(loss)))(x))


def test_an_element_that_is_no_number_is_chosen_as_by_xla() -> None:
    x = jnp.array([[1.0, jnp.nan, 2.0, 3.0, jnp.nan, 0.0]]).T[None]

    def loss(x: jax.Array) -> jax.Array:
        y = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 1), (1, 3, 1), "VALID")
        return jnp.sum(y * jnp.arange(2.0)[None, :, None])

    seen = jax.jit(jax.grad(jaxswap.offload(loss)))(x)
    np.testing.assert_array_equal(seen, jax.jit(jax.grad(loss))(x))


def layers(kernels: jax.Array, x: jax.Array) -> jax.Array:
    """The `relu` compares with zeros of the shape that is pooled."""
    for index, kernel in enumerate(kernels):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=FORMS)
        x = jax.nn.relu(x)
        if index == 1:
            size, stride = (1, 3, 3, 1), (1, 2, 2, 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, size, stride, "SAME")
    return jnp.mean(x**2)


def test_no_zeros_live_from_the_forward_to_the_backward_pass() -> None:
    images = jax.ShapeDtypeStruct((16, 128, 128, 32), jnp.float32)
    types = jax.ShapeDtypeStruct((4, 3, 3, 32, 32), jnp.float32), images
    kept = jaxswap.offload(layers, policy=jaxswap.KEEP)
    plain, seen = (
        jaxswap.inspect(jax.value_and_grad(fn), *types, target="h100")
        for fn in (layers, kept)
    )
    assert seen.temp_bytes <= plain.temp_bytes - 4 * images.size
