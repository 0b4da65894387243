"""Primitives that compute each element by itself, and those that leave planes apart."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._sweeps.rule import (
    Call,
    Lines,
    NotBySlabsError,
    Part,
    resized,
    same_where_sliced,
    shape_of,
)
from jaxswap._trace.parts import BY_ELEMENT

NAMES = BY_ELEMENT | {"bitcast_convert_type"}
"""Primitives that compute each element by itself."""


class Elementwise:
    """Each element of the result follows from those at its place in the operands.

    An operand may have size one where the result is larger.
    """

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """All that has as many planes as the result has its axis."""
        line = next(line for line in (*ins, *outs) if line is not None)
        return (
            [line if _has_planes(eqn, v, line) else None for v in eqn.invars],
            [line if _has_planes(eqn, v, line) else None for v in eqn.outvars],
        )

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Compute the planes that are wanted from the same planes."""
        expect_alike(ins, outs)
        line = outs[0]
        assert line is not None
        if any(
            own is None and _has_planes(eqn, v, line)
            for v, own in zip(eqn.invars, ins, strict=True)
        ):
            raise NotBySlabsError("its operands are sliced along different axes")
        return Part(same_where_sliced(ins))


def _has_planes(eqn: JaxprEqn, atom: Any, line: Line) -> bool:
    """Whether a dimension of an operand is that of the result, and not of size one."""
    shape, result = shape_of(atom), shape_of(eqn.outvars[0])
    return (
        len(shape) == len(result) > line.dimension
        and shape[line.dimension] == result[line.dimension]
    )


class Barrier:
    """Each result is an operand."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """A result has the axis of its operand."""
        del eqn
        both = [a or b for a, b in zip(ins, outs, strict=True)]
        return both, both

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Return the operands: a slab is small, and needs no barrier."""
        del eqn
        if ins != outs:
            raise NotBySlabsError("operands and results are sliced in different ways")
        return Part(same_where_sliced(ins), lambda call: call.inputs)


class Iota:
    """Numbers that count along a dimension."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Who reads the numbers tells their axis."""
        del eqn
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Count from the first plane of the window on."""
        if ins or outs[0] is None:
            raise NotBySlabsError("its shape is not known beforehand")
        return Part((), _count)


def _count(call: Call) -> list[Any]:
    line, params = call.outs[0], call.eqn.params
    assert line is not None
    shape = resized(params["shape"], line, call.window.size)
    (numbers,) = call.bind(shape=shape)
    if params["dimension"] == line.dimension:
        first = call.place.first(line) + call.window.start
        numbers = numbers + jnp.asarray(first).astype(numbers.dtype)
    return [numbers]


def expect_alike(ins: Lines, outs: Lines) -> None:
    """Raise unless operands and results are sliced alike, where they are at all."""
    found = {line for line in (*ins, *outs) if line is not None}
    if len(found) != 1 or None in outs:
        raise NotBySlabsError("its operands are sliced along different axes")


def lowest(dtype: Any) -> Any:
    """Return the number below all others of a type."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.array(-jnp.inf, dtype)
    if dtype == jnp.bool_:
        return jnp.array(False)
    return jnp.array(jnp.iinfo(dtype).min, dtype)


def highest(dtype: Any) -> Any:
    """Return the number above all others of a type."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.array(jnp.inf, dtype)
    if dtype == jnp.bool_:
        return jnp.array(True)
    return jnp.array(jnp.iinfo(dtype).max, dtype)
