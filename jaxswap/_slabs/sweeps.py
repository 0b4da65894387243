"""A program by slabs -> its sweeps: what each of them reads, computes and writes.

Each sweep goes over all slabs. It is planned from its ends back: a sum or a written
slab needs windows of other values, and these need wider windows of what they are made
of. Where a value was stored by an earlier sweep, its window is read. If not, it is
computed again in the slab.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from jaxswap._slabs.frame import Frame, Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.levels import Levels
from jaxswap._slabs.windows import Window, reads


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over all slabs.

    Attributes:
        level: How many sweeps have ended before.
        steps: The operations, in order.
        windows: The window of each value that is read or computed.
        reads: Values of which whole arrays are there, and windows are read.
        writes: Values of which each slab is written into a whole array.
        sums: Values that all slabs together make.
    """

    level: int
    steps: tuple[int, ...]
    windows: Mapping[int, Window]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    sums: tuple[int, ...]


class Sweeping:
    """Plans the sweeps of a program, whatever is stored, and remembers them.

    Most sweeps stay what they are if one value more is stored, or one less.

    Args:
        frame: The program.
        levels: When its operations can run.
        grid: How the axis is cut.
    """

    def __init__(self, frame: Frame, levels: Levels, grid: Grid) -> None:
        self.frame = frame
        self.levels = levels
        self.grid = grid
        self._known: dict[tuple[int, tuple[int, ...]], list[_Known]] = {}

    def sweeps(self, stored: Collection[int]) -> tuple[Sweep, ...]:
        """Return the sweeps, those that have nothing to do left out.

        Args:
            stored: Values that are stored by the first sweep that makes them, if a
                later one reads them.
        """
        frame, levels = self.frame, self.levels
        first: dict[int, int] = {v: levels.ready[v] for v in levels.assembled}
        read: set[int] = set(levels.assembled)
        for level in range(levels.count):
            planned = self._planned(level, first)
            read.update(planned.reads)
            made = {v for index in planned.steps for v in frame.steps[index].outputs}
            for v in made.intersection(stored):
                first.setdefault(v, level)
        kept = {v: level for v, level in first.items() if v in read}
        found = (self._planned(level, kept) for level in range(levels.count))
        return tuple(sweep for sweep in found if sweep.steps or sweep.writes)

    def _planned(self, level: int, stored: Mapping[int, int]) -> Sweep:
        """Plan a sweep, or find the same one."""
        writes = tuple(v for v, when in stored.items() if when == level)
        earlier = {v for v, when in stored.items() if when < level}
        known = self._known.setdefault((level, writes), [])
        for one in known:
            if one.read <= earlier and one.made.isdisjoint(earlier):
                return one.sweep
        sweep = _planned(self.frame, self.levels, self.grid, level, writes, earlier)
        known.append(_Known.of(sweep, self.frame))
        return sweep


@dataclass(frozen=True, eq=False)
class _Known:
    """A sweep that was planned.

    Attributes:
        sweep: The sweep.
        read: What it reads, of all that could be made in it.
        made: What it makes, of all that could be stored before.
    """

    sweep: Sweep
    read: frozenset[int]
    made: frozenset[int]

    @classmethod
    def of(cls, sweep: Sweep, frame: Frame) -> _Known:
        floating = frame.floating
        made = floating.intersection(sweep.windows).difference(sweep.reads)
        return cls(sweep, floating.intersection(sweep.reads), made)


def sweeps_of(
    frame: Frame, levels: Levels, grid: Grid, stored: Collection[int]
) -> tuple[Sweep, ...]:
    """Plan the sweeps of a program once; see `Sweeping`."""
    return Sweeping(frame, levels, grid).sweeps(stored)


def _planned(
    frame: Frame,
    levels: Levels,
    grid: Grid,
    level: int,
    written: Iterable[int],
    earlier: Collection[int],
) -> Sweep:
    """Plan one sweep.

    Args:
        frame: The program.
        levels: When its operations can run.
        grid: How the axis is cut.
        level: Which sweep.
        written: Values that it stores.
        earlier: Values that sweeps before it store.
    """
    windows: dict[int, Window] = {}
    writes = list(written)
    sums: list[int] = []
    todo = [-index for index in levels.ends.get(level, ())]
    heapq.heapify(todo)
    steps: list[int] = []

    def want(v: int, window: Window) -> None:
        windows[v] = windows[v].union(window) if v in windows else window
        if v in frame.floating and v not in earlier:
            heapq.heappush(todo, -frame.makers[v])

    for v in writes:
        want(v, held(frame, grid, v))
    while todo:  # The last step first: all that reads its results was seen before.
        index = -heapq.heappop(todo)
        if steps and steps[-1] == index:
            continue
        step = frame.steps[index]
        steps.append(index)
        if step.kind is Kind.SUM:
            sums += step.outputs
            window = held(frame, grid, step.inputs[step.counted])
        else:
            if frame.floating.isdisjoint(step.outputs):
                writes += step.outputs
                windows.update({v: held(frame, grid, v) for v in step.outputs})
            asked = [windows[v] for v in step.outputs if v in windows]
            window = functools.reduce(Window.union, asked)
            windows.update(dict.fromkeys(step.outputs, window))
        for v, stencils in zip(step.inputs, step.stencils, strict=True):
            if stencils is not None:
                want(v, reads(stencils, window))
    made = {v for index in steps for v in frame.steps[index].outputs}
    return Sweep(
        level=level,
        steps=tuple(reversed(steps)),
        windows=windows,
        reads=tuple(v for v in windows if v not in made),
        writes=tuple(writes),
        sums=tuple(reversed(sums)),
    )


def held(frame: Frame, grid: Grid, value: int) -> Window:
    """Return the window of a value that is counted, or written, for each slab."""
    axis = frame.axes[value]
    return grid.held(axis.rate, axis.planes)
