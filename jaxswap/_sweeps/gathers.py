"""Look-ups in tables, where the sliced axis is that of the places to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.rule import Call, Lines, NotBySlabsError, Part, shape_of


class Gather:
    """Each plane of the places gives a plane of the result; or the table's rows do.

    The table's axis is not sliced unless it is taken as it is, from end to end.
    """

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis of the places is in the result."""
        table, places = ins[0], ins[1]
        if places is not None:
            to = _of_places(eqn)[places.dimension]
            return ins, [places.at(to)]
        if table is not None:
            to = _of_table(eqn).get(table.dimension)
            return ins, outs if to is None else [table.at(to)]
        line = outs[0]
        assert line is not None
        for d, to in enumerate(_of_places(eqn)):
            if to == line.dimension:
                return [None, line.at(d)], outs
        for d, to in _of_table(eqn).items():
            if to == line.dimension:
                return [line.at(d), None], outs
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Look up what the planes that are wanted ask for."""
        table, places, out = ins[0], ins[1], outs[0]
        if table is not None and places is not None:
            raise NotBySlabsError("table and places are both sliced")
        if places is not None:
            if out != places.at(_of_places(eqn)[places.dimension]):
                raise NotBySlabsError("places and result are sliced differently")
            return Part((None, SAME))
        if table is None or table.dimension not in _of_table(eqn):
            raise NotBySlabsError("looks up planes of the sliced axis")
        if out != table.at(_of_table(eqn)[table.dimension]):
            raise NotBySlabsError("table and result are sliced differently")
        dimension = table.dimension

        def run(call: Call) -> Sequence[Any]:
            sizes = list(call.eqn.params["slice_sizes"])
            sizes[dimension] = call.window.size
            return call.bind(slice_sizes=tuple(sizes))

        return Part((SAME, None), run)


def _of_places(eqn: JaxprEqn) -> list[int]:
    """Return where the dimensions of the places are in the result."""
    offsets = eqn.params["dimension_numbers"].offset_dims
    rank = len(shape_of(eqn.outvars[0]))
    return [d for d in range(rank) if d not in offsets]


def _of_table(eqn: JaxprEqn) -> dict[int, int]:
    """Return where dimensions of the table are that are taken from end to end."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = shape_of(eqn.invars[0])
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(len(shape)) if d not in gone]
    return {
        d: to
        for d, to in zip(kept, numbers.offset_dims, strict=True)
        if sizes[d] == shape[d] and d not in numbers.start_index_map
    }
