"""A function in 16 bits is computed in float32 without being written anew."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap._trace.float32 import in_float32

W = jnp.linspace(-1.0, 1.3, 16).reshape(4, 4)
X = jnp.linspace(0.1, 1.5, 12).reshape(3, 4)
Loss = Callable[[jax.Array, jax.Array, Any], jax.Array]


def products(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    return jnp.sum(jnp.tanh(x.astype(dtype) @ w.astype(dtype)) ** 2, dtype=dtype)


def scanned(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    def body(h: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = jax.nn.relu(h @ w.astype(dtype)) * scale
        return h, jnp.sum(h)

    scales = jnp.linspace(0.5, 1.0, 3, dtype=dtype)
    return jnp.sum(jax.lax.scan(body, x.astype(dtype), scales)[1]).astype(jnp.float32)


def branched(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    h = x.astype(dtype) @ w.astype(dtype)
    h = jax.lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, h)
    h = jax.lax.fori_loop(0, 2, lambda i, h: jnp.sin(h) * dtype(1.5), h)
    return jnp.sum(h)


def looped(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    w = jax.lax.stop_gradient(w)
    scale = jax.lax.while_loop(
        lambda s: s > 0.1, lambda s: s / 3, w[3, 3].astype(dtype)
    )
    return jnp.sum(jnp.sin(x.astype(dtype)) * scale)


def checkpointed(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    @jax.checkpoint
    def layer(h: jax.Array) -> jax.Array:
        return jax.nn.silu(jax.jit(lambda h: h @ w.astype(dtype))(h))

    return jnp.sum(layer(layer(x.astype(dtype))))


@jax.custom_vjp
def doubled(x: jax.Array) -> jax.Array:
    return jnp.sin(x)


doubled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))


def own_derivative(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    h = jax.nn.relu(x.astype(dtype) @ w.astype(dtype))
    return jnp.sum(doubled(h) * jax.lax.stop_gradient(doubled(h)))


def convolved(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    x = jnp.tile(x.astype(dtype), (2, 3))[None, :, :, None]
    h = jax.lax.conv_general_dilated(
        x, w.astype(dtype)[:, :, None, None], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    pooled = jax.lax.reduce_window(
        h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    return jnp.sum(pooled * pooled)


def gathered(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    rows = w.astype(dtype)[jnp.array([0, 2, 2])]
    rows = rows.at[jnp.array([1, 1])].add(x[:2].astype(dtype))
    ordered = jnp.sort(rows * x.astype(dtype), axis=0)
    return jnp.max(ordered) + jax.nn.logsumexp(ordered) + jnp.cumsum(ordered)[-1]


def solved(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    matrix = 4 * jnp.eye(4, dtype=dtype) + w.astype(dtype)
    return jnp.sum(
        jax.lax.custom_linear_solve(
            lambda v: matrix @ v,
            x[0].astype(dtype),
            lambda matvec, b: b / 4 - (matvec(b / 4) - b) / 4,
            lambda vecmat, b: b / 4 - (vecmat(b / 4) - b) / 4,
        )
    )


def random(w: jax.Array, x: jax.Array, dtype: Any) -> jax.Array:
    # Drawn from 16 random bits, so float32 itself would draw other numbers.
    noise = jax.random.uniform(jax.random.key(0), x.shape, jnp.bfloat16)
    noise = noise.astype(dtype)
    kept = jax.random.bernoulli(jax.random.key(1), 0.5, x.shape)
    return jnp.sum(jnp.where(kept, x.astype(dtype) @ w.astype(dtype), 0) * noise)


LOSSES = (
    *(products, scanned, branched, looped, checkpointed),
    *(own_derivative, convolved, gathered, solved, random),
)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_that_of_the_loss_written_in_float32(
    loss: Loss, dtype: Any
) -> None:
    def gradient(dtype: Any) -> Callable[..., Any]:
        return jax.value_and_grad(lambda w, x: loss(w, x, dtype), argnums=(0, 1))

    expected = jax.jit(gradient(jnp.float32))(W, X)
    found = jax.jit(in_float32(gradient(dtype)))(W, X)
    rounded = jax.jit(gradient(dtype))(W, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    assert all(np.allclose(a, b, 1e-5, 1e-5) for a, b in pairs(found, expected))
    assert not all(np.allclose(a, b, 1e-5, 1e-5) for a, b in pairs(rounded, expected))


def test_float64_integers_and_keys_stay() -> None:
    key = jax.random.key(3)
    with jax.enable_x64():
        x = jnp.ones(2, jnp.float64)
        found = in_float32(lambda x, n, key: (x * 2, n + 1, key))(x, jnp.arange(2), key)
    assert [leaf.dtype for leaf in found] == ["float64", "int64", key.dtype]


def test_bits_are_those_of_the_narrow_number() -> None:
    def bits(x: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)

    np.testing.assert_array_equal(in_float32(bits)(X), bits(X))


def test_captured_arrays_and_static_arguments_are_taken() -> None:
    captured = jnp.arange(3, dtype=jnp.bfloat16)
    found = in_float32(lambda x, name: {name: x * captured})(captured / 7, "a")
    np.testing.assert_allclose(found["a"], np.array([0, 1, 4]) / 7, 1e-2)


def test_products_have_the_highest_precision() -> None:
    text = str(jax.make_jaxpr(in_float32(lambda w: w @ w))(W.astype(jnp.bfloat16)))
    assert "HIGHEST" in text
    assert "preferred_element_type=float32" in text


def test_rounding_that_the_function_asks_for_stays_in_float32() -> None:
    def rounded(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=2)

    np.testing.assert_array_equal(in_float32(rounded)(X), rounded(X))
    narrow = X.astype(jnp.bfloat16)
    np.testing.assert_array_equal(in_float32(rounded)(narrow), narrow)


def test_what_exists_for_its_own_types_only_is_refused() -> None:
    def called(x: jax.Array) -> jax.Array:
        kind = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x: x, kind, x)

    with pytest.raises(NotImplementedError, match="`pure_callback` exists only"):
        in_float32(jax.jit(called))(X)


def pairs(one: Any, other: Any) -> Any:
    return zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
