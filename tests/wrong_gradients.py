"""Losses, and transforms of them whose gradients are wrong."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

module = importlib.import_module("jaxswap._check")


def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ params["w"]) @ params["w"]) ** 2)


PARAMS = {"w": jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)}
X = jnp.linspace(0.5, 1.5, 8).reshape(2, 4)


def altered(change: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    """In place of `offload`: the gradient of each argument is changed."""

    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        @jax.custom_vjp
        def same(x: jax.Array) -> jax.Array:
            return x

        same.defvjp(lambda x: (x, None), lambda _, g: (change(g),))
        return lambda *args: fn(*jax.tree.map(same, args))

    return offload
