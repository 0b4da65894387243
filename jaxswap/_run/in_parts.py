"""An operation -> its result, written part by part over an operand.

What a loop carries lies at one place in all iterations. So the operand is carried, and
each iteration replaces one part of it. See `_graph.parts`.
"""

from collections.abc import Callable, Collection
from typing import Any

import jax
from jax import lax

from jaxswap import _compat
from jaxswap._graph.parts import cut_of
from jaxswap._run.rounding import in_its_type
from jaxswap._schedule.instructions import InPlace
from jaxswap._trace.describe import Traced
from jaxswap._trace.program import Operation


def written_over(
    traced: Traced,
    equation: int,
    in_place: InPlace,
    read: Callable[[Any], Any],
    rounded: Collection[int],
) -> jax.Array:
    """Return the result of an operation that computes element by element.

    Args:
        traced: The program.
        equation: The operation.
        in_place: Over what it is written, and what of it is read.
        read: Returns the array of an operand.
        rounded: Values that are rounded to their type where they are computed.
    """
    chain = _chain(traced, equation, in_place.leaves)
    result = chain[-1].outputs[0]
    shape = traced.graph.values[result].shape
    cut = cut_of(shape)
    assert cut is not None  # Otherwise it is no result in parts.
    axis, count = cut
    size = shape[axis] // count
    part_shape = (*shape[:axis], size, *shape[axis + 1 :])
    others = {v: read(v) for v in in_place.leaves if v not in in_place.values}

    def replaced(number: Any, carried: jax.Array) -> jax.Array:
        def part_of(array: Any) -> Any:
            if array.shape != shape:
                return array
            return lax.dynamic_slice_in_dim(array, number * size, size, axis)

        known = {v: part_of(array) for v, array in others.items()}
        known.update(dict.fromkeys(in_place.values, part_of(carried)))
        for operation in chain:
            (v,) = operation.outputs
            inputs = [
                known[a] if isinstance(a, int) else read(a) for a in operation.inputs
            ]
            part = _part(operation.eqn, inputs, part_shape)
            known[v] = in_its_type(part) if v in rounded else part
        part = known[result]
        return lax.dynamic_update_slice_in_dim(carried, part, number * size, axis)

    return lax.fori_loop(0, count, replaced, read(in_place.values[-1]))


def _chain(
    traced: Traced, equation: int, leaves: Collection[int]
) -> tuple[Operation, ...]:
    """Return the operations from leaves to a result, in an order to run them."""
    makers, found = traced.graph.producers(), {equation}
    todo = [equation]
    while todo:
        for v in traced.graph.equations[todo.pop()].inputs:
            if v not in leaves and makers[v].index not in found:
                found.add(makers[v].index)
                todo.append(makers[v].index)
    return tuple(traced.program.operations[index] for index in sorted(found))


def _part(eqn: Any, inputs: list[Any], shape: tuple[int, ...]) -> Any:
    """Compute a part of a result from parts of operands."""
    if eqn.primitive.name == "broadcast_in_dim":
        (operand,) = inputs
        return lax.broadcast_in_dim(operand, shape, eqn.params["broadcast_dimensions"])
    (result,) = _compat.bind_equation(eqn, inputs)
    return result
