"""Sums and extremes of windows, and the gradient of an extreme."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import Stencil, reads
from jaxswap._sweeps.elementwise import highest, lowest
from jaxswap._sweeps.rule import Call, Combine, Lines, NotBySlabsError, Part, zero
from jaxswap._sweeps.shapes import expect_scaled


class Pooling:
    """The numbers in a window become one.

    Args:
        combine: What is filled in beyond the volume changes no sum and no extreme.
    """

    def __init__(self, combine: Combine) -> None:
        self._start = combine.start

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis stays in its dimension."""
        line = ins[0] or outs[0]
        assert line is not None
        factor = _factor(eqn, line)
        if ins[0] is not None:
            return ins, [line.at(line.dimension, factor)]
        return [line.at(line.dimension, 1 / factor)], outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Pool the planes that are read, padded at the ends of the volume alone."""
        line = expect_scaled(ins, outs, lambda line: _factor(eqn, line))
        stencil = _stencil(eqn, line)

        def run(call: Call) -> Sequence[Any]:
            padding = list(call.eqn.params["padding"])
            padding[line.dimension] = stencil.padding(call.window)
            return call.bind(padding=tuple(padding))

        return Part(((stencil,),), run, (self._start,))


class Scattered:
    """The gradient of an extreme goes to where the extreme was."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Operand and result are finer than what is scattered."""
        line = outs[0] or ins[1]
        if line is None:
            assert ins[0] is not None
            line = ins[0].at(ins[0].dimension, _stride(eqn, ins[0]))
        coarse = line.at(line.dimension, Fraction(1, _stride(eqn, line)))
        return [coarse, line], [line]

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Scatter all windows that meet the planes that are wanted."""
        line = outs[0]
        if line is None or ins[1] != line:
            raise NotBySlabsError("operand and result are sliced differently")
        stride = _stride(eqn, line)
        if ins[0] != line.at(line.dimension, Fraction(1, stride)):
            raise NotBySlabsError("what is scattered is sliced differently")
        before = int(eqn.params["padding"][line.dimension][0])
        extent = int(eqn.params["window_dimensions"][line.dimension])
        # Which windows meet a plane, and which planes these windows see.
        meeting = Stencil(1, extent - 1 - before, extent, stride)
        seen = Stencil(stride, before, extent)
        is_most = eqn.params["select_prim"].name == "ge"
        fill = lowest if is_most else highest

        def run(call: Call) -> Sequence[Any]:
            padding = list(call.eqn.params["padding"])
            padding[line.dimension] = (0, 0)
            (made,) = call.bind(padding=tuple(padding))
            has = reads((meeting, seen), call.window)
            ends = [(0, 0, 0)] * made.ndim
            window = call.window
            low, high = has.start - window.start, window.stop - has.stop
            ends[line.dimension] = (low, high, 0)
            return [lax.pad(made, jnp.zeros((), made.dtype), ends)]

        return Part(((meeting,), (meeting, seen)), run, (zero, fill))


def _factor(eqn: JaxprEqn, line: Line) -> Fraction:
    dilation = int(eqn.params["base_dilation"][line.dimension])
    return Fraction(dilation, _stride(eqn, line))


def _stride(eqn: JaxprEqn, line: Line) -> int:
    return int(eqn.params["window_strides"][line.dimension])


def _stencil(eqn: JaxprEqn, line: Line) -> Stencil:
    params, d = eqn.params, line.dimension
    size, apart = params["window_dimensions"][d], params["window_dilation"][d]
    before, _ = params["padding"][d]
    dilation = params["base_dilation"][d]
    extent = (size - 1) * apart + 1
    return Stencil(_stride(eqn, line), int(before), int(extent), int(dilation))
