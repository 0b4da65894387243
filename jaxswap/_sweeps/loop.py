"""A sweep as a loop over slabs.

Where values lie in host memory, one iteration computes two slabs, and copies cross from
slab to slab:

    the last results leave         | computation of the first slab
    the second slab's windows come |
    the first results leave        | computation of the second slab
    the next windows come          |

So windows are never copied on the device: each is read where it arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap._slabs.grid import Grid, Line
from jaxswap._slabs.hosted import Margins
from jaxswap._slabs.sweeps import Sweep, held
from jaxswap._slabs.windows import Window
from jaxswap._sweeps.body import Arrays, Body
from jaxswap._sweeps.crossing import Copy, Crossing
from jaxswap._sweeps.described import Described
from jaxswap._sweeps.host_arrays import empty_on_host
from jaxswap._sweeps.slab import Slab


class Loop:
    """Runs a sweep over all slabs."""

    def __init__(
        self,
        described: Described,
        sweep: Sweep,
        grid: Grid,
        margins: Mapping[int, Margins],
    ) -> None:
        self._described = described
        self._sweep = sweep
        self._grid = grid
        self._margins = margins
        self._body = Body(described, sweep, grid)
        self._come = tuple(v for v in sweep.reads if v in margins)
        self._leave = tuple(v for v in sweep.writes if v in margins)

    def zeros(self) -> Arrays:
        """Return a number for each value that is written."""
        return {v: jnp.zeros((), self._aval(v).dtype) for v in self._sweep.writes}

    def run(self, given: Mapping[int, Any], zeros: Mapping[int, Any]) -> Arrays:
        """Return what the sweep writes and sums up.

        Args:
            given: The arrays of the values that it reads, whole.
            zeros: What fills the values that it writes, before it does.
        """
        avals = {v: self._aval(v) for v in self._sweep.writes}
        arrays: Arrays = {
            v: empty_on_host(aval)
            if v in self._leave
            else jnp.full(aval.shape, zeros[v])
            for v, aval in avals.items()
        }
        sums, count = self._body.sums(), self._grid.count
        if count == 1:
            arrays, sums = self._one(0, given, arrays, sums)
        elif not (self._come or self._leave):
            arrays, sums = lax.fori_loop(
                0, count, lambda i, c: self._one(i, given, *c), (arrays, sums)
            )
        else:
            # What leaves before the first slab goes beyond the end of its array.
            nothing = {v: self._filled(v, zeros[v]) for v in self._leave}
            arrays, sums = self._in_pairs(given, arrays, sums, nothing)
        return {**arrays, **{v: x.astype(self._aval(v).dtype) for v, x in sums.items()}}

    def _one(
        self, index: Any, given: Mapping[int, Any], arrays: Arrays, sums: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Compute one slab, and have its copies done before the next one."""
        nothing = Crossing([], [])
        windows = self._fetched(index, given)
        made, sums = self._computed(index, given, windows, sums, nothing)
        return self._written(index, arrays, made, arrays), sums

    def _in_pairs(
        self, given: Mapping[int, Any], arrays: Arrays, sums: Arrays, leaving: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Compute two slabs in each iteration, with copies from slab to slab."""

        def pair(index: Any, carry: Any) -> Any:
            whole, first, second = dict(given), 2 * index, 2 * index + 1
            state = self._beside_copies(first, first, whole, *carry)
            # Otherwise XLA fuses operations of both slabs, and holds both at a time.
            hosted = {v: whole[v] for v in self._come}
            then, state, hosted = lax.optimization_barrier((second, state, hosted))
            whole.update(hosted)
            return self._beside_copies(second, then, whole, *state)

        carry = (arrays, sums, self._fetched(0, given), leaving)
        half = self._grid.count // 2
        arrays, sums, _, leaving = lax.fori_loop(0, half, pair, carry)
        last = self._grid.count - 1
        return self._written(last, arrays, leaving, self._leave), sums

    def _beside_copies(
        self,
        number: Any,
        index: Any,
        given: Arrays,
        arrays: Arrays,
        sums: Arrays,
        windows: Arrays,
        leaving: Arrays,
    ) -> tuple[Arrays, Arrays, Arrays, Arrays]:
        """Compute a slab while the last results leave, and the next windows come.

        Args:
            number: Which slab, as a sum of the loop's own number: XLA then knows where
                windows lie in host memory.
            index: The same, known when its computation may begin.
            given: The arrays of the values that are read. Those on the host are
                replaced by what the next slab reads.
            arrays: The whole arrays that are written.
            sums: The sums of the slabs before.
            windows: What came from the host for this slab.
            leaving: What leaves of the slab before.

        Returns:
            The new `arrays`, `sums`, `windows` and `leaving`.
        """
        last, following = self._slab(number - 1), self._slab(number + 1)
        out = {
            v: Copy(partial(self._put, last, v), arrays[v], leaving[v])
            for v in self._leave
        }
        come = {
            v: Copy(partial(self._fetch, following, v), given[v]) for v in self._come
        }
        crossing = Crossing([*out.values(), *come.values()], self._body.heavy)
        made, sums = self._computed(index, given, windows, sums, crossing)
        crossing.end()
        given.update({v: copy.whole for v, copy in come.items()})
        kept = [v for v in arrays if v not in self._leave]
        arrays = {
            **self._written(index, arrays, made, kept),
            **{v: copy.whole for v, copy in out.items()},
        }
        windows = {v: copy.window for v, copy in come.items()}
        return arrays, sums, windows, {v: made[v] for v in self._leave}

    def _fetched(self, index: Any, given: Mapping[int, Any]) -> Arrays:
        """Bring the windows of a slab that come from the host."""
        return {v: self._fetch(self._slab(index), v, given[v]) for v in self._come}

    def _fetch(self, slab: Slab, v: int, whole: Any) -> Any:
        with jax.named_scope(f"swap_in({self._label(v)})"):
            window = self._sweep.windows[v]
            return slab.fetch(whole, self._line(v), window, self._margins[v])

    def _put(self, slab: Slab, v: int, whole: Any, made: Any) -> Any:
        with jax.named_scope(f"swap_out({self._label(v)})"):
            return slab.leave(whole, made, self._line(v), self._margins[v])

    def _computed(
        self,
        index: Any,
        given: Mapping[int, Any],
        fetched: Arrays,
        sums: Arrays,
        crossing: Crossing,
    ) -> tuple[Arrays, Arrays]:
        """Return what is written of a slab, and the new sums."""
        slab, windows = self._slab(index), dict(fetched)
        for v in self._sweep.reads:
            if v not in windows:
                window = self._sweep.windows[v]
                windows[v] = slab.read(given[v], self._line(v), window)
        found, sums = self._body.run(slab, given, windows, sums, crossing)
        made = {
            v: self._body.cut(found[v], v, self._window(v)) for v in self._sweep.writes
        }
        return made, sums

    def _written(
        self, index: Any, arrays: Arrays, made: Arrays, values: Iterable[int]
    ) -> Arrays:
        """Write the slabs of some values into whole arrays."""
        slab, arrays = self._slab(index), dict(arrays)
        for v in values:
            if v in self._leave:
                arrays[v] = self._put(slab, v, arrays[v], made[v])
            else:
                arrays[v] = slab.write(arrays[v], made[v], self._line(v))
        return arrays

    def _slab(self, index: Any) -> Slab:
        return Slab(self._grid, index)

    def _window(self, value: int) -> Window:
        return held(self._described.frame, self._grid, value)

    def _line(self, value: int) -> Line:
        return self._described.lines[value]

    def _aval(self, value: int) -> Any:
        return self._described.program.avals[value]

    def _filled(self, value: int, number: jax.Array) -> jax.Array:
        """Return a slab that is full of a number."""
        line, (_, *shape) = self._line(value), self._aval(value).shape
        shape.insert(line.dimension, self._window(value).size)
        return jnp.full(shape, number)

    def _label(self, value: int) -> str:
        maker = self._described.frame.makers[value]
        return self._described.program.operations[maker].scope.replace("/", ".")
