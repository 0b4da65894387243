"""Primitives that give values other shapes, and leave the order of planes as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME, Stencil, Stencils
from jaxswap._sweeps.elementwise import expect_alike
from jaxswap._sweeps.rule import (
    Call,
    Lines,
    NotBySlabsError,
    Part,
    as_it_is,
    cropped,
    resized,
    same_where_sliced,
    shape_of,
)

Goes = Callable[[JaxprEqn, int], int | None]
"""Where a dimension of the operand is in the result. `None` if it is gone."""


class Moved:
    """The operand's dimensions are in another order, or some more, or fewer.

    Args:
        goes: Where each dimension goes.
        sized: The parameter that holds the shape of the result.
    """

    def __init__(self, goes: Goes, sized: str = "") -> None:
        self._goes = goes
        self._sized = sized

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis goes where its dimension goes."""
        if ins[0] is not None:
            to = self._goes(eqn, ins[0].dimension)
            return ins, outs if to is None else [ins[0].at(to)]
        line = outs[0]
        assert line is not None
        came_from = self._came_from(eqn, line)
        return [None if came_from is None else line.at(came_from), *ins[1:]], outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Move a slab as the whole is moved."""
        line = outs[0]
        if line is None:
            raise NotBySlabsError("it makes the sliced axis another one")
        came_from = self._came_from(eqn, line)
        expected = None if came_from is None else line.at(came_from)
        if any(ins[1:]) or (ins and ins[0] != expected):
            raise NotBySlabsError("it makes the sliced axis another one")
        return Part(same_where_sliced(ins), self._run if self._sized else as_it_is)

    def _came_from(self, eqn: JaxprEqn, line: Line) -> int | None:
        places = range(len(shape_of(eqn.invars[0])))
        return next((d for d in places if self._goes(eqn, d) == line.dimension), None)

    def _run(self, call: Call) -> Sequence[Any]:
        (line,) = call.outs
        assert line is not None
        shape = resized(call.eqn.params[self._sized], line, call.window.size)
        return call.bind(**{self._sized: shape})


def _broadcast(eqn: JaxprEqn, dimension: int) -> int | None:
    """A dimension of size one that grows is not the same axis any more."""
    to = eqn.params["broadcast_dimensions"][dimension]
    is_same = shape_of(eqn.invars[0])[dimension] == eqn.params["shape"][to]
    return to if is_same else None


def _transposed(eqn: JaxprEqn, dimension: int) -> int | None:
    return eqn.params["permutation"].index(dimension)


def without(gone: Sequence[int], dimension: int) -> int | None:
    """Return where a dimension is when some others are gone."""
    return None if dimension in gone else dimension - sum(d < dimension for d in gone)


def _squeezed(eqn: JaxprEqn, dimension: int) -> int | None:
    return without(eqn.params["dimensions"], dimension)


BROADCAST = Moved(_broadcast, "shape")
TRANSPOSE = Moved(_transposed)
SQUEEZE = Moved(_squeezed)


class Reshape:
    """The sliced axis is kept, split (its outer part is sliced), or joined to others.

    So many planes of the result are one plane of the operand, or the other way round.
    """

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis is where as many elements lie before it."""
        before, after = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
        if ins[0] is not None:
            return ins, [_reshaped(before, after, ins[0])]
        assert outs[0] is not None
        return [_reshaped(after, before, outs[0]), *ins[1:]], outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Reshape the planes that hold those that are wanted."""
        if ins[0] is None or outs[0] is None or len(ins) > 1:
            raise NotBySlabsError("it mixes the sliced axis with others")
        before, after = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
        if _reshaped(before, after, ins[0]) != outs[0]:
            raise NotBySlabsError("it makes the sliced axis another one")
        factor = outs[0].rate / ins[0].rate
        return Part((stencils_between(factor),), _reshape)


def stencils_between(factor: Fraction) -> Stencils:
    """Return how planes are read where they become finer or coarser by a factor."""
    if factor == 1:
        return SAME
    if factor > 1:
        count = factor.numerator
        return (Stencil(1, count - 1, count, count),)
    return (Stencil(factor.denominator, 0, factor.denominator),)


def _reshaped(before: Sequence[int], after: Sequence[int], line: Line) -> Line:
    """Return where the axis is in another shape."""
    outer = math.prod(before[: line.dimension])
    size = before[line.dimension]
    for place, other in enumerate(after):
        is_there = math.prod(after[:place]) == outer and (other > 1 or size == 1)
        if is_there and max(size, other) % min(size, other) == 0:
            return line.at(place, Fraction(other, size))
    raise NotBySlabsError("it mixes the sliced axis with others")


def _reshape(call: Call) -> Sequence[Any]:
    (line,), (out,) = call.lines, call.outs
    assert line is not None
    assert out is not None
    factor = out.rate / line.rate
    planes = call.inputs[0].shape[line.dimension] * factor
    assert planes.denominator == 1
    shape = resized(call.eqn.params["new_sizes"], out, planes.numerator)
    (made,) = call.bind(new_sizes=shape)
    start = 0
    if factor > 1:
        start = call.window.start % factor.numerator
    return [cropped(made, out.dimension, start, call.window.size)]


class Along:
    """What works along some dimensions, which the sliced one is not among.

    Args:
        dimensions: Tells along which dimensions an equation works.
        act: What it does, for the reason why it is not done by slabs.
    """

    def __init__(
        self, dimensions: Callable[[JaxprEqn], Sequence[int]], act: str
    ) -> None:
        self._dimensions = dimensions
        self._act = act

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """All operands and results are sliced alike."""
        line = next(line for line in (*ins, *outs) if line is not None)
        self._refuse(eqn, line)
        return [line] * len(ins), [line] * len(outs)

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Do the same with a slab."""
        self._refuse(eqn, next(line for line in (*ins, *outs) if line is not None))
        expect_alike(ins, outs)
        if None in ins:
            raise NotBySlabsError("its operands are sliced along different axes")
        return Part(same_where_sliced(ins))

    def _refuse(self, eqn: JaxprEqn, line: Line) -> None:
        if line.dimension in self._dimensions(eqn):
            raise NotBySlabsError(f"{self._act} the sliced axis")


CONCATENATE = Along(lambda eqn: [eqn.params["dimension"]], "concatenates along")
SPLIT = Along(lambda eqn: [eqn.params["axis"]], "splits")
TILE = Along(
    lambda eqn: [d for d, count in enumerate(eqn.params["reps"]) if count > 1],
    "repeats",
)
MIRROR = Along(lambda eqn: eqn.params["dimensions"], "mirrors")
SORT = Along(lambda eqn: [eqn.params["dimension"]], "sorts along")
SO_FAR = Along(
    lambda eqn: [eqn.params["axis"]], "sums up what lies before, which runs along"
)


class Slice:
    """Some planes of the operand, perhaps every other one."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis stays in its dimension."""
        return _scaled(ins, outs, lambda line: Fraction(1, self._stride(eqn, line)))

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Take the planes that are wanted, and leave none out along other axes."""
        line = expect_scaled(
            ins, outs, lambda line: Fraction(1, self._stride(eqn, line))
        )
        start = int(eqn.params["start_indices"][line.dimension])
        stencil = Stencil(self._stride(eqn, line), -start)

        def run(call: Call) -> Sequence[Any]:
            params = call.eqn.params
            starts, limits = (
                list(params["start_indices"]),
                list(params["limit_indices"]),
            )
            starts[line.dimension] = 0
            limits[line.dimension] = stencil.reads(call.window).size
            return call.bind(start_indices=tuple(starts), limit_indices=tuple(limits))

        return Part(((stencil,),), run)

    def _stride(self, eqn: JaxprEqn, line: Line) -> int:
        strides = eqn.params["strides"]
        return 1 if strides is None else int(strides[line.dimension])


class Pad:
    """More planes at the ends or between, or fewer at the ends."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis stays in its dimension."""
        found, outs = _scaled(ins[:1], outs, lambda line: self._dilation(eqn, line))
        return [*found, None], outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Pad the planes that are wanted, where they are not the operand's."""
        line = expect_scaled(ins[:1], outs, lambda line: self._dilation(eqn, line))
        low = int(eqn.params["padding_config"][line.dimension][0])
        dilation = int(self._dilation(eqn, line))
        stencil = Stencil(1, low, 1, dilation)
        planes = shape_of(eqn.invars[0])[line.dimension]

        def run(call: Call) -> Sequence[Any]:
            x, fill = call.inputs
            read, ends = stencil.reads(call.window), stencil.padding(call.window)
            x = call.place.filled(x, planes, line, read, fill)
            config = list(call.eqn.params["padding_config"])
            config[line.dimension] = (*ends, dilation - 1)
            return call.bind(x, fill, padding_config=tuple(config))

        return Part(((stencil,), None), run)

    def _dilation(self, eqn: JaxprEqn, line: Line) -> Fraction:
        return Fraction(int(eqn.params["padding_config"][line.dimension][2]) + 1)


Factor = Callable[[Line], Fraction]


def _scaled(ins: Lines, outs: Lines, factor: Factor) -> tuple[Lines, Lines]:
    """Return the axes if the result is finer by a factor."""
    if ins[0] is not None:
        return ins, [ins[0].at(ins[0].dimension, factor(ins[0]))]
    line = outs[0]
    assert line is not None
    return [line.at(line.dimension, 1 / factor(line))], outs


def expect_scaled(ins: Lines, outs: Lines, factor: Factor) -> Line:
    """Return the axis of the operand if the result is finer by a factor."""
    line, out = ins[0], outs[0]
    if line is None or out != line.at(line.dimension, factor(line)):
        raise NotBySlabsError("its operand and its result are sliced in different ways")
    return line
