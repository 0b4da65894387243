"""Operations of random programs: kernels, and whatever looks at many entries."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from program_context import (
    LENGTH,
    Array,
    Context,
    axis_of,
    fit,
    matrix,
    operation,
    rows,
    single,
)

# --- kernels --------------------------------------------------------------------------


def scaled(kind: str) -> Callable[[Array, Array], Array]:
    """A Pallas kernel with a derivative of its own; it may write over its operand."""
    aliases = {0: 0} if kind == "aliased" else {}

    def body(x: Any, y: Any, out: Any) -> None:
        out[...] = x[...] * jnp.tanh(y[...])

    def kernel(x: Array, y: Array) -> Array:
        return pl.pallas_call(
            body,
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            input_output_aliases=aliases,
            interpret=True,
        )(x, y)

    def backward(saved: tuple[Array, ...], g: Array) -> tuple[Array, Array]:
        x, y = saved
        return kernel(g, y), g * x * (1 - jnp.tanh(y) ** 2)

    scaled = jax.custom_vjp(kernel)
    scaled.defvjp(lambda x, y: (kernel(x, y), (x, y)), backward)
    return scaled


@operation
def kernel(c: Context, x: Array, y: Array) -> Array:
    """A kernel alone, over a batch, in a loop; one that writes over its operand."""
    x = rows(x)
    y = fit(y, x)
    kind = c.pick(("alone", "aliased", "batched", "loop"))
    multiply = scaled(kind)
    if kind == "batched":
        return jax.vmap(multiply)(x, y)
    if kind == "loop":
        return lax.scan(lambda x, _: (multiply(x, y), None), x, length=LENGTH)[0]
    return multiply(x, y)


def compressed(kind: str) -> Callable[[Array, Array], Array]:
    """A product that stores its operand in a narrow form: the gradient reads that."""
    stored: dict[str, tuple[Any, float]] = {
        "fp8": (jnp.float8_e4m3fn, 1.0),
        "int8": (jnp.int8, 8.0),
        "bfloat16": (jnp.bfloat16, 1.0),
        "mask": (jnp.bool_, 1.0),
    }
    dtype, scale = stored[kind]

    @jax.custom_vjp
    def times(x: Array, y: Array) -> Array:
        return jnp.tanh(x) * y

    def forward(x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
        h = jnp.tanh(x)
        return h * y, (
            (h * scale > 0) if kind == "mask" else (h * scale).astype(dtype),
            y,
        )

    def backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
        h = saved[0].astype(g.dtype) / scale
        return g * saved[1], g * h

    times.defvjp(forward, backward)
    return times


@operation
def narrow(c: Context, x: Array, y: Array) -> Array:
    """What is stored is smaller than what it is made of: 8 bits, a mask, places."""
    kind = c.pick(("fp8", "int8", "bfloat16", "mask", "top_k"))
    x = single(rows(x))
    if kind == "top_k":
        return lax.top_k(jnp.sin(x), 1)[0] * jnp.ones_like(x)
    return compressed(kind)(jnp.sin(x), single(fit(y, x)))


# --- normalization and reductions -----------------------------------------------------


@operation
def norm(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    axis = axis_of(c, x)
    kind = c.pick(("layer", "rms", "softmax", "log_softmax", "batch"))
    if kind == "softmax":
        return jax.nn.softmax(x, axis)
    if kind == "log_softmax":
        return jax.nn.log_softmax(x, axis)
    if kind == "rms":
        return x * lax.rsqrt(jnp.mean(x**2, axis, keepdims=True) + 0.1)
    if kind == "layer":
        x = x - jnp.mean(x, axis, keepdims=True)
    gain = c.weight(x.shape[-1]).astype(x.dtype)
    spread = jnp.sqrt(jnp.var(x, axis, keepdims=True) + 0.1)
    return x / spread * (1 + gain.reshape((1,) * (x.ndim - 1) + (-1,)))


REDUCTIONS: tuple[Callable[..., Array], ...] = (
    jnp.mean,
    jnp.max,
    jnp.min,
    lambda x, axis, keepdims: jnp.sum(x, axis, keepdims=keepdims) / 4,
    lambda x, axis, keepdims: jax.nn.logsumexp(x, axis, keepdims=keepdims),
    lambda x, axis, keepdims: jnp.sqrt(jnp.var(x, axis, keepdims=keepdims) + 0.1),
    lambda x, axis, keepdims: jnp.prod(jnp.cos(x), axis, keepdims=keepdims),
    lambda x, axis, keepdims: jnp.median(x, axis, keepdims=keepdims),
)


@operation
def reduce(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    reduction = c.pick(REDUCTIONS)
    axis = c.pick((None, *range(x.ndim)))
    return reduction(x, axis, keepdims=c.pick((False, True)))


@operation
def cumulate(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    axis = axis_of(c, x)
    kind = c.pick(("sum", "product", "max", "logsumexp", "associative"))
    if kind == "sum":
        return jnp.cumsum(x, axis) / 4
    if kind == "product":
        return jnp.cumprod(jnp.cos(x) + 0.5, axis)
    if kind == "max":
        return lax.cummax(x, axis)
    if kind == "logsumexp":
        return lax.cumlogsumexp(x, axis, reverse=c.pick((False, True)))
    gates = jax.nn.sigmoid(fit(y, x))
    return lax.associative_scan(
        lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (gates, x), axis=axis
    )[1]


# --- choosing, sorting, writing -------------------------------------------------------


@operation
def sort(c: Context, x: Array, y: Array) -> Array | tuple[Array, ...]:
    x = rows(x)
    kind = c.pick(("sort", "top_k", "argsort", "argmax"))
    if kind == "sort":
        return jnp.sort(x, axis=axis_of(c, x))
    if kind == "top_k":
        values, places = lax.top_k(x, min(2, x.shape[-1]))
        return values, values * (1 + places.astype(x.dtype))
    if kind == "argsort":
        return x[jnp.argsort(x.reshape(x.shape[0], -1)[:, 0])]
    return x * jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=x.dtype)


@operation
def gather(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    n = x.shape[0]
    kind = c.pick(("rows", "along", "embedding", "segments"))
    if kind == "rows":
        return x[c.leaves.integers(c.pick((0, 1)), (3,), n)]
    if kind == "along":
        places = c.leaves.integers(c.pick((0, 1)), (1,) * x.ndim, n)
        return jnp.take_along_axis(x, places, axis=0)
    if kind == "embedding":
        table = c.weight(5, x.shape[-1]).astype(x.dtype)
        return x + table[c.leaves.integers(0, x.shape[:-1], 5)]
    sinks = c.leaves.integers(c.pick((0, 1)), (n,), 3)
    return jax.ops.segment_sum(x, sinks, num_segments=3)


@operation
def slices(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    n = x.shape[0]
    kind = c.pick(("dynamic", "strided", "half", "index"))
    if kind == "dynamic":
        start = c.leaves.integers(0, (), n)
        return lax.dynamic_slice_in_dim(x, start, max(1, n // 2))
    if kind == "strided":
        return x[::2]
    return x[: (n + 1) // 2] if kind == "half" else x[n // 2]


@operation
def update(c: Context, x: Array, y: Array) -> Array:
    """Writes in place, as XLA may do them."""
    x = rows(x)
    n = x.shape[0]
    part = fit(y, x[: max(1, n // 2)])
    kind = c.pick(("dynamic", "set", "add", "multiply", "max", "rows", "swap"))
    if kind == "dynamic":
        start = c.leaves.integers(0, (), n)
        return lax.dynamic_update_slice_in_dim(x, part, start, 0)
    if kind == "rows":
        places = c.leaves.integers(c.pick((0, 1)), (part.shape[0],), n)
        return x.at[places].add(part)
    if kind == "swap":
        return x.at[0].set(x[n - 1]).at[n - 1].set(x[0])
    at = x.at[: part.shape[0]]
    return getattr(at, kind)(jnp.tanh(part))


@operation
def concatenate(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    y = fit(y, x)
    return c.pick((jnp.concatenate([x, y], axis_of(c, x)), jnp.stack([y, x])))


@operation
def split(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    x = rows(x)
    at = c.pick((1, max(1, x.shape[0] // 2))) if x.shape[0] > 1 else 1
    return tuple(part for part in jnp.split(x, [at]) if part.size)


# --- linear algebra -------------------------------------------------------------------


@operation
def linear_algebra(c: Context, x: Array, y: Array) -> Array:
    x = jnp.resize(single(x), (3, 3))
    definite = jnp.tanh(x) @ jnp.tanh(x).T + 2 * jnp.eye(3)
    right = jnp.resize(single(y), (3, 2))
    kind = c.pick(("cholesky", "solve", "inverse", "determinant", "conjugate"))
    if kind == "cholesky":
        factor = jnp.linalg.cholesky(definite)
        return jax.scipy.linalg.solve_triangular(factor, right, lower=True)
    if kind == "solve":
        return jnp.linalg.solve(definite, right)
    if kind == "inverse":
        return jnp.linalg.inv(definite)
    if kind == "determinant":
        return jnp.linalg.slogdet(definite)[1]
    return jax.scipy.sparse.linalg.cg(lambda v: definite @ v, right, maxiter=5)[0]


@operation
def fourier(c: Context, x: Array, y: Array) -> Array:
    x = rows(single(x))
    spectrum = jnp.fft.rfft(x)
    gain = 1 / (1 + jnp.abs(spectrum + 2) ** 2)
    spectrum = spectrum * lax.complex(gain, jnp.zeros_like(gain))
    return jnp.fft.irfft(spectrum, n=x.shape[-1])


# --- random numbers, marks ------------------------------------------------------------


@operation
def dropout(c: Context, x: Array, y: Array) -> Array:
    key = jax.random.fold_in(c.leaves.key(c.pick((1, 1, 0))), 7)
    if c.pick((True, False)):
        return jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x, 0) / 0.7
    use, _ = jax.random.split(key)
    return x + jax.random.normal(use, x.shape, x.dtype) * fit(y, x)


@operation
def mark(c: Context, x: Array, y: Array) -> Array:
    """What changes no number: barriers, names, scopes; or no gradient flows."""
    kind = c.pick(("barrier", "name", "scope", "stop", "stop_other", "copy"))
    if kind == "barrier":
        return lax.optimization_barrier((x, y))[0]
    if kind == "name":
        return checkpoint_name(jnp.sin(x), "hidden")
    if kind == "scope":
        with jax.named_scope("layer"):
            return jnp.tanh(x)
    if kind == "copy":
        return jnp.array(x, copy=True)
    return lax.stop_gradient(x) if kind == "stop" else x * lax.stop_gradient(fit(y, x))


@operation
def unused(c: Context, x: Array, y: Array) -> Array:
    """Work that nobody needs."""
    del_me = jnp.tanh(matrix(x) @ c.weight(matrix(x).shape[-1], 3).astype(x.dtype))
    return x + 0 * lax.stop_gradient(jnp.sum(del_me))
