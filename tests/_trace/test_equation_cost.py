"""The cost of equations, found once for each kind."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._trace import cost
from jaxswap._trace.equation_cost import EquationCost, cost_by_kind

X = jnp.ones((8, 8))


def layers(x: jax.Array) -> jax.Array:
    for _ in range(5):
        x = lax.tanh(lax.dot(x, x))
    x, _ = lax.scan(lambda c, _: (c @ c, None), x, None, length=3)
    return jnp.sum(lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x))


def test_each_equation_has_the_cost_that_it_has_alone() -> None:
    cost_of = cost_by_kind()
    for eqn in jax.make_jaxpr(layers)(X).jaxpr.eqns:
        assert cost_of(eqn) == EquationCost.of(eqn)


def test_a_kind_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    work = cost.work
    monkeypatch.setattr(
        cost, "work", lambda eqn: read.append(eqn.primitive.name) or work(eqn)
    )
    cost_of = cost_by_kind()
    for eqn in jax.make_jaxpr(layers)(X).jaxpr.eqns:
        cost_of(eqn)
    assert read.count("tanh") == 1
