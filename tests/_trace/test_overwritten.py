"""Operands that results are written over."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap._trace.overwritten import overwritten

X = jnp.ones((4, 3))


def scanned(x: jax.Array, ws: jax.Array) -> jax.Array:
    return lax.scan(lambda c, w: (c * w[None] + x[0, 0], None), x, ws)[0]


def repeated(x: jax.Array) -> jax.Array:
    return lax.while_loop(lambda c: c.sum() < 100, lambda c: c * 2, x)


def updated(x: jax.Array, at: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(x, jnp.ones((1, 3)), (at, 0))


def positions(fn: Callable[..., Any], *args: Any) -> dict[str, list[int]]:
    eqns = jax.make_jaxpr(fn)(*args).eqns
    return {eqn.primitive.name: overwritten(eqn) for eqn in eqns}


def test_loops_write_over_what_they_carry() -> None:
    scan = next(e for e in jax.make_jaxpr(scanned)(X, X).eqns if e.params.get("length"))
    (at,) = overwritten(scan)
    assert scan.invars[at].aval.shape == (4, 3)
    assert positions(repeated, X)["while"] == [0]


def test_updates_write_over_their_operand_and_nothing_else_does() -> None:
    assert positions(updated, X, 1)["dynamic_update_slice"] == [0]
    assert positions(lambda x: x.at[1].add(1.0), X)["scatter-add"] == [0]
    assert positions(lambda x: jnp.sin(x @ x.T), X) == {
        "transpose": [],
        "dot_general": [],
        "sin": [],
    }
