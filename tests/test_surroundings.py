"""What surrounds a piece of a function goes with it: random numbers, place, notes."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compute_on import compute_on
from jax.experimental.xla_metadata import set_xla_metadata

import jaxswap

X = jnp.linspace(-1.0, 1.0, 4)
KEY = jax.random.key(0)


def with_other_bits(x: jax.Array) -> jax.Array:
    """A loss whose random numbers are of both kinds."""
    with jax.threefry_partitionable(False):
        old = jax.random.normal(KEY, x.shape)
    return jnp.sum(jnp.sin(jnp.sin(x)) * old * jax.random.normal(KEY, x.shape))


def in_a_loop(x: jax.Array) -> jax.Array:
    def body(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        with jax.threefry_partitionable(False):
            noise = jax.random.normal(key, x.shape)
        return jnp.sin(x * noise), None

    return jnp.sum(jax.lax.scan(body, x, jax.random.split(KEY, 3))[0])


def in_a_checkpoint(x: jax.Array) -> jax.Array:
    return jax.checkpoint(with_other_bits)(x)


def on_the_host(x: jax.Array) -> jax.Array:
    x = jnp.sin(jnp.sin(x))
    if "out_memory_spaces" in inspect.signature(compute_on).parameters:  # JAX 0.12
        device = jax.memory.Space.Device
        on_host: Any = compute_on
        x = on_host(jnp.sin, compute_type="device_host", out_memory_spaces=device)(x)
    else:
        with compute_on("device_host"):
            x = jnp.sin(x)
    return jnp.sum(jnp.sin(x))


def with_a_note(x: jax.Array) -> jax.Array:
    x = jnp.sin(jnp.sin(x))
    with set_xla_metadata(key="value"):
        x = jnp.sin(x)
    return jnp.sum(jnp.sin(x))


@pytest.mark.parametrize("policy", [jaxswap.OFFLOAD, jaxswap.RECOMPUTE, jaxswap.KEEP])
@pytest.mark.parametrize("loss", [with_other_bits, in_a_loop, in_a_checkpoint])
@pytest.mark.parametrize("wrap", [lambda fn: fn, jax.jit])
def test_random_numbers_are_those_of_the_function(
    loss: Callable[[jax.Array], jax.Array],
    policy: jaxswap.Action,
    wrap: Callable[..., Callable[[jax.Array], jax.Array]],
) -> None:
    offloaded = jaxswap.offload(loss, policy=policy)
    found = wrap(jax.value_and_grad(offloaded))(X)
    expected = jax.value_and_grad(loss)(X)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "text"),
    [(on_the_host, "_xla_compute_type"), (with_a_note, 'key = "value"')],
)
def test_place_and_notes_are_those_of_the_function(
    loss: Callable[[jax.Array], jax.Array], text: str
) -> None:
    def count(fn: Callable[[jax.Array], jax.Array]) -> int:
        return jax.jit(jax.grad(fn)).lower(X).as_text().count(text)

    assert count(jaxswap.offload(loss, policy=jaxswap.KEEP)) == count(loss) > 0
