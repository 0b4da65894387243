"""Operations of random programs: on shapes and types, by element, and products."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from program_context import (
    Array,
    Context,
    axis_of,
    fit,
    matrix,
    operation,
    rows,
    single,
)


@operation
def cast(c: Context, x: Array, y: Array) -> Array:
    types = (jnp.float32, jnp.bfloat16, jnp.float16)
    return x.astype(c.pick(types))


@operation
def reshape(c: Context, x: Array, y: Array) -> Array:
    n = x.size
    divisor = max(d for d in range(1, math.isqrt(n) + 1) if n % d == 0)
    return x.reshape(c.pick(((n,), (divisor, -1), (n, 1), (1, divisor, -1))))


@operation
def transpose(c: Context, x: Array, y: Array) -> Array:
    return c.pick((x.T, jnp.moveaxis(rows(x), 0, -1), rows(x)[None], jnp.squeeze(x)))


@operation
def flip_or_roll(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    axis = axis_of(c, x)
    return c.pick((jnp.flip(x, axis), jnp.roll(x, 1, axis)))


@operation
def pad(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    mode = c.pick(("constant", "edge", "wrap"))
    return jnp.pad(x, [(1, 0)] + [(0, 0)] * (x.ndim - 1), mode=mode)


@operation
def pad_inside(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    return lax.pad(x, jnp.zeros((), x.dtype), [(1, -1, 1)] + [(0, 0, 0)] * (x.ndim - 1))


# --- element by element ---------------------------------------------------------------

UNARY: tuple[Callable[[Array], Array], ...] = (
    jnp.sin,
    jnp.tanh,
    jax.nn.gelu,
    jax.nn.relu,
    jax.nn.softplus,
    jax.nn.silu,
    jax.nn.elu,
    jax.nn.sigmoid,
    jax.nn.log_sigmoid,
    jax.nn.relu6,
    jnp.abs,
    jnp.negative,
    lambda x: jnp.exp(jnp.tanh(x)),
    lambda x: jnp.log1p(x * x),
    lambda x: jnp.sqrt(1 + x * x),
    lambda x: 1 / (1 + x * x),
    lambda x: jnp.tanh(x) ** 3,
    lambda x: jnp.clip(x, -0.7, 0.6),
    lambda x: lax.rsqrt(x * x + 0.5),
    lambda x: jax.scipy.special.erf(x),
    lambda x: jnp.sinc(x),
    lambda x: jnp.arctan(x) + jnp.cbrt(x * x + 1),
)

BINARY: tuple[Callable[[Array, Array], Array], ...] = (
    lambda x, y: x + y,
    lambda x, y: x * jnp.tanh(y),
    lambda x, y: x - 0.5 * y,
    lambda x, y: x / (1 + y * y),
    jnp.maximum,
    jnp.minimum,
    jnp.logaddexp,
    lambda x, y: jnp.arctan2(x, 1 + y * y),
    lambda x, y: jnp.where(y > 0, x, 2 * y),
    lambda x, y: jnp.hypot(x, 1 + jnp.abs(y)),
    lambda x, y: lax.select(x > y, x, jnp.sin(y)),
)


@operation
def unary(c: Context, x: Array, y: Array) -> Array:
    return c.pick(UNARY)(x)


@operation
def binary(c: Context, x: Array, y: Array) -> Array:
    return c.pick(BINARY)(x, fit(y, x))


@operation
def where_safe(c: Context, x: Array, y: Array) -> Array:
    """The two `where`s that keep a NaN out of the gradient."""
    safe = jnp.where(x > 0, x, 1)
    return jnp.where(x > 0, jnp.sqrt(safe) * jnp.log(safe), fit(y, x))


@operation
def constant(c: Context, x: Array, y: Array) -> Array:
    pattern = np.linspace(-1, 1, x.size).reshape(x.shape)
    known = c.pick((jnp.asarray(pattern), jnp.ones(x.shape), jnp.full(x.shape, 0.3)))
    return x * c.pick((known, lax.stop_gradient(known))).astype(x.dtype)


@operation
def through_integers(c: Context, x: Array, y: Array) -> Array:
    """Integers and booleans on the way; no gradient goes through them."""
    whole = jnp.floor(x * 2).astype(jnp.int32)
    even = (whole % 2 == 0) | (whole > 3)
    return jnp.where(even, x, fit(y, x)) + (whole & 1).astype(x.dtype)


@operation
def through_complex(c: Context, x: Array, y: Array) -> Array:
    x = single(x)
    z = lax.complex(x, fit(y, x))
    turn = jnp.exp(lax.complex(jnp.zeros_like(x), jnp.tanh(x)))
    z = c.pick((z * turn, jnp.conj(z) * z, z / lax.complex(1 + jnp.abs(x), x)))
    return c.pick((z.real, jnp.tanh(z.imag), jnp.log1p(jnp.abs(z + 3) ** 2)))


# --- products -------------------------------------------------------------------------


@operation
def matmul(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    wide = c.pick((x.shape[-1], 3, 8))
    return x @ c.weight(x.shape[-1], wide).astype(x.dtype)


@operation
def gram(c: Context, x: Array, y: Array) -> Array:
    """A product of an array with itself: one value, two uses in one operation."""
    x = matrix(x)
    return jnp.tanh(x @ x.T)


@operation
def contract(c: Context, x: Array, y: Array) -> Array:
    x = matrix(x)
    y = jnp.resize(y, (x.shape[-1], 4)).astype(x.dtype)
    return jnp.tanh(jnp.einsum("ij,jk->ki", x, y))


@operation
def batched_product(c: Context, x: Array, y: Array) -> Array:
    x = matrix(x)
    w = c.weight(2, x.shape[1], 3).astype(x.dtype)
    return jnp.einsum("ij,bjk->bik", x, w)


@operation
def attention(c: Context, x: Array, y: Array) -> Array:
    x = matrix(x)
    n = x.shape[-1]
    q, k, v = (x @ c.weight(n, n).astype(x.dtype) for _ in range(3))
    scores = q @ k.T
    mask = jnp.tril(jnp.ones(scores.shape, bool))
    return jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)) @ v


@operation
def convolution(c: Context, x: Array, y: Array) -> Array:
    """In one or two dimensions; with stride, dilation, groups; transposed."""
    dimensions = c.pick((1, 2))
    x = jnp.resize(x, (1, *(4,) * dimensions, min(8, max(2, rows(x).shape[-1]))))
    width = 2 * (x.shape[-1] // 2)
    x = x[..., :width]
    letters = "HW"[:dimensions]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    shape = (3,) * dimensions
    kind = c.pick(("plain", "strided", "dilated", "grouped", "transposed"))
    groups = 2 if kind == "grouped" else 1
    w = c.weight(*shape, width // groups, 4).astype(x.dtype)
    if kind == "transposed":
        return lax.conv_transpose(
            x, w, (2,) * dimensions, "SAME", dimension_numbers=numbers
        )
    return lax.conv_general_dilated(
        x,
        w,
        (2,) * dimensions if kind == "strided" else (1,) * dimensions,
        "SAME",
        rhs_dilation=(2,) * dimensions if kind == "dilated" else None,
        feature_group_count=groups,
        dimension_numbers=numbers,
    )


@operation
def pool(c: Context, x: Array, y: Array) -> Array:
    x = matrix(x)
    if c.pick((True, False)):
        lowest = np.array(-np.inf, x.dtype)
        return lax.reduce_window(x, lowest, lax.max, (2, 2), (1, 2), "SAME")
    zero = np.zeros((), x.dtype)
    return lax.reduce_window(x, zero, lax.add, (2, 1), (1, 1), "SAME")


@operation
def grouped_product(c: Context, x: Array, y: Array) -> Array:
    """Rows of each group meet a matrix of their own; a group may have none."""
    x = matrix(x)
    count = x.shape[0]
    sizes = c.pick(((count // 2, 0, count - count // 2), (0, count), (count,)))
    w = c.weight(len(sizes), x.shape[1], 3).astype(x.dtype)
    return lax.ragged_dot(x, w, jnp.array(sizes, jnp.int32))


@operation
def nothing(c: Context, x: Array, y: Array) -> Array:
    """Arrays without elements: no rows, nothing to sum, no steps, no batch."""
    x = matrix(x)
    n = x.shape[1]
    kind = c.pick(("rows", "summands", "steps", "batch", "channels"))
    if kind == "rows":
        part = jnp.tanh(x[:0] @ c.weight(n, n).astype(x.dtype))
        return jnp.concatenate([part, x])
    if kind == "summands":
        return x + x[:, :0] @ c.weight(0, n).astype(x.dtype)
    if kind == "steps":
        return lax.scan(lambda c, x: (c * jnp.sum(x), x), x, x[:0])[0]
    if kind == "batch":
        scores = jnp.einsum("bij,bkj->bik", x[None][:0], x[None][:0])
        return x + jnp.sum(jax.nn.softmax(scores))
    image = jnp.resize(x, (1, 4, 2))
    none = lax.conv(image[:, :0], jnp.zeros((2, 0, 1), x.dtype), (1,), "SAME")
    return x * jnp.cos(jnp.sum(none))
