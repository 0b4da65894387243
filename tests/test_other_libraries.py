"""Models of Equinox and Haiku need no lifting: their losses are functions of arrays."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from trees import assert_same, made_up

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

X = jnp.sin(jnp.arange(24.0)).reshape(4, 6)
KEY = jax.random.key(3)


def alternate(value: jaxswap.Value) -> jaxswap.Action:
    return (OFFLOAD, RECOMPUTE, KEEP)[value.index % 3]


POLICIES: dict[str, Any] = {
    "default": None,
    "offload": OFFLOAD,
    "recompute": RECOMPUTE,
    "alternate": alternate,
}


class Perceptron(eqx.Module):
    """Arrays, functions and numbers side by side, as Equinox has them."""

    layers: list[eqx.nn.Linear]
    norm: eqx.nn.LayerNorm
    dropout: eqx.nn.Dropout
    activation: Callable[..., Any]

    def __init__(self) -> None:
        self.layers = [eqx.nn.Linear(6, 6, key=KEY) for _ in range(2)]
        self.norm = eqx.nn.LayerNorm(6)
        self.dropout = eqx.nn.Dropout(0.3)
        self.activation = jnp.tanh

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        x = self.dropout(self.activation(self.layers[0](x)), key=key)
        return self.layers[1](self.norm(x))


@pytest.mark.parametrize("policy", POLICIES)
def test_equinox(policy: str) -> None:
    def loss(model: Perceptron, x: jax.Array, key: jax.Array) -> Any:
        out = jax.vmap(model)(x, jax.random.split(key, len(x)))
        return jnp.mean(out**2), {"out": out}

    wrapped = jaxswap.offload(loss, policy=POLICIES[policy])
    model = Perceptron()
    found, expected = (
        eqx.filter_jit(eqx.filter_value_and_grad(f, has_aux=True))(model, X, KEY)
        for f in (wrapped, loss)
    )
    assert_same(found, expected)


@jax.numpy_dtype_promotion("standard")  # Haiku's own layers mix integers and floats
@pytest.mark.parametrize("policy", POLICIES)
def test_haiku(policy: str) -> None:
    def forward(x: jax.Array) -> jax.Array:
        # Four rows can be nearly equal: a usual epsilon would magnify rounding.
        norm = hk.BatchNorm(True, True, decay_rate=0.9, eps=0.01)
        x = norm(jnp.tanh(hk.Linear(6)(x)), is_training=True)
        return hk.Linear(3)(hk.dropout(hk.next_rng_key(), 0.3, x))

    model = hk.transform_with_state(forward)

    def loss(params: Any, state: Any, key: jax.Array, x: jax.Array) -> Any:
        out, state = model.apply(params, state, key, x)
        return jnp.mean(out**2), state

    params, state = made_up(jax.eval_shape(model.init, KEY, X))
    wrapped = jaxswap.offload(loss, policy=POLICIES[policy])
    found, expected = (
        jax.jit(jax.value_and_grad(f, has_aux=True))(params, state, KEY, X)
        for f in (wrapped, loss)
    )
    assert_same(found, expected)
