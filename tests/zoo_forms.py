"""Normalizations, derivatives of one's own, reductions, indices, shapes."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from zoo_case import Array, case, integers, normal, weight
from zoo_dense import conv

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
