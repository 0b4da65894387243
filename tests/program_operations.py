"""What random programs are made of.

Each operation takes a context and two arrays of any shape and any floating point type,
and returns an array or a tuple of arrays. Whatever it needs of its operands it makes
of them, so that every sequence of operations is a program. Results stay about as large
as operands: long programs shall not overflow.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

Array = jax.Array
T = TypeVar("T")


class Leaves(Protocol):
    """Arrays that operations ask for; they become arguments of the program."""

    def weight(self, number: int, shape: tuple[int, ...]) -> Array: ...
    def integers(self, number: int, shape: tuple[int, ...], high: int) -> Array: ...
    def key(self, number: int) -> Array: ...


@dataclasses.dataclass
class Context:
    """What an operation knows besides its operands.

    Attributes:
        leaves: where weights come from.
        choice: a number that holds all smaller decisions.
        body: runs the operations inside this one on a list of values, and returns the
            last value.
    """

    leaves: Leaves
    choice: int
    body: Callable[[Sequence[Array]], Array]

    def pick(self, options: Sequence[T]) -> T:
        """Decide; choice 0 takes the first options."""
        self.choice, index = divmod(self.choice, len(options))
        return options[index]

    def weight(self, *shape: int) -> Array:
        """A weight; the same one for equal shapes, more often than not."""
        return self.leaves.weight(self.pick((0, 1)), shape)


Operation = Callable[[Context, Array, Array], Array | tuple[Array, ...]]
OPERATIONS: dict[str, Operation] = {}
WITH_BODY: set[str] = set()


def operation(function: Operation) -> Operation:
    """Add an operation to the table."""
    OPERATIONS[function.__name__] = function
    return function


def with_body(function: Operation) -> Operation:
    """Add an operation that holds others."""
    WITH_BODY.add(function.__name__)
    return operation(function)


# --- shapes and types -----------------------------------------------------------------


def fit(x: Array, like: Array) -> Array:
    """`x` in the shape and type of another array; entries repeated or left out."""
    if x.shape != like.shape:
        try:
            x = jnp.broadcast_to(x, like.shape)
        except ValueError:
            x = jnp.resize(x, like.shape)
    return x.astype(like.dtype)


def rows(x: Array) -> Array:
    """`x` with one axis at least."""
    return x.reshape(1) if x.ndim == 0 else x


def matrix(x: Array) -> Array:
    """`x` as a matrix; its last axis stays."""
    x = rows(x)
    return x.reshape(-1, x.shape[-1])


def single(x: Array) -> Array:
    """`x` in float32 at least, for what is not there for smaller types."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def small(x: Array) -> Array:
    """At most 128 entries of `x`."""
    while x.size > 128:
        axis = max(range(x.ndim), key=lambda i: x.shape[i])
        x = lax.slice_in_dim(x, 0, x.shape[axis] // 2, axis=axis)
    return x


def axis_of(c: Context, x: Array) -> int:
    return c.pick(range(x.ndim))


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


# --- loops ----------------------------------------------------------------------------

LENGTH = 3


@with_body
def scan_time(c: Context, x: Array, y: Array) -> Array | tuple[Array, ...]:
    """Over the rows of an array; a carry; results of each step, or none used."""
    xs = rows(x)
    closed_over = y

    def step(carry: Array, x: Array) -> tuple[Array, Any]:
        new = fit(c.body([closed_over, x, carry]), carry)
        return new, (jnp.sum(jnp.sin(new)), new)

    if c.pick((False, True)):
        step = jax.checkpoint(step)
    reverse, unroll = c.pick((False, True)), c.pick((1, 1, 2))
    start = fit(y, xs[0])
    last, (sums, all_of) = lax.scan(step, start, xs, reverse=reverse, unroll=unroll)
    return c.pick((last, (last, sums), (all_of,), (sums, all_of, last)))


@with_body
def scan_layers(c: Context, x: Array, y: Array) -> Array:
    """Over weights, as deep networks are written."""
    x = matrix(x)
    n = x.shape[-1]
    weights = {"w": c.weight(LENGTH, n, n), "b": c.weight(LENGTH, n)}

    def layer(carry: Array, leaf: dict[str, Array]) -> tuple[Array, None]:
        h = jnp.tanh(carry @ leaf["w"].astype(carry.dtype))
        h = h + leaf["b"].astype(carry.dtype)[None]
        return carry + fit(c.body([carry, h]), carry), None

    if c.pick((False, True)):
        layer = jax.checkpoint(layer)
    return lax.scan(layer, x, weights, reverse=c.pick((False, True)))[0]


@with_body
def scan_carries(c: Context, x: Array, y: Array) -> Array | tuple[Array, ...]:
    """Several carries, an integer and a key among them; nothing scanned over."""

    def step(carry: tuple[Any, ...], _: None) -> tuple[Any, Any]:
        a, b, count, key = carry
        key, use = jax.random.split(key)
        noise = jax.random.uniform(use, a.shape, a.dtype)
        new = fit(c.body([b, a]), a) + 0.1 * noise + 0.1 * count.astype(a.dtype)
        return (new, fit(a, b), count + 1, key), (count, jnp.mean(new))

    start = (x, y, jnp.int32(0), c.leaves.key(1))
    (a, b, count, _), (counts, means) = lax.scan(step, start, None, LENGTH)
    last = a * count.astype(a.dtype)
    return c.pick((last, (last, b), (means, last), counts.astype(a.dtype) * means))


@with_body
def scan_constant_carry(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    """A carry that stays as it is, one that nobody reads, xs that are integers."""
    xs: Any = (jnp.arange(LENGTH), np.linspace(0, 1, LENGTH, dtype=np.float32))

    def step(carry: tuple[Array, ...], x: tuple[Array, Array]) -> tuple[Any, Any]:
        fixed, moving, ignored = carry
        scale = x[1].astype(moving.dtype) + (x[0] % 2).astype(moving.dtype)
        new = fit(c.body([fixed, moving * scale]), moving)
        return (fixed, new, jnp.sin(ignored)), fixed

    (fixed, last, _), copies = lax.scan(step, (y, x, x), xs)
    return fixed, copies, last


@with_body
def fori(c: Context, x: Array, y: Array) -> Array:
    def step(i: Array, x: Array) -> Array:
        return fit(c.body([y, x]), x) * (1 + 0.1 * i.astype(x.dtype))

    return lax.fori_loop(0, c.pick((LENGTH, 1)), step, x)


@with_body
def map_rows(c: Context, x: Array, y: Array) -> Array:
    size = c.pick((None, 2))
    return lax.map(lambda row: c.body([y, row]), rows(x), batch_size=size)


@with_body
def while_stopped(c: Context, x: Array, y: Array) -> Array:
    """A loop without a gradient, whose length is not known."""
    start = lax.stop_gradient(jnp.mean(jnp.abs(single(c.body([y, x])))) + 1)
    size = lax.while_loop(lambda s: s > 0.5, lambda s: s / 2, start)
    return x * size.astype(x.dtype)


@with_body
def cond(c: Context, x: Array, y: Array) -> Array:
    known = c.leaves.integers(0, (), 2) > 0
    flag = c.pick((known, jnp.sum(single(x)) > 0.5))
    branches = (lambda x: fit(c.body([y, x]), x), lambda x: jnp.sin(x) * fit(y, x))
    return lax.cond(flag, *c.pick((branches, branches[::-1])), x)


@with_body
def switch(c: Context, x: Array, y: Array) -> Array:
    branches = [lambda x: fit(c.body([y, x]), x), jnp.cos, lambda x: x * fit(y, x)]
    return lax.switch(c.leaves.integers(c.pick((0, 1)), (), 3), branches, x)


# --- transformations ------------------------------------------------------------------

POLICIES = jax.checkpoint_policies


@with_body
def nested_jit(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    """A compiled part, called twice; some of its results are its operands."""
    part = jax.jit(lambda a, b: (c.body([b, a]), a, b), inline=c.pick((False, True)))
    first, again, other = part(x, y)
    if c.pick((False, True)):
        return first, part(fit(first, x), other)[0]
    return again, first


@with_body
def checkpoint(c: Context, x: Array, y: Array) -> Array:
    policy = c.pick(
        (
            None,
            POLICIES.nothing_saveable,
            POLICIES.dots_saveable,
            POLICIES.everything_saveable,
            POLICIES.save_only_these_names("hidden"),
        )
    )
    part = jax.checkpoint(lambda x, y: c.body([y, x]), policy=policy)
    return part(x, y)


@with_body
def vmap(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    if c.pick((False, True)):
        others = fit(y, x)
        return jax.vmap(lambda a, b: c.body([b, a]))(x, others)
    return jax.vmap(lambda row: c.body([y, row]))(x)


@with_body
def gradient_inside(c: Context, x: Array, y: Array) -> Array:
    def energy(x: Array) -> Array:
        return jnp.sum(jnp.sin(single(c.body([y, x]))))

    force = jax.grad(energy)(x)
    return c.pick((force, x - 0.1 * force))


@with_body
def vjp_inside(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    out, pullback = jax.vjp(lambda x: c.body([y, x]), x)
    (back,) = pullback(jnp.tanh(out))
    return out, back


@jax.custom_jvp
def steep(x: Array) -> Array:
    """Its derivative is another than it looks: shows whether the rule is used."""
    return jnp.sin(x)


@steep.defjvp
def _steep_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return jnp.sin(primals[0]), 2 * jnp.exp(-(primals[0] ** 2)) * tangents[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lean_norm(x: Array, epsilon: float) -> Array:
    """A norm whose backward rule reads its result instead of its operand."""
    return _lean_norm_forward(x, epsilon)[0]


def _lean_norm_forward(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    scale = lax.rsqrt(jnp.mean(x * x) + epsilon)
    return x * scale, (x * scale, scale)


def _lean_norm_backward(
    epsilon: float, kept: tuple[Array, Array], g: Array
) -> tuple[Array]:
    y, scale = kept
    return ((scale * (g - y * jnp.mean(g * y))).astype(y.dtype),)


lean_norm.defvjp(_lean_norm_forward, _lean_norm_backward)


@jax.custom_vjp
def pick_rows(x: Array, places: Array) -> Array:
    """A rule of its own with integers among what it keeps."""
    return x[places]


pick_rows.defvjp(
    lambda x, places: (x[places], (places, x)),
    lambda kept, g: (jnp.zeros_like(kept[1]).at[kept[0]].add(jnp.sin(g)), None),
)


@operation
def custom(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    kind = c.pick(("jvp", "vjp", "vjp_integers"))
    if kind == "jvp":
        return steep(x)
    if kind == "vjp":
        return lean_norm(x, 0.1)
    return pick_rows(x, c.leaves.integers(c.pick((0, 1)), (4,), x.shape[0]))
