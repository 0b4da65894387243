"""Products, convolutions, attention."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from zoo_case import Array, case, integers, normal, weight

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
