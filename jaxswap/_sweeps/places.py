"""The place of the largest or smallest number along the sliced axis, slab after slab.

A slab alone does not tell whether its largest number is larger than those before. So a
place is found together with the number that lies there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.elementwise import highest, lowest
from jaxswap._sweeps.opening import with_operations
from jaxswap._sweeps.rule import (
    Call,
    Combine,
    Lines,
    NotBySlabsError,
    Part,
    shape_of,
    zero,
)
from jaxswap._trace.program import Operation, Program

NAME = "jaxswap_place_of_"
"""What the call that finds both is named, before the name of the primitive."""
PRIMITIVES = ("argmax", "argmin")


def with_places(program: Program, lines: Mapping[int, Line]) -> Program:
    """Return a program in which places along the sliced axis come with numbers."""
    avals = list(program.avals)
    operations: list[Operation] = []
    for operation in program.operations:
        if operation.eqn.primitive.name in PRIMITIVES and operation.reads:
            line = lines.get(operation.reads[0])
            if line is not None and line.dimension in operation.eqn.params["axes"]:
                operation = _with_number(operation, avals)
        operations.append(operation)
    if len(avals) == len(program.avals):
        return program
    changed = dataclasses.replace(program, avals=tuple(avals))
    return with_operations(changed, operations)


def _with_number(operation: Operation, avals: list[Any]) -> Operation:
    """Return an operation that finds the number, too: one value more."""
    eqn, aval = operation.eqn, avals[operation.reads[0]]

    def found(x: jax.Array) -> list[jax.Array]:
        return _found(eqn, x)

    found.__name__ = NAME + eqn.primitive.name
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jax.jit(found))(aval))
    (call,) = jaxpr.eqns
    avals.append(ShapedArray(shape_of(call.outvars[1]), aval.dtype))
    outputs = (*operation.outputs, len(avals) - 1)
    return Operation(call, operation.inputs, outputs, operation.scope, (operation,) * 2)


def _found(eqn: JaxprEqn, x: jax.Array) -> list[jax.Array]:
    """Return places, and the numbers that lie there."""
    (place,) = _compat.bind_equation(eqn, [x])
    (axis,) = eqn.params["axes"]
    extreme = jnp.max if eqn.primitive.name == "argmax" else jnp.min
    return [place, extreme(x, axis)]


def is_place(eqn: JaxprEqn) -> bool:
    """Whether an equation finds places and numbers."""
    return eqn.primitive.name == "jit" and eqn.params["name"].startswith(NAME)


class Places:
    """The first place of the largest or smallest number, or of what is no number."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Neither has the sliced axis."""
        del eqn
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Search a slab, and compare its number with that of the slabs before."""
        if ins[0] is None or any(outs):
            raise NotBySlabsError("its operand is not sliced")
        merged = _largest if _name_of(eqn) == "argmax" else _smallest
        return Part((SAME,), _of_slab, combine=Combine(merged, zero))


def _name_of(eqn: JaxprEqn) -> str:
    return eqn.params["name"].removeprefix(NAME)


def _of_slab(call: Call) -> list[Any]:
    """Return place and number of a slab, and how many planes came before."""
    (x,), (line,) = call.inputs, call.lines
    assert line is not None
    planes = shape_of(call.eqn.invars[0])[line.dimension]
    mask, before, _ = call.place.counts(planes, line, call.window)
    inner, _ = _compat.open_jaxpr(_compat.called_jaxpr(call.eqn))
    find = next(e for e in inner.eqns if e.primitive.name in PRIMITIVES)
    if mask is not None:
        # Planes that do not count lie behind the others: of equals, the first is found.
        last = lowest if find.primitive.name == "argmax" else highest
        mask = lax.broadcast_in_dim(mask, x.shape, (line.dimension,))
        x = jnp.where(mask, x, last(x.dtype))
    place, number = _found(find, x)
    return [place + jnp.asarray(before, place.dtype), number, before]


def _largest(so_far: Sequence[Any], more: Sequence[Any]) -> Sequence[Any]:
    return _merged(so_far, more, jnp.greater)


def _smallest(so_far: Sequence[Any], more: Sequence[Any]) -> Sequence[Any]:
    return _merged(so_far, more, jnp.less)


def _merged(so_far: Sequence[Any], more: Sequence[Any], is_better: Any) -> list[Any]:
    """Take the place of a slab if its number is better than all before."""
    (place, number), (its_place, its_number, before) = so_far, more
    its_number = its_number.astype(number.dtype)
    # What is no number is better than any number, and unequal to itself.
    is_taken = (its_number != its_number) & (number == number)
    is_taken |= is_better(its_number, number)
    is_taken |= jnp.asarray(before == 0)
    return [
        jnp.where(is_taken, its_place, place),
        jnp.where(is_taken, its_number, number),
    ]
