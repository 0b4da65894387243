"""What a sweep computes for one slab."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap import _compat
from jaxswap._slabs.frame import Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.sweeps import Sweep, held
from jaxswap._slabs.windows import Window, reads
from jaxswap._sweeps.crossing import Crossing
from jaxswap._sweeps.described import Described
from jaxswap._sweeps.reductions import wide
from jaxswap._sweeps.rule import Call, Combine, Part, cropped
from jaxswap._sweeps.slab import Slab
from jaxswap._trace.program import Operation

Arrays = dict[int, Any]
"""Arrays, by the numbers of their values."""


class Body:
    """The operations of a sweep, for one slab after the other."""

    def __init__(self, described: Described, sweep: Sweep, grid: Grid) -> None:
        self._described = described
        self._sweep = sweep
        self._grid = grid

    def sums(self) -> Arrays:
        """Return what the sums are before the first slab."""
        return {
            v: self._start(v, self._combine(index))
            for index in self._sweep.steps
            if self._described.frame.steps[index].kind is Kind.SUM
            for v in self._described.program.operations[index].outputs
        }

    @property
    def heavy(self) -> list[int]:
        """The operations that copies can hide behind."""
        steps = self._described.frame.steps
        return [index for index in self._sweep.steps if steps[index].is_heavy]

    def run(
        self,
        slab: Slab,
        given: Mapping[int, Any],
        windows: Mapping[int, Any],
        sums: Arrays,
        crossing: Crossing,
    ) -> tuple[Arrays, Arrays]:
        """Return what is computed for a slab, windows included, and the new sums.

        Args:
            slab: Which slab.
            given: The arrays of the values that are read whole.
            windows: The windows of all others that are read.
            sums: The sums of the slabs before.
            crossing: Copies that run meanwhile.
        """
        found, sums = dict(windows), dict(sums)
        for index in self._sweep.steps:
            operation = self._described.program.operations[index]
            part = self._described.parts[index]
            execute = functools.partial(
                self._results, slab, given, found, operation, part
            )
            results = crossing.beside(index, execute)
            if part.combine is None:
                found.update(zip(operation.outputs, results, strict=True))
                self._fix(found, operation.outputs)
                continue
            so_far = [sums[v] for v in operation.outputs]
            together = part.combine.parts(so_far, results)
            sums.update(zip(operation.outputs, together, strict=True))
        return found, sums

    def _fix(self, found: dict[int, Any], values: Sequence[int]) -> None:
        """Have XLA compute once what is stored to be compared."""
        compared = self._described.frame.compared
        for v in compared.intersection(values).intersection(self._sweep.writes):
            found[v] = lax.optimization_barrier(found[v])

    def _results(
        self,
        slab: Slab,
        given: Mapping[int, Any],
        found: Mapping[int, Any],
        operation: Operation,
        part: Part,
    ) -> Sequence[Any]:
        """Execute one operation for a slab."""
        described = self._described
        window = self._window(operation, part)
        inputs = []
        for place, (atom, stencils) in enumerate(
            zip(operation.inputs, part.stencils, strict=True)
        ):
            if not isinstance(atom, int):
                inputs.append(atom.val)
            elif stencils is None:
                inputs.append(given[atom])
            else:
                read = reads(stencils, window)
                x = self.cut(found[atom], atom, read)
                fill = part.fills[place] if part.fills else None
                if fill is not None:
                    combine = part.combine
                    is_counted = combine is not None and combine.counted == place
                    put = slab.counted if is_counted else slab.filled
                    line = described.lines[atom]
                    x = put(x, self._planes(atom), line, read, fill(x.dtype))
                inputs.append(x)
        lines = [
            described.lines.get(v) if isinstance(v, int) else None
            for v in operation.inputs
        ]
        outs = [described.lines.get(v) for v in operation.outputs]
        with _compat.at_equation(operation.eqn):
            call = Call(operation.eqn, inputs, lines, outs, window, slab)
            return part.run(call)

    def _window(self, operation: Operation, part: Part) -> Window:
        """Return the planes that are wanted of a result, or counted of an operand."""
        if part.combine is None:
            return self._sweep.windows[operation.outputs[0]]
        counted = operation.inputs[part.combine.counted]
        assert isinstance(counted, int)
        return held(self._described.frame, self._grid, counted)

    def cut(self, x: jax.Array, value: int, window: Window) -> jax.Array:
        """Return a window of a wider one."""
        wider = self._sweep.windows[value]
        line = self._described.lines[value]
        return cropped(x, line.dimension, window.start - wider.start, window.size)

    def _combine(self, index: int) -> Combine:
        combine = self._described.parts[index].combine
        assert combine is not None
        return combine

    def _start(self, value: int, combine: Combine) -> jax.Array:
        aval = self._described.program.avals[value]
        start = combine.start(wide(aval.dtype))
        return jnp.full(aval.shape, start, wide(aval.dtype))

    def _dtype(self, value: int) -> Any:
        return self._described.program.avals[value].dtype

    def _planes(self, value: int) -> int:
        return self._described.frame.axes[value].planes
