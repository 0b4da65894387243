"""Look-ups in reverse: what is written, or added, at some places of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.gathers import Dimensions, dimensions_of
from jaxswap._sweeps.rule import (
    ADDED,
    Call,
    Combine,
    Lines,
    NotBySlabsError,
    Part,
    shape_of,
    zero,
)

_ADDED_BY_ROWS = Combine(ADDED.parts, ADDED.start, counted=2)


class Scatter:
    """Rows go to places of a table, slab by slab, or all slabs add to one table.

    Args:
        is_added: Whether rows are added to the table.
    """

    def __init__(self, *, is_added: bool) -> None:
        self._is_added = is_added

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Rows have the axis of their places, or that of the table."""
        table = ins[0] or outs[0]
        for one in _dimensions(eqn):
            found = one.lines(table, *ins[1:])
            if found is not None:
                return found, found[:1]
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Write the rows of a slab, into a slab of the table or into all of it."""
        one = next((d for d in _dimensions(eqn) if d.lines(*ins)), None)
        if one is None:
            raise NotBySlabsError("writes to planes of the sliced axis")
        if one.lines(*ins) != [*ins] or outs[0] != ins[0]:
            raise NotBySlabsError("table, places and rows are sliced differently")
        stencils = tuple(None if line is None else SAME for line in ins)
        if one.table is not None:
            return Part(stencils)
        if not self._is_added:
            raise NotBySlabsError("slabs would write to the same table")
        return Part(stencils, _added, (None, zero, zero), _ADDED_BY_ROWS)


def _added(call: Call) -> Sequence[Any]:
    """Add the rows of a slab. The table itself counts with the first slab."""
    table, places, rows = call.inputs
    line = call.lines[2]
    assert line is not None
    is_first = call.place.first(line) == 0
    return call.bind(jnp.where(is_first, table, jnp.zeros_like(table)), places, rows)


def _dimensions(eqn: JaxprEqn) -> list[Dimensions]:
    """Return all axes along which a slab of rows meets a slab of the rest."""
    numbers = eqn.params["dimension_numbers"]
    shape, rows = shape_of(eqn.invars[0]), shape_of(eqn.invars[2])
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(len(shape)) if d not in gone]
    window = dict(zip(kept, numbers.update_window_dims, strict=True))
    return dimensions_of(
        shape=shape,
        rows=len(rows),
        of_window=numbers.update_window_dims,
        gone=numbers.inserted_window_dims,
        together=zip(
            numbers.operand_batching_dims,
            numbers.scatter_indices_batching_dims,
            strict=True,
        ),
        whole=[
            d
            for d, to in window.items()
            if shape[d] == rows[to] and d not in numbers.scatter_dims_to_operand_dims
        ],
    )
