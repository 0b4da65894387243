"""A machine's two passes, as functions that can be differentiated once more.

Whoever differentiates a gradient (Hessian-vector products, losses that hold
derivatives) would differentiate every copy, wait and recomputation of both passes, and
store what they hold a second time. So the passes have derivatives of their own: those
of the function in plain JAX. What only the machine would have needed is then dead, and
JAX leaves it out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from jaxswap._run.machine import Machine, Residuals
from jaxswap._trace.tangents import differentiate, of_some


class Passes:
    """Forward and backward pass of a function.

    Args:
        machine: Runs them.
        call: The function in plain JAX, of flat operands.

    Attributes:
        call: As it was given.
        linear: The linear functions that were made of it, by their operands.
    """

    def __init__(self, machine: Machine, call: Callable[..., Sequence[Any]]) -> None:
        self._machine = machine
        self.call = call
        self.linear: dict[Any, Any] = {}
        self._forward = jax.custom_jvp(self._run_forward)
        self._forward.defjvp(self._forward_derivative, symbolic_zeros=True)
        self._backward = jax.custom_jvp(self._run_backward)
        self._backward.defjvp(self._backward_derivative, symbolic_zeros=True)

    def forward(self, operands: Sequence[Any]) -> tuple[Sequence[Any], Residuals]:
        """Return the function's flat results, and what the backward pass needs."""
        return self._forward(tuple(operands))

    def backward(
        self, operands: Sequence[Any], residuals: Residuals, cotangents: Sequence[Any]
    ) -> Sequence[Any]:
        """Return one gradient for each operand, as `Machine.backward` does.

        Args:
            operands: Those of `forward`.
            residuals: From `forward`.
            cotangents: One for each result of the function. `None` stands for zero.
        """
        return self._backward(tuple(operands), residuals, tuple(cotangents))

    def _run_forward(self, operands: Any) -> tuple[Sequence[Any], Residuals]:
        return self._machine.forward(operands)

    def _forward_derivative(self, primals: Any, tangents: Any) -> Any:
        results, of_results = pushed(self.call, *primals, *tangents)
        _, residuals = self._forward(*primals)
        of_residuals = jax.tree.map(without_tangent, residuals)
        return (results, residuals), (of_results, of_residuals)

    def _run_backward(
        self, operands: Any, residuals: Residuals, cotangents: Any
    ) -> Sequence[Any]:
        del operands  # Only derivatives of the backward pass read them.
        return self._machine.backward(residuals, cotangents)

    def _backward_derivative(self, primals: Any, tangents: Any) -> Any:
        given, of_given = ((x[0], x[2]) for x in (primals, tangents))
        return pushed(self._plain_backward, given, of_given)

    def _plain_backward(
        self, operands: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        gradients = self._machine.program.gradients
        wanted = [i for i, v in enumerate(gradients) if v is not None]
        # What nothing depends on is not differentiated: not all operations have a
        # second derivative.
        used = [i for i, c in enumerate(cotangents) if c is not None]

        def of_used(*operands: Any) -> list[Any]:
            results = self.call(*operands)
            return [results[i] for i in used]

        _, pullback = differentiate(of_used, operands, wanted)
        found = dict(zip(wanted, pullback([cotangents[i] for i in used]), strict=True))
        return [found.get(i) for i in range(len(gradients))]


def pushed(
    function: Callable[..., Any],
    primals: Any,
    tangents: Any,
    is_zero: Callable[[Any], bool] = lambda tangent: isinstance(tangent, SymbolicZero),
) -> tuple[Any, Any]:
    """Call `jax.jvp` with respect to those primals whose tangent is not zero."""
    leaves, structure = jax.tree.flatten(primals)
    given = structure.flatten_up_to(tangents)
    moving = [i for i, t in enumerate(given) if not is_zero(t)]

    def of_leaves(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    points = tuple(leaves[i] for i in moving)
    of_moving = of_some(of_leaves, leaves, moving)
    return jax.jvp(of_moving, points, tuple(given[i] for i in moving))


def without_tangent(array: Any) -> SymbolicZero:
    """Return the tangent of an array that does not move."""
    return SymbolicZero(jax.typeof(array).to_tangent_aval())
