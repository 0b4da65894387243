"""A sweep -> a loop over slabs, as one operation of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap import _compat
from jaxswap._slabs.frame import Kind
from jaxswap._slabs.grid import Grid, Line
from jaxswap._slabs.sweeps import Sweep, written
from jaxswap._slabs.windows import Window, reads
from jaxswap._sweeps.described import Described
from jaxswap._sweeps.reductions import wide
from jaxswap._sweeps.rule import Call, Combine, Part, cropped
from jaxswap._trace.program import Operation


def operation_of(described: Described, sweep: Sweep, grid: Grid) -> Operation:
    """Return an operation that runs a sweep."""
    program = described.program
    inputs, outputs = _inputs(described, sweep), (*sweep.writes, *sweep.sums)
    loop = _Loop(described, sweep, grid)

    def run(*arrays: Any) -> Sequence[Any]:
        zeros, given = _when_there(loop.zeros(), arrays)
        found = loop.run(dict(zip(inputs, given, strict=True)), zeros)
        return [found[v] for v in outputs]

    run.__name__ = f"sweep{sweep.level}"
    types = [program.avals[v] for v in inputs]
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jax.jit(run))(*types))
    (call,) = jaxpr.eqns
    return Operation(call, inputs, outputs, _scope(described, sweep, run.__name__))


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


@dataclasses.dataclass(frozen=True)
class _Slab:
    """The slab that is computed: its number, and where it lies."""

    grid: Grid
    index: Any

    def first(self, line: Line) -> Any:
        """Return the first plane of the slab, of a value with this axis."""
        first = self.index * self.grid.pitch(line.rate)
        return first if self.grid.is_even else jnp.minimum(first, self._last(line))

    def filled(
        self, x: jax.Array, planes: int, line: Line, window: Window, fill: Any
    ) -> jax.Array:
        """Fill what a window holds outside of its value."""
        if not self.grid.leaves(line.rate, planes, window):
            return x
        plane = self._planes(window, line)
        return _where((plane >= 0) & (plane < planes), line, x, fill)

    def counted(
        self, x: jax.Array, planes: int, line: Line, window: Window, fill: Any
    ) -> jax.Array:
        """Fill all planes that another slab counts, or that the value does not have."""
        mask, _, _ = self.counts(planes, line, window)
        return x if mask is None else _where(mask, line, x, fill)

    def counts(
        self, planes: int, line: Line, window: Window
    ) -> tuple[jax.Array | None, Any, Any]:
        """Return which planes of a window the slab counts, and how many."""
        pitch = self.grid.pitch(line.rate)
        first = self.index * pitch
        if not self.grid.repeats(line.rate, planes):
            return None, first, pitch
        plane = self._planes(window, line)
        end = jnp.minimum(planes, first + pitch)
        end = jnp.where(self.index == self.grid.count - 1, planes, end)
        before = jnp.minimum(planes, first)
        return (plane >= first) & (plane < end), before, end - before

    def read(self, x: jax.Array, line: Line, window: Window) -> jax.Array:
        """Return a window of a whole array. Beyond the array it holds zeros."""
        planes, first = x.shape[line.dimension], self.first(line) + window.start
        if not self.grid.leaves(line.rate, planes, window):
            return _sliced(x, first, window.size, line)
        low = max(0, -window.start)
        high = max(0, self._last(line) + window.stop - planes)
        if window.size > planes:
            return _sliced(_padded(x, low, high, line), first + low, window.size, line)
        # The window moves until the array holds it, and back when it is there.
        inside = jnp.clip(first, 0, planes - window.size)
        part = _padded(_sliced(x, inside, window.size, line), low, high, line)
        return _sliced(part, first - inside + low, window.size, line)

    def write(
        self, whole: jax.Array, x: jax.Array, line: Line, window: Window
    ) -> jax.Array:
        """Write a slab into a whole array.

        Args:
            whole: The array.
            x: What `Grid.written` asks for.
            line: The sliced axis of the array.
            window: Which planes `x` holds.
        """
        planes = whole.shape[line.dimension]
        size = min(window.stop, planes)
        first = self.first(line)
        if window.start < 0:
            place = jnp.clip(first, 0, planes - size)
            x = _sliced(x, place - first - window.start, size, line)
            first = place
        else:
            x = cropped(x, line.dimension, 0, size)
        return lax.dynamic_update_slice_in_dim(
            whole, x, first, line.dimension, allow_negative_indices=False
        )

    def _last(self, line: Line) -> int:
        return self.grid.last(line.rate)

    def _planes(self, window: Window, line: Line) -> jax.Array:
        return self.first(line) + window.start + jnp.arange(window.size)


class _Loop:
    """Runs a sweep over all slabs."""

    def __init__(self, described: Described, sweep: Sweep, grid: Grid) -> None:
        self._described = described
        self._sweep = sweep
        self._grid = grid

    def zeros(self) -> dict[int, Any]:
        """Return a number for each value that is written."""
        return {v: jnp.zeros((), self._dtype(v)) for v in self._sweep.writes}

    def run(self, given: Mapping[int, Any], zeros: Mapping[int, Any]) -> dict[int, Any]:
        """Return what the sweep writes and sums up.

        Args:
            given: The arrays of the values that it reads, whole.
            zeros: What fills the values that it writes, before it does.
        """
        program = self._described.program
        arrays = {v: jnp.full(program.avals[v].shape, x) for v, x in zeros.items()}
        sums = {
            v: self._start(v, self._combine(index))
            for index in self._sweep.steps
            if self._described.frame.steps[index].kind is Kind.SUM
            for v in self._described.program.operations[index].outputs
        }

        def body(index: Any, carry: Any) -> Any:
            return self._slab(_Slab(self._grid, index), given, *carry)

        carry = (arrays, sums)
        if self._grid.count == 1:
            arrays, sums = body(jnp.int32(0), carry)
        else:
            arrays, sums = lax.fori_loop(0, self._grid.count, body, carry)
        return {**arrays, **{v: x.astype(self._dtype(v)) for v, x in sums.items()}}

    def _slab(
        self, slab: _Slab, given: Mapping[int, Any], arrays: Any, sums: Any
    ) -> tuple[dict[int, Any], dict[int, Any]]:
        sweep, lines = self._sweep, self._described.lines
        found = {
            v: slab.read(given[v], lines[v], sweep.windows[v]) for v in sweep.reads
        }
        sums = dict(sums)
        for index in sweep.steps:
            operation = self._described.program.operations[index]
            part = self._described.parts[index]
            results = self._results(slab, given, found, operation, part)
            if part.combine is None:
                found.update(zip(operation.outputs, results, strict=True))
                self._fix(found, operation.outputs)
                continue
            so_far = [sums[v] for v in operation.outputs]
            together = part.combine.parts(so_far, results)
            sums.update(zip(operation.outputs, together, strict=True))
        arrays = {
            v: self._written(slab, whole, found[v], v) for v, whole in arrays.items()
        }
        return arrays, sums

    def _fix(self, found: dict[int, Any], values: Sequence[int]) -> None:
        """Have XLA compute once what is stored to be compared."""
        compared = self._described.frame.compared
        for v in compared.intersection(values).intersection(self._sweep.writes):
            found[v] = lax.optimization_barrier(found[v])

    def _results(
        self,
        slab: _Slab,
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
                x = self._cut(found[atom], atom, read)
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
        line = self._described.lines[counted]
        return self._grid.summed(line.rate, self._planes(counted))

    def _cut(self, x: jax.Array, value: int, window: Window) -> jax.Array:
        """Return a window of a wider one."""
        wider = self._sweep.windows[value]
        line = self._described.lines[value]
        return cropped(x, line.dimension, window.start - wider.start, window.size)

    def _written(
        self, slab: _Slab, whole: jax.Array, x: jax.Array, value: int
    ) -> jax.Array:
        window = written(self._described.frame, self._grid, value)
        x = self._cut(x, value, window)
        return slab.write(whole, x, self._described.lines[value], window)

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


def _where(inside: jax.Array, line: Line, x: jax.Array, fill: Any) -> jax.Array:
    mask = lax.broadcast_in_dim(inside, x.shape, (line.dimension,))
    return jnp.where(mask, x, jnp.full_like(x, fill))


def _sliced(x: jax.Array, first: Any, size: int, line: Line) -> jax.Array:
    return lax.dynamic_slice_in_dim(
        x, first, size, line.dimension, allow_negative_indices=False
    )


def _padded(x: jax.Array, low: int, high: int, line: Line) -> jax.Array:
    ends = [(0, 0, 0)] * x.ndim
    ends[line.dimension] = (low, high, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), ends)
