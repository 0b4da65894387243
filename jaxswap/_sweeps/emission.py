"""A sweep -> one operation of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap import _compat
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.hosted import Margins
from jaxswap._slabs.sweeps import Sweep
from jaxswap._sweeps.described import Described
from jaxswap._sweeps.loop import Loop
from jaxswap._trace.describe import origins_of
from jaxswap._trace.program import Operation


def operation_of(
    described: Described,
    sweep: Sweep,
    grid: Grid,
    margins: Mapping[int, Margins],
    awaited: Mapping[int, int],
) -> Operation:
    """Return an operation that runs a sweep.

    Args:
        described: The program.
        sweep: The sweep.
        grid: How the axis is cut.
        margins: The values in host memory, and their planes beyond both ends.
        awaited: Values that must be there before the sweep begins, and the values that
            they are from then on.
    """
    program = described.program
    inputs = tuple(dict.fromkeys([*_inputs(described, sweep), *awaited]))
    outputs = (*sweep.writes, *sweep.sums)
    loop = Loop(described, sweep, grid, margins)

    def run(*arrays: Any) -> Sequence[Any]:
        zeros, there = _when_there(loop.zeros(), arrays)
        given = dict(zip(inputs, there, strict=True))
        found = loop.run(given, zeros)
        return [*(found[v] for v in outputs), *(given[v] for v in awaited)]

    run.__name__ = f"sweep{sweep.level}"
    types = [program.avals[v] for v in inputs]
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jax.jit(run))(*types))
    (call,) = jaxpr.eqns
    scope = _scope(described, sweep, run.__name__)
    origins = _origins(described, (*outputs, *awaited))
    return Operation(call, inputs, (*outputs, *awaited.values()), scope, origins)


def _origins(described: Described, values: Sequence[int]) -> tuple[Operation, ...]:
    """Return what makes each value where nothing is cut."""
    found = []
    for v in values:
        maker = described.program.operations[described.frame.makers[v]]
        found.append(origins_of(maker)[maker.outputs.index(v)])
    return tuple(found)


def _scope(described: Described, sweep: Sweep, name: str) -> str:
    """Return the name of a sweep, and where in the network its first result is made."""
    if not sweep.writes:
        return name
    maker = described.frame.makers[sweep.writes[0]]
    scope = described.program.operations[maker].scope
    return f"{name}/{scope}" if scope else name


def _inputs(described: Described, sweep: Sweep) -> tuple[int, ...]:
    """Return the values that a sweep reads: in windows, or whole."""
    whole = [
        v
        for index in sweep.steps
        for v, stencils in zip(
            described.frame.steps[index].inputs,
            described.frame.steps[index].stencils,
            strict=True,
        )
        if stencils is None
    ]
    return tuple(dict.fromkeys([*sweep.reads, *whole]))


def _when_there(
    zeros: dict[int, Any], arrays: Sequence[Any]
) -> tuple[dict[int, Any], Sequence[Any]]:
    """Return numbers that are not known before the arrays are.

    Otherwise XLA makes the arrays into which sweeps write all at once, and early.
    """
    kept = [i for i, x in enumerate(arrays) if not _is_key(x)]
    zeros, numbers = lax.optimization_barrier((zeros, [arrays[i] for i in kept]))
    found = list(arrays)
    for i, x in zip(kept, numbers, strict=True):
        found[i] = x
    return zeros, found


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)
