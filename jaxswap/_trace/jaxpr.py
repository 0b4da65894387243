"""Jaxpr -> the results of its equations: the one place that goes through equations.

Each interpreter chooses what represents a value: an array or a tracer if equations are
executed or traced, a number if they are listed.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn, Literal, Var

from jaxswap import _compat

Bind = Callable[[JaxprEqn, Sequence[Any]], Sequence[Any]]
"""Executes (or traces) an equation on its inputs."""


class Interpreter:
    """Executes (or traces) equations one by one. Calls are executed as a whole.

    A subclass changes what is done with an equation, and which calls are looked into.

    Args:
        bind: Executes an equation on its inputs.
    """

    def __init__(self, bind: Bind = _compat.bind_equation) -> None:
        self.bind = bind

    def run(self, jaxpr: Any, values: Sequence[Any]) -> list[Any]:
        """Go through the equations of an open jaxpr. Return its results.

        Args:
            jaxpr: The equations.
            values: One for each constant of the jaxpr, then one for each argument.
        """
        variables = (*jaxpr.constvars, *jaxpr.invars)
        env: dict[Var, Any] = dict(zip(variables, values, strict=True))

        def read(atom: Any) -> Any:
            return self.literal(atom) if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            results = self.results(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def run_closed(self, closed: Any, inputs: Sequence[Any]) -> list[Any]:
        """Go through the equations of a closed jaxpr. It needs only its arguments."""
        jaxpr, constants = _compat.open_jaxpr(closed)
        pairs = zip(jaxpr.constvars, constants, strict=True)
        return self.run(jaxpr, [*(self.constant(v, c) for v, c in pairs), *inputs])

    def results(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation for its inputs."""
        call = self.call(eqn, inputs)
        if call is None:
            return self.execute(eqn, inputs)
        with self.within(eqn):
            return self.run_closed(*call)

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Return the called jaxpr and its inputs, or None if it is not looked into."""
        return None

    def execute(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation that is not looked into."""
        return self.bind(eqn, inputs)

    def within(self, eqn: JaxprEqn) -> contextlib.AbstractContextManager[None]:
        """Return the context for the equations inside of a call."""
        return _compat.at_equation(eqn)

    def literal(self, atom: Literal) -> Any:
        """Return what represents a literal."""
        return atom.val

    def constant(self, variable: Var, value: Any) -> Any:
        """Return what represents a constant of a closed jaxpr."""
        return value
