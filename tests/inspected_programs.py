"""Programs that swap by hand or by JAX's own policies, compiled for GPUs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxswap._inspect import Evidence, inspect

HOST, DEVICE = jax.memory.Space.Host, jax.memory.Space.Device
MIB = 2**20
LAYERS, WIDTH, ROWS = 5, 512, 2048
ACTIVATION = ROWS * WIDTH * 4
NO_OVERLAP = {"xla_gpu_enable_latency_hiding_scheduler": False}

Program = tuple[Callable[..., Any], tuple[Any, ...]]


def zeros(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


WEIGHTS = [zeros(WIDTH, WIDTH)] * LAYERS
BATCH = zeros(ROWS, WIDTH)


def chain(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for weight in weights:
        x = jnp.tanh(checkpoint_name(x @ weight, "product"))
    return jnp.sum(x)


def to_host(x: jax.Array, label: str) -> jax.Array:
    with jax.named_scope(f"swap_out({label})"):
        return jax.device_put(x, HOST)


def to_device(x: jax.Array, label: str) -> jax.Array:
    with jax.named_scope(f"swap_in({label})"):
        return jax.device_put(x, DEVICE)


@jax.custom_vjp
def swapped_chain(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    return chain(weights, x)


def swapped_forward(weights: list[jax.Array], x: jax.Array) -> Any:
    stored = []
    for index, weight in enumerate(weights):
        stored.append(to_host(x, f"input({index})"))
        x = jnp.tanh(x @ weight)
        if index:
            x, stored[-2] = jax.lax.optimization_barrier((x, stored[-2]))
    return jnp.sum(x), (weights, stored, x)


def swapped_backward(residuals: Any, cotangent: jax.Array) -> Any:
    weights, stored, y = residuals
    grads = []
    cotangent = jnp.broadcast_to(cotangent, y.shape)
    for index in reversed(range(len(weights))):
        cotangent, on_host = jax.lax.optimization_barrier((cotangent, stored[index]))
        x = to_device(on_host, f"input({index})")
        product = cotangent * (1.0 - y * y)
        cotangent = product @ weights[index].T
        grads.append(x.T @ product)
        y = x
    return grads[::-1], cotangent


swapped_chain.defvjp(swapped_forward, swapped_backward)


def policy(names: list[str]) -> Any:
    return jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=names,
        offload_src="device",
        offload_dst="pinned_host",
    )


def scanned(weights: jax.Array, x: jax.Array) -> jax.Array:
    def body(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(checkpoint_name(x @ weight, "product")), None

    body = jax.checkpoint(body, policy=policy(["product"]), prevent_cse=False)
    return jnp.sum(jax.lax.scan(body, x, weights)[0])


def swapped_scan(weights: jax.Array, x: jax.Array) -> Any:
    """Forward and backward loops that label their swaps."""

    def forward(x: jax.Array, weight: jax.Array) -> Any:
        return jnp.tanh(x @ weight), to_host(x, "carry")

    def backward(carry: Any, one: Any) -> Any:
        cotangent, y = carry
        weight, on_host = one
        x = to_device(on_host, "carry")
        product = cotangent * (1.0 - y * y)
        return (product @ weight.T, x), x.T @ product

    y, stored = jax.lax.scan(forward, x, weights)
    start = (jnp.ones_like(y), y)
    return jax.lax.scan(backward, start, (weights, stored), reverse=True)[1]


def convolved(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
    for kernel in kernels:
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1, 1, 1),
            padding="SAME",
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        )
        x = jax.nn.relu(checkpoint_name(x, "convolved"))
    return jnp.sum(x.astype(jnp.float32))


KERNELS = [zeros(3, 3, 3, 16, 16, dtype=jnp.bfloat16)] * 4
VOLUME = zeros(1, 32, 32, 32, 16, dtype=jnp.bfloat16)
STACKED = zeros(LAYERS, WIDTH, WIDTH)

PROGRAMS: dict[str, Program] = {
    "plain": (jax.grad(chain), (WEIGHTS, BATCH)),
    "swapped": (jax.grad(swapped_chain), (WEIGHTS, BATCH)),
    "policy": (
        jax.grad(jax.checkpoint(chain, policy=policy(["product"]))),
        (WEIGHTS, BATCH),
    ),
    "scan": (jax.grad(scanned), (STACKED, BATCH)),
    "swapped scan": (swapped_scan, (STACKED, BATCH)),
    "conv": (
        jax.grad(jax.checkpoint(convolved, policy=policy(["convolved"]))),
        (KERNELS, VOLUME),
    ),
}


@functools.cache
def seen(name: str, target: str = "h100") -> Evidence:
    fn, args = PROGRAMS[name]
    return inspect(fn, *args, target=target)


def directions(evidence: Evidence) -> list[str]:
    return [copy.direction for copy in evidence.copies]
