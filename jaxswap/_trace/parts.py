"""Whether parts of a result follow from the same parts of what it is computed from."""

import numpy as np

from jaxswap._graph.parts import cut_of
from jaxswap._trace.cost import ELEMENTWISE
from jaxswap._trace.program import Operation

_OTHERWISE = "iota optimization_barrier random_bits threefry2x32 random_unwrap "
_OTHERWISE += "random_wrap random_seed random_fold_in random_split"
BY_ELEMENT = (ELEMENTWISE - set(_OTHERWISE.split())) | {"name", "copy_p"}
"""Primitives whose results follow from the elements at the same place alone."""


def is_in_parts(op: Operation) -> bool:
    """Whether an operation computes a part of its result from parts of its operands.

    Operands have the shape of the result, or are repeated along the axis that is cut.
    """
    if len(op.outputs) != 1:
        return False
    result = op.eqn.outvars[0].aval
    shape = getattr(result, "shape", ())
    if not isinstance(getattr(result, "dtype", None), np.dtype):
        return False
    cut = cut_of(shape) if all(isinstance(size, int) for size in shape) else None
    if cut is None:
        return False
    if op.eqn.primitive.name == "broadcast_in_dim":
        return _is_repeated(op, cut[0])
    shapes = {getattr(atom.aval, "shape", None) for atom in op.eqn.invars} - {shape, ()}
    return op.eqn.primitive.name in BY_ELEMENT and all(
        other and len(other) == len(shape) and other[cut[0]] == 1 for other in shapes
    )


def _is_repeated(op: Operation, axis: int) -> bool:
    """Whether a broadcast repeats its operand along an axis."""
    dims = op.eqn.params["broadcast_dimensions"]
    operand = getattr(op.eqn.invars[0].aval, "shape", ())
    return len(op.eqn.invars) == 1 and (
        axis not in dims or operand[dims.index(axis)] == 1
    )
