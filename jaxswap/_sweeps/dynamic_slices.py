"""Slices whose place is computed, along other axes than the sliced one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.rule import (
    Call,
    Lines,
    NotBySlabsError,
    Part,
    resized,
    shape_of,
)


class DynamicSlice:
    """A slice that takes the sliced axis from end to end."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis stays in its dimension."""
        line = ins[0] or outs[0]
        return [line, *ins[1:]], [line]

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Take the same of a slab."""
        line = _expect_whole(eqn, eqn.outvars[0], ins[:1], outs)

        def run(call: Call) -> Sequence[Any]:
            sizes = resized(call.eqn.params["slice_sizes"], line, call.window.size)
            return call.bind(slice_sizes=sizes)

        return Part((SAME, *[None] * (len(ins) - 1)), run)


class DynamicUpdate:
    """A slice that is written, and that has the sliced axis from end to end."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis stays in its dimension."""
        line = ins[0] or ins[1] or outs[0]
        return [line, line, *ins[2:]], [line]

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Write the same into a slab."""
        _expect_whole(eqn, eqn.invars[1], ins[:2], outs)
        return Part((SAME, SAME, *[None] * (len(ins) - 2)))


def _expect_whole(eqn: JaxprEqn, part: Any, ins: Lines, outs: Lines) -> Line:
    """Return the sliced axis, of which a slice must have all planes."""
    line = outs[0]
    if line is None or any(own != line for own in ins):
        raise NotBySlabsError("operands and result are sliced in different ways")
    planes = shape_of(eqn.invars[0])[line.dimension]
    if shape_of(part)[line.dimension] != planes:
        raise NotBySlabsError("takes or writes some planes of the sliced axis only")
    return line
