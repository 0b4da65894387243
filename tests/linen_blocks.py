"""Modules of `flax.linen`, and what one computes."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from trees import assert_same, made_up

import jaxswap
import jaxswap.linen
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

X = jnp.sin(jnp.arange(24.0)).reshape(4, 6)
KEYS = {"params": jax.random.key(1), "dropout": jax.random.key(2)}


def alternate(value: jaxswap.Value) -> jaxswap.Action:
    return (OFFLOAD, RECOMPUTE, KEEP)[value.index % 3]


POLICIES: dict[str, Any] = {
    "default": None,
    "offload": OFFLOAD,
    "recompute": RECOMPUTE,
    "alternate": alternate,
}
# Most tests ask for this mix: every action occurs.
mixed = functools.partial(jaxswap.linen.offload, policy=alternate)
rematted = functools.partial(nn.remat, static_argnums=(2,))


class Block(nn.Module):
    """Has all that a module can have: weights, statistics, random numbers, notes."""

    width: int = 6

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        y = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.width)(x))
        y = nn.Dropout(0.3, deterministic=not train)(jnp.tanh(y))
        self.sow("intermediates", "mean", jnp.mean(y))
        return x + nn.Dense(self.width)(y)


class Net(nn.Module):
    """Two blocks and, behind them, random numbers that must not depend on how."""

    block: Callable[..., Any] = Block

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        x = self.block(6, name="first")(x, train)
        x = self.block(6, name="second")(x, train)
        return nn.Dropout(0.3, deterministic=not train)(x)


def with_gradient(net: nn.Module, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Value, gradient and mutated collections of `net`, a function of its variables."""

    def loss(params: Any, rest: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, **rest}
        names = ["batch_stats", "intermediates"]
        out, changed = net.apply(variables, *args, rngs=KEYS, mutable=names, **kwargs)
        return jnp.sum(jnp.asarray(out) ** 2), changed

    def run(variables: Any) -> Any:
        rest = {k: v for k, v in variables.items() if k != "params"}
        return jax.value_and_grad(loss, has_aux=True)(variables["params"], rest)

    return run


def variables_of(net: nn.Module, *args: Any) -> Any:
    """Made-up numbers in the place of its variables; quicker than its own."""
    return made_up(jax.eval_shape(net.init, KEYS, *args))


def assert_same_module(actual: nn.Module, expected: nn.Module, *args: Any) -> None:
    """Same variables, random numbers, value, gradient and mutated collections."""
    variables = variables_of(expected, *args)
    assert jax.eval_shape(actual.init, KEYS, *args) == jax.eval_shape(
        expected.init, KEYS, *args
    )
    found = jax.jit(with_gradient(actual, *args))(variables)
    assert_same(found, jax.jit(with_gradient(expected, *args))(variables))


@functools.cache
def plain() -> Any:
    """Variables of two plain blocks, and their value, gradient and mutated state."""
    variables = variables_of(Net(), X)
    return variables, jax.jit(with_gradient(Net(), X))(variables)


class Coder(nn.Module):
    """Two methods that share a layer made in `setup`."""

    def setup(self) -> None:
        self.shared = nn.Dense(6)

    def encode(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(self.shared(x))

    def decode(self, x: jax.Array) -> jax.Array:
        return jnp.sin(self.shared(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decode(self.encode(x)) * self.encode(x)
