"""Where the sliced axis is in each value of a program.

It is known of some values: of arguments that the user names, or of the features of the
largest convolution. From there it is followed through the program, from operands to
results and back, until nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from jax.extend.core import Literal

from jaxswap._slabs.grid import Line
from jaxswap._sweeps.convolutions import sliced_axis
from jaxswap._sweeps.opening import without_calls
from jaxswap._sweeps.rule import Lines, NotBySlabsError, shape_of, sizes_of
from jaxswap._sweeps.rules import rule_of
from jaxswap._trace.program import Operation, Program


def lines_of(
    program: Program, given: Mapping[int, int], axis: int | None = None
) -> tuple[dict[int, Line], int]:
    """Return the sliced axis of each value that has one, and how many planes it has.

    Args:
        program: The program.
        given: The sliced dimension of some values. If there are none, the largest
            convolution tells the axis.
        axis: Which dimension of its features is cut. `None`: the longest of space.

    Raises:
        ValueError: If nothing tells the axis, or if `given` has several lengths.
    """
    start = {v: Line(dimension, Fraction(1)) for v, dimension in given.items()}
    if not start:
        start = _of_largest_convolution(program, axis)
    lengths = {program.avals[v].shape[line.dimension] for v, line in start.items()}
    if len(lengths) > 1:
        raise ValueError(
            f"the axes to slice have {sorted(lengths)} planes in the arguments. Name "
            "axes of one length; the others are found."
        )
    (length,) = lengths
    return _followed(program, start, length), length


def longest_of_space(program: Program) -> int | None:
    """Return the planes of the axis that is cut if none is named; `None` if none is."""
    operation = _largest_convolution(without_calls(program))
    if operation is None:
        return None
    line = sliced_axis(operation.eqn)
    return shape_of(operation.eqn.invars[0])[line.dimension]


def _largest_convolution(program: Program) -> Operation | None:
    found = [
        (math.prod(program.avals[op.inputs[0]].shape), -index)
        for index, op in enumerate(program.operations)
        if op.eqn.primitive.name == "conv_general_dilated"
        and isinstance(op.inputs[0], int)
    ]
    return program.operations[-max(found)[1]] if found else None


def _of_largest_convolution(program: Program, axis: int | None) -> dict[int, Line]:
    operation = _largest_convolution(program)
    if operation is None:
        raise ValueError(
            "the function has no convolution that tells which axis to cut into slabs."
        )
    first = operation.inputs[0]
    assert isinstance(first, int)
    rank = len(sizes_of(program.avals[first]))
    if axis is not None and axis >= rank:
        raise ValueError(
            f"`axis` is {axis}, but the features of the largest convolution have "
            f"{rank} dimensions."
        )
    line = sliced_axis(operation.eqn)
    return {first: line if axis is None else line.at(axis)}


def _followed(
    program: Program, start: Mapping[int, Line], length: int
) -> dict[int, Line]:
    found = dict(start)
    order = (*program.operations, *reversed(program.operations))
    before = 0
    while len(found) > before:
        before = len(found)
        for operation in order:
            for v, line in _news(operation, found):
                if is_along(program.avals[v], line, length):
                    found.setdefault(v, line)
    return found


def _news(operation: Operation, known: Mapping[int, Line]) -> list[tuple[int, Line]]:
    """Return the axes that an operation tells of values of which none is known."""
    rule = rule_of(operation.eqn)
    ins, outs = lines_at(operation.inputs, known), lines_at(operation.outputs, known)
    if rule is None or not any((*ins, *outs)) or all((*ins, *outs)):
        return []
    try:
        ins, outs = rule.spread(operation.eqn, ins, outs)
    except NotBySlabsError:
        return []
    atoms = (*operation.inputs, *operation.outputs)
    pairs = zip(atoms, (*ins, *outs), strict=True)
    return [
        (v, line)
        for v, line in pairs
        if isinstance(v, int) and line is not None and v not in known
    ]


def lines_at(atoms: Sequence[int | Literal], lines: Mapping[int, Line]) -> Lines:
    """Return the sliced axis of each operand or result."""
    return [lines.get(v) if isinstance(v, int) else None for v in atoms]


def is_along(aval: Any, line: Line, length: int) -> bool:
    """Whether a dimension of a value holds planes of the whole axis.

    Padding adds some planes, and what is left of some. But half of an axis is none.
    """
    shape = sizes_of(aval)
    expected = length * line.rate
    return line.dimension < len(shape) and (
        abs(shape[line.dimension] - expected) < expected / 2
    )
