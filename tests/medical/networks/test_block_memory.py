"""A plan stores half of what convolution, norm and activation leave, without a kernel.

A function of all three whose gradient makes the activation again would need as many
bytes: one array of features for each block, and one more while it runs.
"""

import jax
import jax.numpy as jnp

import jaxswap
from jaxswap.medical.networks.convolution import convolve
from jaxswap.medical.networks.instance_norm import instance_norm_leaky_relu

BLOCKS = 4
FEATURES = jax.ShapeDtypeStruct((1, 192, 192, 192, 16), jnp.bfloat16)
FEATURE_BYTES = 2 * 16 * 192**3


def loss(blocks: list[tuple[jax.Array, ...]], x: jax.Array) -> jax.Array:
    for kernel, scale, bias in blocks:
        x = instance_norm_leaky_relu(convolve(x, kernel), scale, bias)
    return jnp.sum(x.astype(jnp.float32) ** 2)


def test_a_plan_stores_half_of_each_block() -> None:
    numbers = jax.ShapeDtypeStruct((16,), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.float32)
    blocks = [(kernel, numbers, numbers)] * BLOCKS
    step = jax.value_and_grad(loss, argnums=(0, 1))
    plain = jaxswap.inspect(step, blocks, FEATURES, target="h200")
    assert plain.temp_bytes > 2 * BLOCKS * FEATURE_BYTES
    outside = plain.device_bytes - plain.temp_bytes
    plan = jaxswap.plan(
        loss,
        blocks,
        FEATURES,
        budget=outside + (BLOCKS + 1) * FEATURE_BYTES + 2**20,
        host_budget=0,
        argnums=(0, 1),
        target="h200",
        progress=False,
    )
    assert plan.compiled is not None
    assert plan.compiled.temp_bytes < (BLOCKS + 1) * FEATURE_BYTES + 2**20
    assert plan.seconds < 1.03 * plan.plain.seconds
