"""A loss of two layers, and the sources of programs of losses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from zoo import normal, weight

from jaxswap._run.loss import loss_source
from jaxswap._run.source import Source

W, V, X = weight(16, 16), weight(16, 16), normal(8, 16)


def loss(w: jax.Array, v: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ v) @ w)


def source_of(
    fn: Callable[..., Any],
    *args: Any,
    argnums: Any = 0,
    has_aux: bool = False,
    **kwargs: Any,
) -> Source:
    """`loss_source` with the arguments as a caller of the loss writes them."""
    return loss_source(fn, args, kwargs, argnums, has_aux)
