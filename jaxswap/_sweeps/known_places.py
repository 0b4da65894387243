"""Planes that are looked up at places known beforehand, as networks resize volumes.

The nearest neighbour of each finer plane is a plane repeated; that of each coarser one
is one plane of several. Written as a look-up, neither tells where a slab is. So they
are written as copies and slices, and their gradients as sums and padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._sweeps.known_numbers import KnownNumbers
from jaxswap._sweeps.opening import now, with_operations
from jaxswap._sweeps.rule import shape_of
from jaxswap._trace.program import Operation, Program
from jaxswap._trace.tracing import DerivedListing

Planes = Callable[..., jax.Array]


def with_known_places(program: Program) -> Program:
    """Return a program in which planes at known places are copied, or sliced."""
    numbers, listing = KnownNumbers(program), DerivedListing()
    listing.avals = list(program.avals)
    became: dict[int, Any] = {}
    for operation in program.operations:
        inputs = tuple(now(atom, became) for atom in operation.inputs)
        operation = dataclasses.replace(operation, inputs=inputs)
        planes = _planes(operation, numbers)
        if planes is None:
            listing.operations.append(operation)
            continue
        kept = [a for place, a in enumerate(inputs) if place != 1]
        types = [v.aval for p, v in enumerate(operation.eqn.invars) if p != 1]
        jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jax.jit(planes))(*types))
        listing.scope = operation.scope
        results = listing.results(jaxpr.eqns[0], kept)
        became.update(zip(operation.outputs, results, strict=True))
    if not became:
        return program
    changed = dataclasses.replace(program, avals=tuple(listing.avals))
    return with_operations(changed, listing.operations, became)


def _planes(operation: Operation, numbers: KnownNumbers) -> Planes | None:
    """Return what a look-up, or its reverse, does with its table and rows."""
    eqn = operation.eqn
    name = eqn.primitive.name
    is_reverse = name in ("scatter-add", "scatter_add")
    if not (is_reverse or name == "gather"):
        return None
    dimension = _looked_up(eqn, is_reverse=is_reverse)
    if dimension is None or not isinstance(operation.inputs[1], int):
        return None
    places = numbers.of(operation.inputs[1])
    if places is None:
        return None
    length = shape_of(eqn.invars[0])[dimension]
    return _copies(places.reshape(-1), length, dimension, is_reverse=is_reverse)


def _looked_up(eqn: JaxprEqn, *, is_reverse: bool) -> int | None:
    """Return the dimension whose planes are looked up, if it is one, whole planes."""
    numbers, shape = eqn.params["dimension_numbers"], shape_of(eqn.invars[0])
    rows = shape_of(eqn.invars[2] if is_reverse else eqn.outvars[0])
    if is_reverse:
        found, gone = numbers.scatter_dims_to_operand_dims, numbers.inserted_window_dims
        kept = numbers.update_window_dims
    else:
        found, gone = numbers.start_index_map, numbers.collapsed_slice_dims
        kept = numbers.offset_dims
    if len(found) != 1 or gone != found or len(rows) != len(shape):
        return None
    (dimension,) = found
    others = tuple(d for d in range(len(shape)) if d != dimension)
    places = shape_of(eqn.invars[1])
    is_whole = all(shape[d] == rows[d] for d in others) and kept == others
    is_row = places == (rows[dimension], 1)
    return dimension if is_whole and is_row else None


def _copies(
    places: np.ndarray, length: int, dimension: int, *, is_reverse: bool
) -> Planes | None:
    """Return copies, a slice, or the reverse of it, if the places are even."""
    count = len(places)
    if count % length == 0 and (places == np.arange(count) // (count // length)).all():
        times = count // length
        if is_reverse:
            return lambda table, rows: table + _joined(rows, times, dimension)
        return lambda table: _repeated(table, times, dimension)
    first, step = int(places[0]), int(places[1] - places[0]) if count > 1 else 1
    last = first + step * (count - 1)
    is_even = step > 0 and first >= 0 and last < length
    if not is_even or (places != first + step * np.arange(count)).any():
        return None
    if is_reverse:
        ends = (first, length - 1 - last, step - 1)
        return lambda table, rows: table + _padded(rows, ends, dimension)
    return lambda table: lax.slice_in_dim(table, first, last + 1, step, dimension)


def _repeated(x: jax.Array, times: int, dimension: int) -> jax.Array:
    shape = list(x.shape)
    wide = lax.expand_dims(x, [dimension + 1])
    wide = jnp.broadcast_to(
        wide, [*shape[: dimension + 1], times, *shape[dimension + 1 :]]
    )
    shape[dimension] *= times
    return wide.reshape(shape)


def _joined(x: jax.Array, times: int, dimension: int) -> jax.Array:
    shape = list(x.shape)
    shape[dimension : dimension + 1] = [shape[dimension] // times, times]
    return x.reshape(shape).sum(dimension + 1)


def _padded(x: jax.Array, ends: tuple[int, int, int], dimension: int) -> jax.Array:
    config = [ends if d == dimension else (0, 0, 0) for d in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)
