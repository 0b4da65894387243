"""Sums, products and extremes over dimensions, with the sliced one or without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.elementwise import highest, lowest
from jaxswap._sweeps.rule import (
    ADDED,
    Call,
    Combine,
    Lines,
    NotBySlabsError,
    Part,
    as_it_is,
    each,
)
from jaxswap._sweeps.shapes import without


def _one(dtype: Any) -> Any:
    return jnp.ones((), dtype)


COMBINES = {
    "sum": ADDED,
    "prod": Combine(each(jnp.multiply), _one),
    "max": Combine(each(jnp.maximum), lowest),
    "min": Combine(each(jnp.minimum), highest),
    "and": Combine(each(jnp.bitwise_and), lambda dtype: ~jnp.zeros((), dtype)),
    "or": Combine(each(jnp.bitwise_or), lambda dtype: jnp.zeros((), dtype)),
    "xor": Combine(each(jnp.bitwise_xor), lambda dtype: jnp.zeros((), dtype)),
}
"""How the parts of each reduction are put together."""


class Reduction:
    """Numbers along some dimensions become one.

    Args:
        combine: How the slabs' results are put together. `None` for places, which need
            the numbers that lie there.
    """

    def __init__(self, combine: Combine | None) -> None:
        self._combine = combine

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis is what is left of the operand's, unless it is gone."""
        gone, line = eqn.params["axes"], ins[0]
        if line is not None:
            to = without(gone, line.dimension)
            return ins, outs if to is None else [line.at(to)] * len(outs)
        line = next(line for line in outs if line is not None)
        places = range(len(getattr(eqn.invars[0].aval, "shape", ())))
        came_from = next(d for d in places if without(gone, d) == line.dimension)
        return [line.at(came_from)] * len(ins), outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Reduce a slab, and put slabs together if the sliced axis is gone."""
        line = ins[0]
        if line is None:
            raise NotBySlabsError("its operand is not sliced")
        to = without(eqn.params["axes"], line.dimension)
        if to is not None:
            if any(out != line.at(to) for out in outs):
                raise NotBySlabsError("operand and result are sliced differently")
            return Part((SAME,))
        assert self._combine is not None  # Such places are found by `places`.
        run = _in_float32 if self._combine is ADDED else as_it_is
        return Part((SAME,), run, (self._combine.start,), self._combine)


def _in_float32(call: Call) -> Sequence[Any]:
    """Add up with as many digits as XLA takes inside of one sum."""
    (x,) = call.inputs
    return call.bind(x.astype(wide(x.dtype)))


def wide(dtype: Any) -> Any:
    """Return the type in which numbers of a type are added up."""
    is_narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if is_narrow else dtype
