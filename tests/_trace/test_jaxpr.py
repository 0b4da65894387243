"""Going through the equations of a jaxpr, whatever stands for a value."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from jaxswap import _compat
from jaxswap._trace.jaxpr import Interpreter

TABLE = jnp.arange(4.0)


def fn(x: Any, y: Any) -> Any:
    inner = jax.jit(lambda a: jnp.sin(a) + TABLE)
    return inner(x) * y, 3.0


CLOSED = jax.make_jaxpr(fn)(jnp.ones(4), 2.0)


class Names(Interpreter):
    """Makes the text of an expression of each value."""

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        called = _compat.called_jaxpr(eqn)
        return None if called is None else (called, inputs)

    def execute(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        return [f"{eqn.primitive.name}({', '.join(inputs)})"] * len(eqn.outvars)

    def literal(self, atom: Literal) -> Any:
        return str(atom.val)

    def constant(self, variable: Any, value: Any) -> Any:
        return "table"


def test_equations_are_executed_one_by_one() -> None:
    product, number = Interpreter().run_closed(CLOSED, [jnp.ones(4), 2.0])
    assert jnp.allclose(product, fn(jnp.ones(4), 2.0)[0])
    assert number == 3.0


def test_calls_are_left_whole_unless_they_are_looked_into() -> None:
    seen: list[str] = []

    class Noting(Interpreter):
        def execute(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
            seen.append(eqn.primitive.name)
            return super().execute(eqn, inputs)

    Noting().run_closed(CLOSED, [jnp.ones(4), 2.0])
    assert "sin" not in seen
    assert {"jit", "pjit"} & set(seen)


def test_anything_can_stand_for_a_value() -> None:
    product, number = Names().run_closed(CLOSED, ["x", "y"])
    assert product.startswith("mul(add(sin(x), table)")
    assert number == "3.0"


def test_what_a_call_holds_keeps_its_line_and_its_scope() -> None:
    def named(x: jax.Array) -> jax.Array:
        with jax.named_scope("outer"):
            return jax.jit(jnp.sin)(x)

    class Inlined(Interpreter):
        call = Names.call

    closed = jax.make_jaxpr(named)(1.0)
    again = jax.make_jaxpr(lambda x: Inlined().run_closed(closed, [x]))(1.0)
    (sin,) = (e for e in again.jaxpr.eqns if e.primitive.name == "sin")
    assert "outer" in str(sin.source_info.name_stack)
