"""Arrays that become one with a new dimension, and the way back."""

from __future__ import annotations

from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._sweeps.rule import Lines, NotBySlabsError, Part, same_where_sliced
from jaxswap._sweeps.shapes import without


class Stack:
    """The results or the operands have one dimension more; it is not the sliced one.

    Args:
        is_apart: Whether one operand is taken apart. If not, several become one.
    """

    def __init__(self, *, is_apart: bool) -> None:
        self._is_apart = is_apart

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis moves by one if the new dimension lies before it."""
        one, several = self._sides(ins, outs)
        axis: int = eqn.params["axis"]
        known = next((line for line in several if line is not None), None)
        if known is None:
            (joined,) = one
            assert joined is not None
            known = _within(joined, axis)
        joined = known.at(known.dimension + (known.dimension >= axis))
        return self._sides([joined], [known] * len(several))

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Do the same with a slab."""
        (joined,), several = self._sides(ins, outs)
        if joined is None or set(several) != {_within(joined, eqn.params["axis"])}:
            raise NotBySlabsError("its operands are sliced along different axes")
        return Part(same_where_sliced(ins))

    def _sides(self, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Exchange operands and results if one is taken apart into several, or not."""
        return (ins, outs) if self._is_apart else (outs, ins)


def _within(joined: Line, axis: int) -> Line:
    """Return the sliced axis of each part."""
    dimension = without([axis], joined.dimension)
    if dimension is None:
        raise NotBySlabsError("stacks along the sliced axis")
    return joined.at(dimension)
