"""A program and its schedule -> the training step that a plan is made for.

The step is `value_and_grad` of the loss. It is written out here, so that a draft can be
compiled without the transform around it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxswap._run.machine import Machine
from jaxswap._trace.program import Program
from jaxswap._trace.shardings import sharding_of


def step_of(machine: Machine) -> Callable[..., Any]:
    """Return a function that computes value and gradient as a schedule says.

    If the first result is a scalar, its cotangent is one, as in `jax.value_and_grad`.
    If not, the caller gives its cotangent as one more operand. The cotangents of other
    results are zero.
    """
    program = machine.program

    def step(*operands: Any) -> Any:
        count = len(program.operands)
        outputs, residuals = machine.forward(operands[:count])
        given: list[Any] = [None] * len(outputs)
        for i, v in enumerate(program.cotangents):
            if v is not None:
                is_given = len(operands) > count
                given[i] = operands[count] if is_given else jnp.ones_like(outputs[i])
                break
        return outputs, machine.backward(residuals, given)

    return step


def types_of(program: Program) -> list[jax.ShapeDtypeStruct]:
    """Return the types of the operands of `step_of`."""
    wanted = list(program.operands)
    first = next((v for v in program.cotangents if v is not None), None)
    if first is not None and program.avals[first].shape != ():
        wanted.append(first)
    return [_type_of(program, v) for v in wanted]


def _type_of(program: Program, v: int) -> jax.ShapeDtypeStruct:
    aval, placement = program.avals[v], program.placement
    if placement is None:
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    sharding = sharding_of(placement, program.specs[v])
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding)
