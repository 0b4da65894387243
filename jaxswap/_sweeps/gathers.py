"""Look-ups in tables, where slabs hold the places to look at, the rows, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax.extend.core import JaxprEqn

from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.rule import Call, Lines, NotBySlabsError, Part, shape_of


@dataclass(frozen=True)
class Dimensions:
    """Where one axis is: in the table, in the places to look at, in what is looked up.

    Attributes:
        table: Its dimension in the table. `None` if the table does not have it.
        places: The same, of the places.
        rows: The same, of what is looked up or written.
    """

    table: int | None
    places: int | None
    rows: int | None

    def lines(self, *lines: Any) -> Lines | None:
        """Return the sliced axes of table, places and rows, as some of them tell it.

        Args:
            *lines: The sliced axes that are known, in this order.

        Returns:
            The axes. `None` if what is known is another axis.
        """
        own = (self.table, self.places, self.rows)
        known = next(
            (
                line
                for line, d in zip(lines, own, strict=True)
                if line is not None and line.dimension == d
            ),
            None,
        )
        if known is None:
            return None
        return [None if d is None else known.at(d) for d in own]


class Gather:
    """Each plane of the places gives a plane of the result; or the table's rows do.

    The table's axis is not sliced unless it is taken as it is, from end to end, or goes
    together with that of the places.
    """

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis of the places is in the result."""
        for one in _dimensions(eqn):
            found = one.lines(*ins, outs[0])
            if found is not None:
                return found[:2], found[2:]
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Look up what the planes that are wanted ask for."""
        one = next((d for d in _dimensions(eqn) if d.lines(*ins, outs[0])), None)
        if one is None:
            raise NotBySlabsError("looks up planes of the sliced axis")
        if one.lines(*ins, outs[0]) != [*ins, *outs]:
            raise NotBySlabsError("table, places and result are sliced differently")
        stencils = tuple(None if line is None else SAME for line in ins)
        dimension = one.table
        if dimension is None or one.places is not None:
            return Part(stencils)

        def run(call: Call) -> Sequence[Any]:
            sizes = list(call.eqn.params["slice_sizes"])
            sizes[dimension] = call.window.size
            return call.bind(slice_sizes=tuple(sizes))

        return Part(stencils, run)


def _dimensions(eqn: JaxprEqn) -> list[Dimensions]:
    """Return all axes along which a slab of the result follows from slabs."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape, rank = shape_of(eqn.invars[0]), len(shape_of(eqn.outvars[0]))
    return dimensions_of(
        shape=shape,
        rows=rank,
        of_window=numbers.offset_dims,
        gone=numbers.collapsed_slice_dims,
        together=zip(
            numbers.operand_batching_dims,
            numbers.start_indices_batching_dims,
            strict=True,
        ),
        whole=[
            d
            for d in range(len(shape))
            if sizes[d] == shape[d] and d not in numbers.start_index_map
        ],
    )


def dimensions_of(
    shape: Sequence[int],
    rows: int,
    of_window: Sequence[int],
    gone: Sequence[int],
    together: Any,
    whole: Sequence[int],
) -> list[Dimensions]:
    """Return all axes along which a look-up, or its reverse, can be cut.

    Args:
        shape: The shape of the table.
        rows: How many dimensions what is looked up has.
        of_window: Which of these are dimensions of the table.
        gone: Dimensions of the table that what is looked up does not have.
        together: Pairs of dimensions of table and places that go together.
        whole: Dimensions of the table that are taken from end to end.
    """
    paired = dict(together)
    of_places = [d for d in range(rows) if d not in of_window]
    kept = [d for d in range(len(shape)) if d not in gone and d not in paired]
    return [
        *(Dimensions(d, at, of_places[at]) for d, at in paired.items()),
        *(
            Dimensions(d, None, to)
            for d, to in zip(kept, of_window, strict=True)
            if d in whole
        ),
        *(
            Dimensions(None, at, d)
            for at, d in enumerate(of_places)
            if at not in paired.values()
        ),
    ]
