"""Matrix products: the sliced axis is in the result, or is summed over."""

from __future__ import annotations

from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.rule import (
    ADDED_BY_RIGHT,
    Lines,
    NotBySlabsError,
    Part,
    shape_of,
    zero,
)


class Product:
    """Dimensions are shared by the operands, summed over, or in one operand alone."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """What is shared or summed over is sliced in both operands."""
        contracted, batch = eqn.params["dimension_numbers"]
        for side, line in enumerate(ins):
            if line is None:
                continue
            for pair in (contracted, batch):
                if line.dimension in pair[side]:
                    place = pair[side].index(line.dimension)
                    ins = [line.at(pair[other][place]) for other in (0, 1)]
            to = _result_of(eqn, side, line.dimension)
            return ins, outs if to is None else [line.at(to)]
        line = outs[0]
        assert line is not None
        found: Lines = [None, None]
        for side in (0, 1):
            for d in range(len(shape_of(eqn.invars[side]))):
                if _result_of(eqn, side, d) == line.dimension:
                    found[side] = line.at(d)
        return found, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Multiply slabs, and add them up if the sliced axis is summed over."""
        contracted, batch = eqn.params["dimension_numbers"]
        left, right, out = ins[0], ins[1], outs[0]
        if left is not None and right is not None:
            pairs = list(zip(*batch, strict=True)), list(zip(*contracted, strict=True))
            both = left.dimension, right.dimension
            if left.rate != right.rate or both not in [*pairs[0], *pairs[1]]:
                raise NotBySlabsError("its operands are sliced along different axes")
            if both in pairs[1]:
                fills = (zero, zero)
                return Part((SAME, SAME), fills=fills, combine=ADDED_BY_RIGHT)
            _expect(out, left, _result_of(eqn, 0, left.dimension))
            return Part((SAME, SAME))
        for side, line in enumerate(ins):
            if line is not None:
                to = _result_of(eqn, side, line.dimension)
                is_free = line.dimension not in (*contracted[side], *batch[side])
                _expect(out, line, to if is_free else None)
        return Part(tuple(None if line is None else SAME for line in ins))


def _expect(out: Line | None, line: Line, to: int | None) -> None:
    if to is None or out != line.at(to):
        raise NotBySlabsError("its operands are sliced along different axes")


def _result_of(eqn: JaxprEqn, side: int, dimension: int) -> int | None:
    """Return where a dimension of an operand is in the product. `None`: it is gone."""
    contracted, batch = eqn.params["dimension_numbers"]
    if dimension in batch[side]:
        return batch[side].index(dimension)
    if dimension in contracted[side]:
        return None
    before = len(batch[0])
    free = [
        [
            d
            for d in range(len(shape_of(eqn.invars[i])))
            if d not in (*batch[i], *contracted[i])
        ]
        for i in (0, 1)
    ]
    return before + side * len(free[0]) + free[side].index(dimension)
