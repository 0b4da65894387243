"""Mean and variance in one sweep, where a program computes them in two passes.

A program may sum a value up, and then the squares of its distances from the mean. The
second sum reads the first one, so it would take a sweep of its own. Here both become
one operation. Sums of squares of parts with different means can be merged: the squared
distance of the means is added, for all elements of the smaller part.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME
from jaxswap._sweeps.opening import with_operations
from jaxswap._sweeps.reductions import wide
from jaxswap._sweeps.rule import (
    Call,
    Combine,
    Lines,
    NotBySlabsError,
    Part,
    shape_of,
    zero,
)
from jaxswap._trace.program import Operation, Program

NAME = "jaxswap_moments"
"""What the call that computes both sums is named."""


def with_moments(program: Program, lines: Mapping[int, Line]) -> Program:
    """Return a program in which two sums over the sliced axis are one operation."""
    makers = {v: op for op in program.operations for v in op.outputs}
    joined: dict[int, Operation] = {}
    gone: set[int] = set()
    for operation in program.operations:
        first = _first_pass(operation, makers)
        if first is None or id(first) in joined:
            continue
        line = lines.get(first.reads[0])
        if line is not None and line.dimension in first.eqn.params["axes"]:
            joined[id(first)] = _joined(program, first, operation)
            gone.add(id(operation))
    operations = [
        joined.get(id(operation), operation)
        for operation in program.operations
        if id(operation) not in gone
    ]
    return with_operations(program, operations) if joined else program


def _first_pass(
    operation: Operation, makers: Mapping[int, Operation]
) -> Operation | None:
    """Return the sum whose mean an operation sums the squared distances from."""
    if operation.eqn.primitive.name != "reduce_sum" or not operation.reads:
        return None
    distance = _square_root(makers.get(operation.reads[0]))
    difference = None if distance is None else makers.get(distance)
    if difference is None or difference.eqn.primitive.name != "sub":
        return None
    value, mean = difference.inputs
    axes = operation.eqn.params["axes"]
    if not isinstance(value, int) or not isinstance(mean, int):
        return None
    first = _sum_of_mean(mean, shape_of(difference.eqn.invars[0]), axes, makers)
    if first is None or first.eqn.params["axes"] != axes:
        return None
    is_same = _unconverted(first.reads[0], makers) == _unconverted(value, makers)
    return first if is_same else None


def _square_root(operation: Operation | None) -> int | None:
    """Return what an operation squares."""
    if operation is None or not operation.reads:
        return None
    name, params = operation.eqn.primitive.name, operation.eqn.params
    is_square = name == "square" or (name == "integer_pow" and params["y"] == 2)
    is_product = name == "mul" and operation.reads == operation.reads[:1] * 2
    return operation.reads[0] if is_square or is_product else None


def _sum_of_mean(
    mean: int,
    shape: Sequence[int],
    axes: Collection[int],
    makers: Mapping[int, Operation],
) -> Operation | None:
    """Return the sum that, divided by the number of its elements, is a mean."""
    kept = tuple(d for d in range(len(shape)) if d not in axes)
    count = math.prod(shape[d] for d in axes)
    is_divided = False
    while (operation := makers.get(mean)) is not None:
        name = operation.eqn.primitive.name
        if name == "reduce_sum":
            return operation if is_divided else None
        if name == "div" and not is_divided:
            by = operation.inputs[1]
            is_divided = not isinstance(by, int) and float(by.val) == count
            if not is_divided:
                return None
        elif name == "broadcast_in_dim":
            to = operation.eqn.params["broadcast_dimensions"]
            if to not in (kept, tuple(range(len(shape)))):
                return None
        elif name != "reshape":
            return None
        if not isinstance(operation.inputs[0], int):
            return None
        mean = operation.inputs[0]
    return None


def _unconverted(value: int, makers: Mapping[int, Operation]) -> int:
    """Return what a value was before it was converted to another type."""
    operation = makers.get(value)
    while operation is not None and operation.reads:
        if operation.eqn.primitive.name != "convert_element_type":
            break
        value = operation.reads[0]
        operation = makers.get(value)
    return value


def _joined(program: Program, first: Operation, second: Operation) -> Operation:
    axes = first.eqn.params["axes"]

    def moments(x: jax.Array) -> list[jax.Array]:
        return _moments(x, axes, None)

    moments.__name__ = NAME
    aval = program.avals[first.reads[0]]
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jax.jit(moments))(aval))
    (call,) = jaxpr.eqns
    outputs = (*first.outputs, *second.outputs)
    origins = (first,) * len(first.outputs) + (second,) * len(second.outputs)
    return Operation(call, first.inputs, outputs, first.scope, origins)


def is_moments(eqn: JaxprEqn) -> bool:
    """Whether an equation computes both sums."""
    return eqn.primitive.name == "jit" and eqn.params["name"] == NAME


class Moments:
    """A sum, and that of the squared distances from the mean."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Both sums are over the sliced axis."""
        del eqn
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Sum a slab up, and merge it with those before."""
        line = ins[0]
        if line is None or any(outs) or line.dimension not in _axes_of(eqn):
            raise NotBySlabsError("its operand is not sliced")
        return Part((SAME,), _of_slab, combine=Combine(_merged, zero))


def _axes_of(eqn: JaxprEqn) -> tuple[int, ...]:
    inner, _ = _compat.open_jaxpr(_compat.called_jaxpr(eqn))
    sums = (e for e in inner.eqns if e.primitive.name == "reduce_sum")
    return next(sums).params["axes"]


def _of_slab(call: Call) -> list[Any]:
    """Return both sums of a slab, and how many elements were summed before, and now."""
    (x,), (line,) = call.inputs, call.lines
    assert line is not None
    axes, shape = _axes_of(call.eqn), shape_of(call.eqn.invars[0])
    planes = shape[line.dimension]
    mask, before, now = call.place.counts(planes, line, call.window)
    each = math.prod(shape[d] for d in axes if d != line.dimension)
    if mask is not None:
        mask = jax.lax.broadcast_in_dim(mask, x.shape, (line.dimension,))
    sums = _moments(x, axes, mask, now * each)
    return [*sums, before * each, now * each]


def _moments(
    x: jax.Array, axes: Sequence[int], mask: jax.Array | None, count: Any = None
) -> list[jax.Array]:
    """Return the sum, and that of the squared distances from the mean.

    Args:
        x: The numbers.
        axes: Over which to sum.
        mask: Which numbers count. `None`: all of them.
        count: How many there are for each sum.
    """
    dtype = wide(x.dtype)
    wider = x.astype(dtype)
    if count is None:
        count = math.prod(x.shape[d] for d in axes)
    if mask is not None:
        wider = jnp.where(mask, wider, jnp.zeros_like(wider))
    total = wider.sum(axes)
    mean = total / jnp.maximum(jnp.asarray(count, dtype), jnp.ones((), dtype))
    distance = wider - jnp.expand_dims(mean, axes)
    if mask is not None:
        distance = jnp.where(mask, distance, jnp.zeros_like(distance))
    return [total, jnp.square(distance).sum(axes)]


def _merged(sums: Sequence[Any], parts: Sequence[Any]) -> Sequence[Any]:
    """Merge both sums of a slab with those of the slabs before (Chan et al. 1979)."""
    total, squares = sums
    one, its_squares = (x.astype(total.dtype) for x in parts[:2])
    before, now = (jnp.asarray(n, total.dtype) for n in parts[2:])
    least = jnp.ones((), total.dtype)
    apart = one / jnp.maximum(now, least) - total / jnp.maximum(before, least)
    share = before * now / jnp.maximum(before + now, least)
    return [total + one, squares + its_squares + jnp.square(apart) * share]
