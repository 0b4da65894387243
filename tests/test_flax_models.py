"""The models that people start from keep value, gradient, state and random numbers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax_models import LINEN, NNX, Example
from trees import assert_same

import jaxswap
import jaxswap.nnx
from jaxswap import KEEP, OFFLOAD, RECOMPUTE


def alternate(value: jaxswap.Value) -> jaxswap.Action:
    return (OFFLOAD, RECOMPUTE, KEEP)[value.index % 3]


POLICIES: dict[str, Any] = {
    "default": None,
    "offload": OFFLOAD,
    "recompute": RECOMPUTE,
    "alternate": alternate,
}
EXAMPLES = {made.name: made for made in (*LINEN, *NNX)}


@functools.cache
def made(name: str) -> Any:
    return EXAMPLES[name].make()


def trained(example: Example, offload: Callable[..., Any]) -> Any:
    """Value, auxiliary results, gradient; of nnx also the state that is left."""
    loss, args = made(example.name)
    if example in LINEN:
        step = jax.jit(jax.value_and_grad(offload(loss), has_aux=True))
        return step(*args)
    model = nnx.clone(args[0])
    step = nnx.jit(nnx.value_and_grad(offload(loss), has_aux=True))
    return jax.tree.leaves(step(model, *args[1:])), jax.tree.leaves(nnx.state(model))


@functools.cache
def plain(name: str) -> Any:
    return trained(EXAMPLES[name], lambda loss: loss)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_offload_changes_no_number(name: str, policy: str) -> None:
    package: Any = jaxswap if EXAMPLES[name] in LINEN else jaxswap.nnx
    offload = functools.partial(package.offload, policy=POLICIES[policy])
    assert_same(trained(EXAMPLES[name], offload), plain(name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_there_is_something_to_compare(name: str) -> None:
    floats = [
        leaf
        for leaf in jax.tree.leaves(plain(name))
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in floats)
    assert sum(bool(jnp.any(leaf != 0)) for leaf in floats) > 0.7 * len(floats)


def test_the_six_kinds_are_there() -> None:
    kinds = "perceptron convolutional residual translator language autoencoder"
    assert [made.name for made in LINEN] == kinds.split()
    assert {made.name.removeprefix("nnx_") for made in NNX} < set(kinds.split())
