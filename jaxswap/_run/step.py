"""A program and its schedule -> the training step that a plan is made for.

The step is `value_and_grad` of the loss, written out so that a draft can be compiled
without the transform around it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxswap._run.machine import Machine
from jaxswap._trace.program import Program
from jaxswap._trace.shardings import sharding_of


def step_of(machine: Machine) -> Callable[..., Any]:
    """Return the value and gradient of a program, as a schedule has it computed.

    The first result's cotangent is one if it is a scalar, as in `jax.value_and_grad`;
    those of other results are zero. A first result that is no scalar gets a cotangent
    from the caller, as an operand more.
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
    """Types of what `step_of` takes."""
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
