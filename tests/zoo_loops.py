"""Kernels, loops, branches, transformations."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from zoo_case import Array, case, normal, weight

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
