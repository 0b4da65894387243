"""What `jaxswap.linen.offload` may be given, and what it refuses."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from linen_blocks import (
    KEYS,
    Block,
    Coder,
    Net,
    X,
    alternate,
    assert_same_module,
    mixed,
    plain,
    variables_of,
    with_gradient,
)
from trees import assert_same, distance

import jaxswap
import jaxswap.linen
from jaxswap import OFFLOAD


def plain_block() -> Any:
    variables = variables_of(Block(), X)
    return variables, jax.jit(with_gradient(Block(), X))(variables)


def test_filters_are_those_of_remat() -> None:
    class Random(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            names = [self.has_rng(name) for name in ("dropout", "noise")]
            stats = self.has_variable("batch_stats", "mean")
            return nn.Dense(6)(x) + jnp.array([[*names, stats, 0, 0, 0]], jnp.float32)

    keys = {**KEYS, "noise": jax.random.key(3)}
    options: Any = {"variables": "params", "rngs": ["params", "noise"]}
    variables = Random().init(keys, X)
    given = {**variables, "batch_stats": {"mean": X}}
    found = mixed(Random, **options)().apply(given, X, rngs=keys)
    assert_same(found, nn.remat(Random, **options)().apply(given, X, rngs=keys))


def test_static_arguments_as_for_remat_and_without_listing_them() -> None:
    listed = jaxswap.linen.offload(Block, policy=alternate, static_argnums=(2,))
    variables, expected = plain()
    assert_same(jax.jit(with_gradient(Net(listed), X))(variables), expected)

    class ByName(nn.Module):
        block: Callable[..., Any] = Block

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.block(name="block")(x=x, train=True)

    assert_same_module(ByName(mixed(Block)), ByName(), X)


def test_static_argument_with_an_array_is_refused() -> None:
    wrong = jaxswap.linen.offload(Block, static_argnums=1)
    with pytest.raises(TypeError, match="argument 1 is in `static_argnums`"):
        wrong().init(KEYS, X)


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        (Block(), {}, "wrap the class, then make the instance"),
        ("Block", {}, "no module class"),
        (Block, {"static_argnums": 0}, "`self`, the module, is argument 0"),
        (Block, {"static_argnums": "x"}, "must be a positive number or several"),
        (Block, {"methods": "__call__"}, "must be a list of names"),
        (Block, {"methods": {"__call__": {}}}, "wrap the class once for each"),
        (Block, {"policy": "offload"}, "it must be None, a jaxswap.Action"),
        (Block, {"prevent_cse": False}, "`prevent_cse`: it has no use here, because"),
        (lambda block: None, {"methods": ["f"]}, "is a function and has none"),
    ],
)
def test_wrong_arguments_are_named(wrong: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        jaxswap.linen.offload(wrong, **options)


def test_arguments_that_exclude_one_another() -> None:
    with pytest.raises(ValueError, match="they exclude one another"):
        jaxswap.linen.offload(policy=OFFLOAD, budget="1GiB")


def test_values_that_leave_are_rounded_if_asked_for() -> None:
    variables, ((value, _), wide) = plain_block()
    lossy = jaxswap.linen.offload(Block, policy=OFFLOAD, compress="int8")()
    (found, _), narrow = jax.jit(with_gradient(lossy, X))(variables)
    assert jnp.allclose(found, value, rtol=1e-6)
    assert 1e-5 < distance(narrow, wide) < 0.2
    with pytest.raises(ValueError, match=r"`compress` is 'int4'; it must be one of"):
        jaxswap.linen.offload(Block, compress="int4")


def test_method_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="encod"):
        jaxswap.linen.offload(Coder, methods=["encod"])


def test_function_without_a_module_is_sent_to_offload() -> None:
    loss = jaxswap.linen.offload(lambda params, x: jnp.sum(params * x))
    with pytest.raises(TypeError, match=r"use jaxswap\.offload"):
        loss(X, X)


def test_policy_of_jax_checkpoint_is_refused() -> None:
    policy = jax.checkpoint_policies.everything_saveable
    block = jaxswap.linen.offload(Block, policy=policy)()
    variables = variables_of(Block(), X)
    with pytest.raises(TypeError, match="it must return jaxswap"):
        with_gradient(block, X)(variables)
