"""`Program` -> the same, with values that can be stored in pieces."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax import lax

from jaxswap._graph.pieces import Pieces
from jaxswap._trace.program import Operation, Program


def in_pieces(program: Program, pieces: Sequence[Pieces]) -> Program:
    """Add the operations that cut values into pieces, and that join the pieces.

    Pieces are cut off behind the last operation of the forward pass that reads the
    value, so that the whole value is free from there on.

    Args:
        program: A program, on one device.
        pieces: Which values, and how each is cut. None of them is a view.
    """
    if not pieces:
        return program
    avals = list(program.avals)
    makers = {v: op for op in program.operations for v in op.outputs}
    cuts: dict[int, list[Operation]] = {}
    joins: list[Operation] = []
    for one in pieces:
        cut, join = _cut_and_joined(one, makers[one.value], avals)
        cuts.setdefault(_place(program, one.value), []).extend(cut)
        joins.append(join)
    operations: list[Operation] = []
    moved: dict[int, int] = {}
    for index, operation in enumerate(program.operations):
        moved[index] = len(operations)
        operations += [operation, *cuts.get(index, ())]
    return dataclasses.replace(
        program,
        operations=(*operations, *joins),
        avals=tuple(avals),
        backward=frozenset(moved[index] for index in program.backward),
        deferred=frozenset(moved[index] for index in program.deferred),
        pieces=tuple(pieces),
    )


def _place(program: Program, v: int) -> int:
    """Return the last operation of the forward pass that makes or reads a value.

    What stands behind the first operation of the backward pass does not count as one
    that reads it: nothing but the backward pass needs it.
    """
    end = min(program.backward, default=len(program.operations))
    operations = enumerate(program.operations)
    return max(
        i for i, op in operations if v in op.outputs or (i < end and v in op.reads)
    )


def _cut_and_joined(
    pieces: Pieces, maker: Operation, avals: list[Any]
) -> tuple[list[Operation], Operation]:
    """Return the operations that cut a value and join it. Number the pieces."""
    v, whole = pieces.value, avals[pieces.value]
    cut = jax.make_jaxpr(lambda x: list(_sliced(x, pieces)))(_type_of(whole))
    parts = [eqn.outvars[0].aval for eqn in cut.eqns]
    joined = jax.make_jaxpr(lambda xs: lax.concatenate(xs, pieces.axis))(
        [_type_of(part) for part in parts]
    )
    names = range(len(avals), len(avals) + pieces.count)
    avals += parts
    named: dict[str, Any] = {"scope": maker.scope, "origins": (_only(maker, v),)}
    slices = [
        Operation(eqn, (v,), (name,), is_cut=True, **named)
        for eqn, name in zip(cut.eqns, names, strict=True)
    ]
    (join,) = joined.eqns
    return slices, Operation(join, tuple(names), (v,), is_join=True, **named)


def _sliced(x: Any, pieces: Pieces) -> Iterator[Any]:
    size = x.shape[pieces.axis] // pieces.count
    for start in range(0, x.shape[pieces.axis], size):
        yield lax.slice_in_dim(x, start, start + size, axis=pieces.axis)


def _type_of(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _only(maker: Operation, v: int) -> Operation:
    """Return the operation of the user's program that makes one result."""
    return maker.origins[maker.outputs.index(v)] if maker.origins else maker
