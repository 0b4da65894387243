"""Equations of one kind are executed as calls of one program."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap import _compat
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.kinds import Kinds, kind_of

X = jnp.linspace(-1.0, 1.0, 4)


def equations(fn: Any, *args: Any) -> Any:
    return jax.make_jaxpr(fn)(*args).jaxpr.eqns


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (lambda x: lax.sin(x), lambda x: lax.sin(2 * x[::-1])[::-1], True),
        (lambda x: lax.sin(x), lambda x: lax.cos(x), False),
        (lambda x: lax.mul(x, x), lambda x: lax.mul(lax.neg(x), x), True),
        (lambda x: lax.mul(x, 0.0), lambda x: lax.mul(x, -0.0), False),
        (lambda x: lax.cumsum(x), lambda x: lax.cumsum(x, reverse=True), False),
        (lambda x: lax.sin(x), lambda x: lax.sin(x[:2]), False),
    ],
)
def test_one_kind_has_one_primitive_types_parameters_and_literals(
    one: Any, other: Any, is_same: bool
) -> None:
    kinds = [[kind_of(eqn) for eqn in equations(fn, X)] for fn in (one, other)]
    assert (kinds[0][-1] in kinds[1]) is is_same


def test_what_holds_programs_or_has_effects_has_no_kind() -> None:
    def fn(x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x)
        return jax.nn.relu(lax.cond(x[0] > 0, jnp.sin, jnp.cos, x))

    named = {eqn.primitive.name: kind_of(eqn) for eqn in equations(fn, X)}
    for name in ("debug_print", "debug_callback", "cond", "custom_jvp_call"):
        assert named.get(name) is None


def layers(x: jax.Array) -> jax.Array:
    for i in range(6):
        with jax.named_scope(f"layer{i % 3}"):
            x = lax.mul(lax.tanh(lax.add(x, 0.5)), lax.sin(x))
    return lax.reduce_sum(x, (0,))


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap, jax.hessian])
def test_the_same_is_traced_as_by_binding_each_equation(transform: Any) -> None:
    x = jnp.stack([X, X]) if transform is jax.vmap else X
    jaxpr = jax.make_jaxpr(layers)(X).jaxpr

    def text(bind: Any) -> str:
        def fn(x: jax.Array) -> Any:
            return Interpreter(bind).run(jaxpr, [x])[0]

        traced = jax.jit(transform(fn)).trace(x)
        found = _compat.open_jaxpr(traced.jaxpr)[0]
        return found.pretty_print(name_stack=True)

    assert text(Kinds().bind) == text(_compat.bind_equation)


def test_the_derivative_of_a_kind_is_traced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jax.interpreters import ad

    asked: list[Any] = []
    rule = ad.primitive_jvps[lax.tanh_p]

    def counted(*args: Any, **params: Any) -> Any:
        asked.append(args)
        return rule(*args, **params)

    monkeypatch.setitem(ad.primitive_jvps, lax.tanh_p, counted)
    jaxpr = jax.make_jaxpr(layers)(X).jaxpr
    kinds = Kinds()
    jax.make_jaxpr(jax.grad(lambda x: Interpreter(kinds.bind).run(jaxpr, [x])[0]))(X)
    # Once for the first one, which may be the only one, and once for all others.
    assert len(asked) == 2


def test_arrays_are_computed_with_at_once() -> None:
    jaxpr = jax.make_jaxpr(layers)(X).jaxpr
    kinds = Kinds()
    (found,) = Interpreter(kinds.bind).run(jaxpr, [X])
    assert jnp.array_equal(found, layers(X))
