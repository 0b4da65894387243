"""Training steps as people write them, with the loss offloaded and without."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from zoo import normal, weight

import jaxswap

Parameters = dict[str, jax.Array]
Loss = Callable[[Parameters, jax.Array], jax.Array]
Run = Callable[[Loss, Parameters, jax.Array], Any]

POLICIES = {
    "default": None,
    "offload": jaxswap.OFFLOAD,
    "recompute": jaxswap.RECOMPUTE,
}
MICROBATCHES = 4
PARAMETERS = {"first": weight(8, 16), "second": weight(16, 4)}
BATCH = normal(8 * MICROBATCHES, 8)


@pytest.fixture(autouse=True)
def _lenient_promotion() -> Iterator[None]:
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def loss(parameters: Parameters, batch: jax.Array) -> jax.Array:
    hidden = jnp.tanh(batch @ parameters["first"])
    return jnp.mean((hidden @ parameters["second"]) ** 2)


def split(batch: jax.Array) -> jax.Array:
    return batch.reshape(MICROBATCHES, -1, batch.shape[-1])


def trained(
    tx: optax.GradientTransformation,
    gradient: Callable[[Parameters, jax.Array], Any],
    parameters: Parameters,
    batches: jax.Array,
) -> Any:
    """Parameters after one donated, compiled step for each batch."""

    def step(parameters: Parameters, state: Any, batch: jax.Array) -> Any:
        updates, state = tx.update(gradient(parameters, batch), state, parameters)
        return optax.apply_updates(parameters, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))
    parameters = jax.tree.map(jnp.copy, parameters)
    state = tx.init(parameters)
    for batch in batches:
        parameters, state = compiled(parameters, state, batch)
    return parameters


def adam(fn: Loss, parameters: Parameters, batch: jax.Array) -> Any:
    return trained(optax.adam(1e-2), jax.grad(fn), parameters, split(batch))


def multi_steps(fn: Loss, parameters: Parameters, batch: jax.Array) -> Any:
    tx = optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2)
    return trained(tx, jax.grad(fn), parameters, split(batch))  # type: ignore[arg-type]


def accumulated(fn: Loss, parameters: Parameters, batch: jax.Array) -> Any:
    """The gradient's sum over microbatches, in a loop around the gradient."""

    def gradient(parameters: Parameters, batch: jax.Array) -> Any:
        def add(total: Parameters, part: jax.Array) -> tuple[Parameters, None]:
            return jax.tree.map(jnp.add, total, jax.grad(fn)(parameters, part)), None

        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return lax.scan(add, zeros, split(batch))[0]

    return trained(optax.adam(1e-2), gradient, parameters, batch[None])


def losses_of_microbatches(fn: Loss) -> Loss:
    def total(parameters: Parameters, batch: jax.Array) -> jax.Array:
        return jnp.mean(lax.map(lambda part: fn(parameters, part), split(batch)))

    return total


def mapped(fn: Loss, parameters: Parameters, batch: jax.Array) -> Any:
    """Offloaded microbatches in a `lax.map` that is differentiated."""
    gradient = jax.grad(losses_of_microbatches(fn))
    return trained(optax.sgd(1e-2), gradient, parameters, batch[None])


def gradients_mapped(fn: Loss, parameters: Parameters, batch: jax.Array) -> Any:
    one = lambda part: jax.value_and_grad(fn)(parameters, part)  # noqa: E731
    return jax.jit(lambda parts: lax.map(one, parts, batch_size=2))(split(batch))


def fori(fn: Loss, parameters: Parameters, batch: jax.Array) -> Any:
    """Several whole training steps in one compiled loop."""

    def step(_: int, parameters: Parameters) -> Parameters:
        gradient = jax.grad(fn)(parameters, batch)
        return jax.tree.map(lambda p, g: p - 1e-2 * g, parameters, gradient)

    return jax.jit(lambda parameters: lax.fori_loop(0, 3, step, parameters))(parameters)


STEPS: dict[str, Run] = {
    "adam": adam,
    "MultiSteps": multi_steps,
    "accumulated": accumulated,
    "lax.map inside": mapped,
    "lax.map outside": gradients_mapped,
    "fori_loop": fori,
}


@functools.cache
def plain(name: str) -> Any:
    return STEPS[name](loss, PARAMETERS, BATCH)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", STEPS)
def test_steps_end_where_they_end_without_offload(name: str, policy: str) -> None:
    offloaded = jaxswap.offload(loss, policy=POLICIES[policy])
    actual = STEPS[name](offloaded, PARAMETERS, BATCH)
    assert_close(actual, plain(name))


@pytest.mark.parametrize("policy", POLICIES)
def test_microbatches_of_one_offloaded_loss(policy: str) -> None:
    """`offload` around the loop over the microbatches."""
    whole = losses_of_microbatches(loss)
    offloaded = jaxswap.offload(whole, policy=POLICIES[policy])
    actual = jax.jit(jax.value_and_grad(offloaded))(PARAMETERS, BATCH)
    assert_close(actual, jax.jit(jax.value_and_grad(whole))(PARAMETERS, BATCH))


def assert_close(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def test_a_second_step_calls_the_loss_no_more() -> None:
    """After compilation the program is all there is."""
    calls = []

    def counted(parameters: Parameters, batch: jax.Array) -> jax.Array:
        calls.append(1)
        return loss(parameters, batch)

    step = jax.jit(jax.value_and_grad(jaxswap.offload(counted)))
    step(PARAMETERS, BATCH)
    traced = len(calls)
    assert traced >= 1
    for _ in range(3):
        step(PARAMETERS, BATCH)
    assert len(calls) == traced
