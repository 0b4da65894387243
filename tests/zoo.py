"""Small functions of every kind, for contracts that hold for any JAX function.

Each runs under strict dtype promotion, has several expensive operations in sequence
where its kind allows it, and compiles in a fraction of a second.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, arguments to call it with, and which of them have a gradient.

    Attributes:
        name: the function's name.
        fn: returns a float scalar or any tree of arrays; with `has_aux`, a pair.
        args: example arguments.
        argnums: the arguments to differentiate.
        has_aux: whether the second result has no gradient.
        rtol: largest error allowed, relative to the largest entry of each array.
    """

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: tuple[int, ...] = (0,)
    has_aux: bool = False
    rtol: float = 1e-5


CASES: list[Case] = []
_seeds = itertools.count()


def case(
    *args: Any,
    argnums: tuple[int, ...] = (0,),
    has_aux: bool = False,
    rtol: float = 1e-5,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the decorated function to `CASES`."""

    def add(fn: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(fn.__name__, fn, args, argnums, has_aux, rtol))
        return fn

    return add


def normal(*shape: int, scale: float = 1.0, dtype: Any = jnp.float32) -> Array:
    """Normal numbers, another draw at each call, the same every run."""
    draw = np.random.default_rng(next(_seeds)).normal(size=shape) * scale
    return jnp.asarray(draw, dtype)


def weight(*shape: int) -> Array:
    """Weights that keep the size of what they multiply; last axis is the output."""
    return normal(*shape, scale=float(np.prod(shape[:-1])) ** -0.5)


def integers(high: int, *shape: int) -> Array:
    draw = np.random.default_rng(next(_seeds)).integers(high, size=shape)
    return jnp.asarray(draw, jnp.int32)


# --- dense ----------------------------------------------------------------------------


@case(normal(8, 16), weight(16, 16), weight(16, 16), weight(16, 1), argnums=(1, 2, 3))
def mlp_tanh(x: Array, w1: Array, w2: Array, w3: Array) -> Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w1) @ w2) @ w3)


@case(
    {f"layer{i}": {"w": weight(12, 12), "b": normal(12)} for i in range(4)},
    normal(6, 12),
    argnums=(0, 1),
)
def mlp_gelu(params: dict[str, dict[str, Array]], x: Array) -> Array:
    for layer in params.values():
        x = jax.nn.gelu(x @ layer["w"] + layer["b"][None])
    return jnp.mean(x**2)


@case(weight(16, 16), normal(4, 16))
def shared_weights(w: Array, x: Array) -> Array:
    for _ in range(5):
        x = jnp.sin(x @ w)
    return jnp.sum(x)


@case([weight(16, 16) for _ in range(6)], normal(4, 16), argnums=(0, 1))
def residual_mlp(weights: list[Array], x: Array) -> Array:
    for first, second in zip(weights[::2], weights[1::2], strict=True):
        x = x + jax.nn.silu(x @ first) @ second
    return jnp.sum(jnp.square(x))


@case(weight(8, 8), weight(8, 8), normal(4, 8), argnums=(0, 1, 2))
def linear_in_each(a: Array, b: Array, x: Array) -> Array:
    return jnp.sum((x @ a) @ b)


@case(normal(4, 8), weight(8, 8))
def residual_used_many_times(x: Array, w: Array) -> Array:
    h = jnp.tanh(x @ w)
    return jnp.sum(h * h * jnp.exp(h) + jnp.sin(h @ w) * h + (h @ w) @ h.T @ h)


@case(normal(3, 4, 5), normal(5, 6), normal(4, 6, 7), argnums=(0, 1, 2))
def einsum_chain(a: Array, b: Array, c: Array) -> Array:
    d = jnp.tanh(jnp.einsum("ijk,kl->ijl", a, b))
    e = jnp.tanh(jnp.einsum("ijl,jlm->im", d, c))
    return jnp.einsum("im,im->", e, e)


# --- convolutional --------------------------------------------------------------------


def conv(x: Array, w: Array, stride: int = 1, **kwargs: Any) -> Array:
    """Channels-last convolution in as many dimensions as `x` has spatial axes."""
    space = "DHW"[-(x.ndim - 2) :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    strides = (stride,) * len(space)
    return lax.conv_general_dilated(
        x, w, strides, "SAME", dimension_numbers=numbers, **kwargs
    )


@case(weight(3, 2, 4), weight(3, 4, 4), weight(5, 4, 1), normal(2, 12, 2))
def conv_1d(w1: Array, w2: Array, w3: Array, x: Array) -> Array:
    x = jax.nn.relu(conv(x, w1))
    x = jax.nn.relu(conv(x, w2, stride=2))
    return jnp.sum(conv(x, w3) ** 2)


@case(
    weight(3, 3, 2, 4),
    weight(3, 3, 4, 4),
    weight(3, 3, 1, 4),
    normal(2, 8, 8, 2),
    argnums=(0, 1, 2, 3),
)
def conv_2d_strided_dilated_grouped(w1: Array, w2: Array, w3: Array, x: Array) -> Array:
    x = jax.nn.softplus(conv(x, w1, stride=2))
    x = jax.nn.softplus(conv(x, w2, rhs_dilation=(2, 2)))
    x = jax.nn.softplus(conv(x, w3, feature_group_count=4))
    return jnp.mean(x)


@case([weight(3, 3, 3, 2, 2) for _ in range(3)], normal(1, 6, 6, 6, 2), argnums=(0, 1))
def conv_3d_instance_norm(weights: list[Array], x: Array) -> Array:
    for w in weights:
        x = conv(x, w)
        x = x - jnp.mean(x, axis=(1, 2, 3), keepdims=True)
        x = x * lax.rsqrt(jnp.mean(x**2, axis=(1, 2, 3), keepdims=True) + 1e-3)
        x = jax.nn.leaky_relu(x)
    return jnp.sum(x * jnp.cos(x))


@case(weight(2, 2, 3, 2), weight(3, 3, 2, 3), normal(1, 8, 8, 2), argnums=(0, 1, 2))
def transposed_convolution(up: Array, down: Array, x: Array) -> Array:
    x = jnp.tanh(conv(x, down, stride=2))
    x = jnp.tanh(lax.conv_transpose(x, up, (2, 2), "SAME"))
    return jnp.sum(conv(x, down) ** 2)


def unet_params(width: int) -> dict[str, Array]:
    return {
        "stem": weight(3, 3, 1, width),
        "down": weight(3, 3, width, 2 * width),
        "bottom": weight(3, 3, 2 * width, 2 * width),
        "up": weight(2, 2, 2 * width, width),
        "merge": weight(3, 3, 2 * width, width),
        "head": weight(1, 1, width, 2),
    }


@case(unet_params(4), normal(1, 8, 8, 1), integers(2, 1, 8, 8))
def unet(params: dict[str, Array], x: Array, labels: Array) -> Array:
    skip = jax.nn.relu(conv(x, params["stem"]))
    x = jax.nn.relu(conv(skip, params["down"], stride=2))
    x = jax.nn.relu(conv(x, params["bottom"]))
    x = lax.conv_transpose(x, params["up"], (2, 2), "SAME")
    x = jnp.concatenate([x, skip], axis=-1)
    x = jax.nn.relu(conv(x, params["merge"]))
    p = jax.nn.softmax(conv(x, params["head"]))
    truth = jax.nn.one_hot(labels, 2)
    overlap = 2 * jnp.sum(p * truth, (0, 1, 2))
    return 1 - jnp.mean(overlap / (jnp.sum(p + truth, (0, 1, 2)) + 1.0))


@case(weight(3, 3, 1, 3), normal(1, 8, 8, 1), argnums=(0, 1))
def pooling(w: Array, x: Array) -> Array:
    x = conv(x, w)
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = lax.reduce_window(jnp.tanh(x), 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return jnp.sum(jnp.exp(x))


@case(normal(8, 8), jnp.float32(0.1), argnums=(0, 1))
def diffusion_steps(field: Array, rate: Array) -> Array:
    for _ in range(4):
        shifted = [jnp.roll(field, s, axis) for s in (-1, 1) for axis in (0, 1)]
        field = field + rate * (sum(shifted, -4.0 * field) + jnp.tanh(field))
    return jnp.sum(field**2)


# --- attention and recurrent ----------------------------------------------------------


@case(normal(6, 8), [weight(8, 8) for _ in range(4)], argnums=(0, 1))
def causal_attention(x: Array, weights: list[Array]) -> Array:
    q, k, v = (x @ w for w in weights[:3])
    scores = q @ k.T / jnp.sqrt(8.0)
    visible = jnp.tril(jnp.ones((6, 6), bool))
    attention = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
    return jnp.sum((attention @ v @ weights[3]) ** 2)


@case(normal(1, 5, 2, 4), normal(1, 5, 2, 4), normal(1, 5, 2, 4), argnums=(0, 1, 2))
def multi_head_attention(q: Array, k: Array, v: Array) -> Array:
    out = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return jnp.sum(jax.nn.dot_product_attention(out, k, jnp.tanh(v)) ** 2)


def rms_norm(x: Array, gain: Array) -> Array:
    return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * gain[None]


@case(
    {
        "gain": [normal(8), normal(8)],
        "attention": [weight(8, 8) for _ in range(4)],
        "gate": weight(8, 16),
        "up": weight(8, 16),
        "down": weight(16, 8),
    },
    normal(5, 8),
    argnums=(0, 1),
)
def transformer_block(params: dict[str, Any], x: Array) -> Array:
    wq, wk, wv, wo = params["attention"]
    h = rms_norm(x, params["gain"][0])
    x = x + jax.nn.softmax((h @ wq) @ (h @ wk).T) @ (h @ wv) @ wo
    h = rms_norm(x, params["gain"][1])
    x = x + (jax.nn.silu(h @ params["gate"]) * (h @ params["up"])) @ params["down"]
    return jnp.mean(x**2)


@case(weight(4, 16), weight(4, 16), normal(5, 3, 4), argnums=(0, 1, 2))
def lstm_unrolled(w: Array, u: Array, xs: Array) -> Array:
    hidden = cell = jnp.zeros((3, 4))
    for x in xs:
        i, f, g, o = jnp.split(x @ w + hidden @ u, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return jnp.sum(hidden)


@case(normal(6, 4), weight(4, 3), weight(3, 4, 4), argnums=(0, 1, 2))
def mixture_of_experts(x: Array, router: Array, experts: Array) -> Array:
    gates, chosen = lax.top_k(jax.nn.softmax(x @ router), 2)
    dispatch = jax.nn.one_hot(chosen, 3) * gates[..., None]
    h = jnp.tanh(jnp.einsum("bd,edf->bef", x, experts))
    return jnp.sum(jnp.einsum("bke,bef->bf", dispatch, h) ** 2)


# --- normalization and custom derivatives ---------------------------------------------


@case(normal(4, 8), normal(8), normal(8), weight(8, 8), argnums=(0, 1, 2, 3))
def layer_norm(x: Array, gain: Array, bias: Array, w: Array) -> Array:
    for _ in range(2):
        mean = jnp.mean(x, -1, keepdims=True)
        spread = jnp.std(x, -1, keepdims=True) + 1e-3
        x = ((x - mean) / spread * gain[None] + bias[None]) @ w
    return jnp.sum(x * x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lean_norm(x: Array, epsilon: float) -> Array:
    """Instance norm whose backward rule needs only its output and the scale."""
    return _lean_norm_forward(x, epsilon)[0]


def _lean_norm_forward(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    centered = x - jnp.mean(x, (1, 2), keepdims=True)
    scale = lax.rsqrt(jnp.mean(centered**2, (1, 2), keepdims=True) + epsilon)
    return centered * scale, (centered * scale, scale)


def _lean_norm_backward(
    epsilon: float, residuals: tuple[Array, Array], g: Array
) -> tuple[Array]:
    del epsilon
    y, scale = residuals
    mean = functools.partial(jnp.mean, axis=(1, 2), keepdims=True)
    return (scale * (g - mean(g) - y * mean(g * y)),)


lean_norm.defvjp(_lean_norm_forward, _lean_norm_backward)


@case(normal(1, 6, 6, 2), [weight(3, 3, 2, 2) for _ in range(3)], argnums=(0, 1))
def instance_norm_custom_vjp(x: Array, weights: list[Array]) -> Array:
    for w in weights:
        x = jax.nn.elu(lean_norm(conv(x, w), 1e-3))
    return jnp.sum(x**2)


@case(
    weight(8, 8), {"mean": normal(8), "var": normal(8) ** 2}, normal(6, 8), has_aux=True
)
def batch_norm_with_state(
    w: Array, state: dict[str, Array], x: Array
) -> tuple[Array, dict[str, Array]]:
    h = jnp.tanh(x @ w)
    mean, var = jnp.mean(h, 0), jnp.var(h, 0)
    now = {"mean": mean, "var": var}
    state = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, state, now)
    h = (h - mean[None]) * lax.rsqrt(var[None] + 1e-3)
    return jnp.sum(jnp.tanh(h @ w)), state


@case(normal(4, 8), weight(8, 8), argnums=(0, 1))
def library_custom_jvps(x: Array, w: Array) -> Array:
    for activation in (jax.nn.relu, jax.nn.softplus, jax.nn.relu6, jax.nn.log_sigmoid):
        x = activation(x @ w)
    return jnp.sum(x) + jax.nn.logsumexp(x)


@jax.custom_jvp
def steep(x: Array) -> Array:
    """Its derivative is not the derivative: shows whether the rule is used."""
    return jnp.sin(x)


@steep.defjvp
def _steep_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (t,) = primals, tangents
    return jnp.sin(x), 10.0 * jnp.exp(-(x**2)) * t


@case(normal(4, 8), weight(8, 8), argnums=(0, 1))
def custom_jvp(x: Array, w: Array) -> Array:
    return jnp.sum(steep(steep(x @ w) @ w) ** 2)


@jax.custom_vjp
def clip_gradient(x: Array, rows: Array) -> Array:
    return x[rows]


clip_gradient.defvjp(
    lambda x, rows: (x[rows], (rows, x)),
    lambda kept, g: (jnp.zeros_like(kept[1]).at[kept[0]].add(jnp.clip(g, -1, 1)), None),
)


@case(normal(6, 8), weight(8, 8), integers(6, 5), argnums=(0, 1))
def custom_vjp_of_integers(x: Array, w: Array, rows: Array) -> Array:
    return jnp.sum((clip_gradient(jnp.tanh(x @ w), rows) @ w) ** 2)


# --- reductions, indexing, shapes -----------------------------------------------------


@case(normal(4, 6), weight(6, 5), integers(5, 4), argnums=(0, 1))
def cross_entropy(x: Array, w: Array, labels: Array) -> Array:
    logits = jnp.tanh(x @ w) * 3.0
    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked)


@case(normal(4, 6), weight(6, 6))
def cumulative(x: Array, w: Array) -> Array:
    y = jnp.cumsum(x @ w, axis=1)
    z = jnp.cumprod(jnp.cos(y) + 1.5, axis=0)
    return jnp.sum(lax.cumlogsumexp(z @ w, axis=1)) + jnp.sum(lax.cummax(y, axis=1))


@case(normal(4, 6), weight(6, 6))
def sort_and_top_k(x: Array, w: Array) -> Array:
    values, places = lax.top_k(jnp.sort(x @ w, axis=1), 3)
    order = jnp.argsort(x[:, 0])
    return jnp.sum(values**3 * places.astype(x.dtype)) + jnp.sum(
        jnp.tanh((x @ w)[order]) * x
    )


@case(normal(4, 6), weight(6, 6))
def extremes(x: Array, w: Array) -> Array:
    y = x @ w
    z = jnp.clip(y, -0.5, 0.5) + jnp.maximum(y, x) * jnp.minimum(y, 0.0) + jnp.abs(y)
    return jnp.sum(jnp.max(z @ w, 1) * jnp.min(z, 1)) + jnp.sum(jnp.round(y) * y)


@case(normal(10, 4), weight(4, 4), integers(10, 3, 5), argnums=(0, 1))
def embedding(table: Array, w: Array, tokens: Array) -> Array:
    x = jnp.tanh(table[tokens] @ w)
    return jnp.sum((x @ table.T) ** 2)


@case(normal(6, 4), weight(4, 4), integers(6, 5), argnums=(0, 1))
def scatters(x: Array, w: Array, rows: Array) -> Array:
    x = x.at[rows].add(jnp.tanh(x[rows] @ w))
    x = x.at[0].set(2.0 * x[1]).at[2:4].multiply(x[0:2])
    return jnp.sum(x.at[rows, 0].max(0.3) @ w)


@case(normal(7, 4), weight(4, 4), integers(7, 12), integers(7, 12), argnums=(0, 1))
def message_passing(nodes: Array, w: Array, sources: Array, sinks: Array) -> Array:
    for _ in range(3):
        messages = jnp.tanh(nodes[sources] @ w)
        nodes = nodes + jax.ops.segment_sum(messages, sinks, num_segments=7)
    return jnp.sum(jax.ops.segment_max(nodes[sources], sinks, num_segments=7) ** 2)


@case(normal(4, 6), weight(6, 6))
def concatenate_and_split(x: Array, w: Array) -> Array:
    a, b = jnp.split(jnp.tanh(x @ w), 2, axis=1)
    c = jnp.concatenate([b, a * b, a], axis=1)
    d = jnp.stack([c[:, :6] @ w, c[:, 3:] @ w])
    return jnp.sum(jnp.transpose(d, (1, 0, 2)).reshape(4, 12) ** 2)


@case(normal(6, 6), weight(6, 6), jnp.int32(2), argnums=(0, 1))
def pad_and_dynamic_slice(x: Array, w: Array, start: Array) -> Array:
    x = jnp.pad(jnp.tanh(x @ w), ((1, 1), (0, 2)), mode="reflect")
    x = lax.dynamic_slice(x, (start, start), (4, 6)) @ w
    x = lax.dynamic_update_slice(jnp.ones((5, 7)), x, (start, start))
    return jnp.sum(lax.rev(x, (0,))[:4] * x[::-1][:4] + jnp.exp(x[1:, :]))


@case(normal(4, 6), weight(6, 6))
def where_safe_from_nan(x: Array, w: Array) -> Array:
    y = x @ w
    safe = jnp.where(y > 0, y, 1.0)
    return jnp.sum(jnp.where(y > 0, jnp.sqrt(safe) * jnp.log(safe), 0.0) @ w)


@case(normal(4, 0), normal(4, 3), argnums=(0, 1))
def empty_arrays(nothing: Array, x: Array) -> Array:
    x = jnp.concatenate([nothing, jnp.sin(x)], axis=1)
    return jnp.sum(x @ x.T) + jnp.sum(nothing)


@case(
    normal(0, 4),
    weight(4, 4),
    normal(1, 6, 6, 0),
    normal(3, 3, 0, 2),
    argnums=(0, 1, 2, 3),
)
def empty_products(nothing: Array, w: Array, image: Array, kernel: Array) -> Array:
    loop = lax.scan(lambda w, x: (jnp.tanh(w @ w) + jnp.sum(x), None), w, nothing)[0]
    attention = jax.nn.softmax(nothing @ w @ nothing.T) @ nothing
    features = jnp.tanh(conv(image, kernel))
    return jnp.sum(loop) + jnp.sum(jnp.tanh(attention @ w)) + jnp.sum(features @ w[:2])


@case(jnp.float32(0.7), jnp.float32(-1.2), argnums=(0, 1))
def scalars_only(x: Array, y: Array) -> Array:
    return jnp.sin(x * y) * jnp.exp(x) + jnp.arctan2(x, y)


@case(normal(4, 4), weight(4, 4))
def special_functions(x: Array, w: Array) -> Array:
    y = jax.scipy.special.erf(x @ w) + jnp.log1p(x**2)
    return jnp.sum(jax.scipy.special.gammaln(2.0 + (y @ w) ** 2) * jnp.sinc(y))


# --- kernels --------------------------------------------------------------------------


def _blocks(x: Any, w: Any, out: Any) -> None:
    out[...] = jnp.tanh(x[...]) @ w[...]


def _kernel(x: Array, w: Array) -> Array:
    """A product in blocks of two rows that may write over its first operand."""
    rows = pl.BlockSpec((2, x.shape[1]), lambda i: (i, 0))
    return pl.pallas_call(
        _blocks,
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(x.shape[0] // 2,),
        in_specs=[rows, pl.BlockSpec(w.shape, lambda i: (0, 0))],
        out_specs=rows,
        input_output_aliases={0: 0},
        interpret=True,
    )(x, w)


@jax.custom_vjp
def tanh_product(x: Array, w: Array) -> Array:
    return _kernel(x, w)


def _tanh_product_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = saved
    y = jnp.tanh(x)
    return (g @ w.T) * (1 - y**2), y.T @ g


tanh_product.defvjp(lambda x, w: (_kernel(x, w), (x, w)), _tanh_product_backward)


@case(weight(8, 8), normal(4, 8), argnums=(0, 1))
def pallas_kernels(w: Array, x: Array) -> Array:
    x = tanh_product(tanh_product(x, w), w)
    batch = jax.vmap(tanh_product, (0, None))(jnp.stack([x, jnp.sin(x)]), w)
    loop = lax.scan(lambda x, _: (tanh_product(x, w), jnp.sum(x)), x, length=3)
    return jnp.sum(batch**2) + jnp.sum(loop[0]) + jnp.sum(loop[1] ** 2)


@case([weight(3, 8, 8) for _ in range(3)], normal(6, 8), argnums=(0, 1))
def grouped_products(weights: list[Array], x: Array) -> Array:
    sizes = jnp.array([4, 0, 2])
    for w in weights:
        x = jax.nn.silu(lax.ragged_dot(x, w, sizes))
    return jnp.mean(x**2)


# --- control flow ---------------------------------------------------------------------


@case(weight(6, 6), weight(6, 6), normal(5, 2, 6), argnums=(0, 1, 2))
def scan_over_time(w: Array, u: Array, xs: Array) -> Array:
    def step(hidden: Array, x: Array) -> tuple[Array, Array]:
        hidden = jnp.tanh(x @ w + hidden @ u)
        return hidden, jnp.sum(hidden)

    last, sums = lax.scan(step, jnp.zeros((2, 6)), xs)
    return jnp.sum(jnp.tanh(last @ w)) + jnp.sum(sums**2)


@case(weight(5, 6, 6), normal(2, 6), argnums=(0, 1))
def scan_over_layers(weights: Array, x: Array) -> Array:
    layer = jax.checkpoint(lambda x, w: (x + jnp.tanh(x @ w), None))
    x, _ = lax.scan(layer, x, weights, reverse=True)
    return jnp.sum(x**2)


@case(weight(6, 6), normal(2, 6), argnums=(0, 1))
def fori_loop(w: Array, x: Array) -> Array:
    x = jnp.tanh(x @ w)
    x = lax.fori_loop(0, 4, lambda i, x: jnp.sin(x @ w) + i.astype(x.dtype), x)
    return jnp.sum((x @ w) ** 2)


@case(weight(6, 6), normal(2, 6))
def while_loop_without_gradient(w: Array, x: Array) -> Array:
    size = lax.stop_gradient(jnp.sum(jnp.abs(x @ w)))
    size = lax.while_loop(lambda s: s > 1.0, lambda s: s / 2, size)
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w * size))


@case(weight(6, 6), normal(2, 6), jnp.bool_(True), argnums=(0, 1))
def cond(w: Array, x: Array, flag: Array) -> Array:
    x = jnp.tanh(x @ w)
    x = lax.cond(flag, lambda x: jnp.sin(x @ w), lambda x: x * 2.0, x)
    x = lax.cond(jnp.sum(x) > 1e6, lambda x: x @ w, jnp.cos, x)
    return jnp.sum(x @ w)


@case(weight(6, 6), normal(2, 6), jnp.int32(1))
def switch(w: Array, x: Array, branch: Array) -> Array:
    branches = [jnp.tanh, lambda x: x @ w, lambda x: -x]
    return jnp.sum(lax.switch(branch, branches, x @ w) ** 2)


@case(normal(3, 6), weight(6, 6), argnums=(0, 1))
def map_over_rows(x: Array, w: Array) -> Array:
    return jnp.sum(lax.map(lambda row: jnp.tanh(jnp.tanh(row @ w) @ w), x) ** 2)


@case(normal(8, 4), weight(4, 4))
def associative_scan(x: Array, w: Array) -> Array:
    gates = jax.nn.sigmoid(x @ w)

    def combine(
        left: tuple[Array, Array], right: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    return jnp.sum(lax.associative_scan(combine, (gates, x))[1] @ w)


# --- transformations inside -----------------------------------------------------------


@jax.jit
def jitted_layer(x: Array, w: Array) -> Array:
    return jax.jit(jnp.tanh)(x @ w)


@case(normal(4, 6), weight(6, 6), argnums=(0, 1))
def nested_jit(x: Array, w: Array) -> Array:
    return jnp.sum(jitted_layer(jitted_layer(jitted_layer(x, w), w), w))


@case(normal(4, 6), weight(6, 6), argnums=(0, 1))
def checkpoint_inside(x: Array, w: Array) -> Array:
    def block(x: Array) -> Array:
        return jnp.tanh(checkpoint_name(jnp.sin(x @ w), "hidden") @ w)

    names = jax.checkpoint_policies.save_only_these_names("hidden")
    x = jax.checkpoint(block)(x)
    x = jax.checkpoint(block, policy=names)(x)
    return jnp.sum(block(x))


@case(normal(3, 4, 6), weight(6, 6), argnums=(0, 1))
def vmap_inside(x: Array, w: Array) -> Array:
    def one(x: Array) -> Array:
        return jnp.tanh(jnp.tanh(x @ w) @ w @ x.T)

    return jnp.sum(jax.vmap(one)(x) ** 2)


@case(normal(6), weight(6, 6), argnums=(0, 1))
def gradient_inside(x: Array, w: Array) -> Array:
    def energy(x: Array) -> Array:
        return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))

    force, curvature = jax.jvp(jax.grad(energy), (x,), (jnp.ones_like(x),))
    return jnp.sum(force**2) + jnp.sum(curvature**2)


@case(normal(4, 6), weight(6, 6))
def barriers_and_stopped_gradients(x: Array, w: Array) -> Array:
    h = lax.optimization_barrier(jnp.tanh(x @ w))
    return jnp.sum(jnp.tanh(h @ w) * lax.stop_gradient(h) + lax.stop_gradient(h @ w))


# --- linear algebra, complex numbers --------------------------------------------------


@case(normal(5, 5), normal(5, 2), argnums=(0, 1))
def cholesky_and_solve(a: Array, b: Array) -> Array:
    factor = jnp.linalg.cholesky(a @ a.T + 5.0 * jnp.eye(5))
    half = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
    return jnp.sum(half**2) + jnp.sum(jnp.log(jnp.diag(factor)))


@case(normal(5, 5), argnums=(0,))
def inverse_and_determinant(a: Array) -> Array:
    a = a @ a.T + 5.0 * jnp.eye(5)
    values = jnp.linalg.eigvalsh(a)
    sign, size = jnp.linalg.slogdet(a)
    return jnp.sum(jnp.tanh(jnp.linalg.inv(a) @ a @ a)) + sign * size + values[0]


@case(normal(6, 6), normal(6), argnums=(0, 1))
def conjugate_gradient(a: Array, b: Array) -> Array:
    spd = a @ a.T + 6.0 * jnp.eye(6)
    x, _ = jax.scipy.sparse.linalg.cg(lambda x: spd @ x, b, maxiter=20)
    return jnp.sum(jnp.sin(x))


@case(normal(4, 8), normal(8), argnums=(0, 1))
def fourier(x: Array, kernel: Array) -> Array:
    spectrum = jnp.fft.rfft(x) * jnp.fft.rfft(kernel)[None]
    y = jnp.tanh(jnp.fft.irfft(spectrum, n=8))
    return jnp.sum(jnp.abs(jnp.fft.fft2(y)) ** 2)


@case(normal(4, 4), normal(4, 4), argnums=(0, 1))
def complex_intermediate(real: Array, imaginary: Array) -> Array:
    z = lax.complex(real, imaginary)
    z = jnp.exp(1j * jnp.sin(z @ z.conj().T / 4.0)) @ z
    return jnp.sum(jnp.abs(z) ** 2) + jnp.sum(jnp.angle(z))


# --- types, trees, constants ----------------------------------------------------------


# bfloat16 has 8 bits of mantissa, and XLA keeps fused intermediate results in more:
# what is fused differs between a program and its rewrite.
@case(
    [normal(16, 16, scale=0.25) for _ in range(3)],
    normal(8, 16),
    argnums=(0, 1),
    rtol=2e-2,
)
def mixed_precision(weights: list[Array], x: Array) -> Array:
    h = x.astype(jnp.bfloat16)
    for w in weights:
        h = jnp.tanh(h @ w.astype(jnp.bfloat16))
    return jnp.mean(h.astype(jnp.float32) ** 2)


@case(normal(4, 8, dtype=jnp.float16), normal(8, 8, dtype=jnp.bfloat16), rtol=2e-2)
def half_precisions(x: Array, w: Array) -> Array:
    h = jnp.tanh(x @ (w / 3).astype(jnp.float16))
    return jnp.sum((h.astype(jnp.bfloat16) @ w).astype(jnp.float32) ** 2)


@case(
    normal(8, 16),
    weight(16, 16),
    jax.random.key(1),
    jnp.bool_(True),
    jnp.int32(3),
    argnums=(0, 1),
)
def dropout(x: Array, w: Array, key: Array, on: Array, count: Array) -> Array:
    for layer in range(3):
        key, use = jax.random.split(key)
        kept = jax.random.bernoulli(jax.random.fold_in(use, layer), 0.8, (8, 16))
        x = jnp.where(kept | ~on, jnp.tanh(x @ w), 0.0) / 0.8
    return jnp.sum(x * count.astype(jnp.float32))


@case(normal(4, 8), weight(8, 8), jax.random.PRNGKey(1))
def random_noise(x: Array, w: Array, key: Array) -> Array:
    noise = jax.random.normal(key, (4, 8))
    return jnp.sum(jnp.tanh((x + noise) @ w) * jax.random.uniform(key, (4, 8)))


class Layer(NamedTuple):
    w: Array
    b: Array | None


@case(
    {
        "first": Layer(weight(6, 6), None),
        "second": (Layer(weight(6, 6), normal(6)), []),
    },
    normal(4, 6),
    argnums=(0, 1),
)
def trees_of_many_kinds(params: dict[str, Any], x: Array) -> dict[str, Any]:
    first, (second, _) = params["first"], params["second"]
    h = jnp.tanh(x @ first.w)
    y = jnp.tanh(h @ second.w + second.b[None])
    return {"y": Layer(y, None), "sums": (jnp.sum(h), [jnp.sum(y * h)]), "none": None}


@case(normal(4, 6), weight(6, 6), integers(9, 3), argnums=(0, 1))
def outputs_that_are_inputs(x: Array, w: Array, n: Array) -> tuple[Array, ...]:
    h = jnp.tanh(x @ w)
    return x, h, h, w, n, jnp.sin(h @ w)


@case(normal(4, 6), weight(6, 6), normal(3), argnums=(0, 1, 2))
def unused_inputs(x: Array, w: Array, unused: Array) -> Array:
    del unused
    return jnp.sum(jnp.tanh(x) @ jnp.tanh(lax.stop_gradient(w)))


@case(normal(4, 6), weight(6, 6), argnums=(0, 1))
def vector_outputs(x: Array, w: Array) -> tuple[Array, Array, Array]:
    h = jnp.tanh(x @ w)
    return jnp.tanh(h @ w), jnp.argmax(h, axis=1), h > 0


@case(normal(4, 6), argnums=(0,))
def constant_outputs(x: Array) -> tuple[Array, Array, float]:
    return jnp.zeros(3), jnp.sum(jnp.tanh(x @ x.T)), 1.0


@case(weight(6, 6), normal(4, 6), has_aux=True)
def auxiliary_of_many_types(w: Array, x: Array) -> tuple[Array, dict[str, Any]]:
    h = jnp.tanh(x @ w)
    aux = {"h": h, "count": jnp.sum(h > 0), "w": w, "key": jax.random.key(0)}
    return jnp.sum(jnp.tanh(h @ w)), aux


CLOSED_OVER = weight(6, 6)


@case(normal(4, 6))
def closure_over_arrays(x: Array) -> Array:
    table = jnp.arange(6.0)[None]
    return jnp.sum(jnp.tanh(jnp.tanh(x @ CLOSED_OVER) @ CLOSED_OVER) * table)


@case(np.ones((4, 6), np.float32), np.full((6, 6), 0.1, np.float32), argnums=(0, 1))
def numpy_arrays(x: Array, w: Array) -> Array:
    pattern = np.linspace(0, 1, 6, dtype=np.float32)[None]
    return jnp.sum(jnp.tanh(jnp.tanh((x * pattern) @ w) @ w) * np.float32(2.0))


@case(2.0, normal(4, 6), 3, argnums=(0, 1))
def python_numbers(scale: float, x: Array, power: int) -> Array:
    return jnp.sum(jnp.tanh(scale * x) @ x.T) ** 2 + scale**power


# --- Flax -----------------------------------------------------------------------------


class Classifier(nn.Module):
    """Convolutions, norms and dense layers as Flax writes them."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in (4, 8):
            x = nn.Conv(width, (3, 3))(x)
            x = nn.relu(nn.GroupNorm(num_groups=2)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.gelu(nn.LayerNorm()(nn.Dense(8)(x.reshape(x.shape[0], -1))))
        return nn.Dense(3)(x)


@functools.cache
def classifier_params() -> Any:
    return jax.jit(Classifier().init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


@case(classifier_params(), normal(2, 8, 8, 1), integers(3, 2))
def flax_classifier(params: Any, images: Array, labels: Array) -> Array:
    logits = jnp.asarray(Classifier().apply(params, images))
    chosen = jax.nn.one_hot(labels, 3) * jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.sum(chosen, axis=1))


class BatchNormNet(nn.Module):
    """A model that changes state and uses random numbers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(2):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(6)(x))
            x = nn.Dropout(0.5, deterministic=False)(nn.relu(x))
        return x


@functools.cache
def batch_norm_net_variables() -> Any:
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.jit(BatchNormNet().init)(keys, jnp.zeros((1, 6)))


@case(
    batch_norm_net_variables()["params"],
    batch_norm_net_variables()["batch_stats"],
    normal(8, 6),
    jax.random.key(2),
    has_aux=True,
)
def flax_batch_norm_and_dropout(
    params: Any, stats: Any, x: Array, key: Array
) -> tuple[Array, Any]:
    variables = {"params": params, "batch_stats": stats}
    y, state = BatchNormNet().apply(
        variables, x, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    return jnp.mean(y**2), state["batch_stats"]
