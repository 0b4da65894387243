"""Forward operations that only the backward pass reads -> those that run there.

A backward pass does not only compute with cotangents. It also turns 8-bit residuals
into floating point numbers, or spreads a sum over a shape. If such an operation ran in
the forward pass, its large result would be stored in place of what it is made of.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxswap._trace import cost
from jaxswap._trace.program import Operation
from jaxswap._trace.symbolic import STAND_IN, size_of, symbols_of


def growing(
    operations: Sequence[Operation],
    avals: Sequence[Any],
    backward: Collection[int],
    results: Collection[int],
) -> frozenset[int]:
    """Return the indices of the forward operations that run in the backward pass.

    Only the backward pass reads what they make, they work element by element, and what
    they start from is smaller than what they make.

    Args:
        operations: Those of both passes.
        avals: Types of the values.
        backward: Indices of the operations that depend on a cotangent.
        results: Values that the forward pass returns.
    """
    late = _late(operations, backward, results)
    if not late:
        return frozenset()
    sizes = list(map(_nbytes, avals))
    least = list(sizes)  # Bytes to store so that the backward pass can have a value.
    for index in sorted(late):
        made_of = sum(least[v] for v in set(operations[index].reads))
        for v in operations[index].outputs:
            least[v] = min(sizes[v], made_of)
    kept: set[int] = set()
    found: set[int] = set()
    for index in sorted(late, reverse=True):
        operation = operations[index]
        is_view = operation.eqn.primitive.name in cost.VIEWS
        is_worth = any(
            least[v] < sizes[v] or (is_view and least[v] == sizes[v])
            for v in operation.outputs
        )
        if is_worth and kept.isdisjoint(operation.outputs):
            found.add(index)
        else:
            kept.update(operation.reads)
    return frozenset(found)


def _late(
    operations: Sequence[Operation], backward: Collection[int], results: Collection[int]
) -> set[int]:
    """Return the elementwise operations that only the backward pass needs."""
    early, read = set(results), set[int]()
    found: set[int] = set()
    for index in reversed(range(len(operations))):
        operation = operations[index]
        if index not in backward:
            made = operation.outputs
            is_late = early.isdisjoint(made) and not read.isdisjoint(made)
            if is_late and not operation.eqn.effects:
                is_late = _is_elementwise(operation.eqn)
            if not is_late:
                early.update(operation.reads)
                continue
            found.add(index)
        read.update(operation.reads)
    return found


def _is_elementwise(eqn: Any) -> bool:
    """Whether an equation may run in either pass. A name is there to be decided on."""
    name = eqn.primitive.name
    is_cheap = name in cost.VIEWS or (cost.is_cheap(eqn) and not cost.is_reduction(eqn))
    return is_cheap and name != "name"


def _nbytes(aval: Any) -> int:
    """Return the bytes of a type; 0 if it has none, such as a random key."""
    dtype = getattr(aval, "dtype", None)
    if not isinstance(dtype, np.dtype):
        return 0
    found = dtype.itemsize
    for dimension in aval.shape:
        names = symbols_of(dimension)
        found *= size_of(dimension, dict.fromkeys(names, STAND_IN))
    return found
