"""A plan that is kept on disk, of a program that is never compiled."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from jaxswap import Plan

W = jnp.linspace(-1.0, 1.0, 256).reshape(16, 16)
X = jnp.linspace(0.0, 1.0, 1024).reshape(64, 16)
ROOMY = 1 << 20


@dataclasses.dataclass(frozen=True)
class Program:
    """What is read from a compiled program."""

    device_bytes: int = 20000
    temp_bytes: int = 10000
    fragmented_bytes: int = 0
    host_bytes: int = 0
    swapped_bytes: int = 0
    exposed_bytes: int = 0
    exposed_copies: tuple[Any, ...] = ()


def loss(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)


def plan(fn: Callable[..., Any] = loss, *args: Any, **options: Any) -> Plan:
    given: dict[str, Any] = {"target": "h100", "budget": ROOMY, "progress": False}
    return jaxswap.plan(fn, *(args or (W, X)), **(given | options))
