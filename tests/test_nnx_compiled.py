"""A loss wrapped by `jaxswap.nnx.offload` swaps in the program compiled for a GPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxswap
import jaxswap.nnx


def loss(model: Any, x: jax.Array) -> jax.Array:
    return jnp.sum(model(x) ** 2)


class Layers(nnx.Module):
    """Wide layers, so many that copies have work beside them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(1024, 1024, rngs=rngs) for _ in range(12)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


def test_the_program_for_a_gpu_swaps() -> None:
    structure, state = nnx.split(nnx.eval_shape(lambda: Layers(nnx.Rngs(0))))
    x = jax.ShapeDtypeStruct((8192, 1024), jnp.float32)

    def seen(loss: Callable[..., Any]) -> jaxswap.Evidence:
        def step(state: Any, x: jax.Array) -> Any:
            return nnx.value_and_grad(loss)(nnx.merge(structure, state), x)

        options = jaxswap.compiler_options()
        return jaxswap.inspect(step, state, x, target="h100", compiler_options=options)

    without, swapped = seen(loss), seen(jaxswap.nnx.offload(loss))
    assert without.host_bytes == 0
    assert swapped.host_bytes >= 8 * 8192 * 1024 * 4
    assert swapped.temp_bytes <= 0.6 * without.temp_bytes
    assert swapped.hidden_fraction == 1.0
