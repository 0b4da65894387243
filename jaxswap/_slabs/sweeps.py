"""A program by slabs -> its sweeps: what each of them reads, computes and writes.

Each sweep goes over all slabs. It is planned from its ends back: a sum or a written
slab needs windows of other values, and these need wider windows of what they are made
of. Where a value was stored by an earlier sweep, its window is read. If not, it is
computed again in the slab.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jaxswap._slabs.frame import Frame, Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.levels import Levels
from jaxswap._slabs.windows import Window, reads


@dataclass(frozen=True)
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


def sweeps_of(
    frame: Frame, levels: Levels, grid: Grid, stored: Collection[int]
) -> tuple[Sweep, ...]:
    """Plan the sweeps of a program, those that have nothing to do left out.

    Args:
        frame: The program.
        levels: When its operations can run.
        grid: How the axis is cut.
        stored: Values that are stored by the first sweep that makes them, if a later
            one reads them.
    """
    first: dict[int, int] = {v: levels.ready[v] for v in levels.assembled}
    read: set[int] = set(levels.assembled)
    for level in range(levels.count):
        planned = _planned(frame, levels, grid, level, first)
        read.update(planned.reads)
        made = {v for index in planned.steps for v in frame.steps[index].outputs}
        for v in made.intersection(stored):
            first.setdefault(v, level)
    kept = {v: level for v, level in first.items() if v in read}
    found = (
        _planned(frame, levels, grid, level, kept) for level in range(levels.count)
    )
    return tuple(sweep for sweep in found if sweep.steps or sweep.writes)


def _planned(
    frame: Frame, levels: Levels, grid: Grid, level: int, stored: Mapping[int, int]
) -> Sweep:
    """Plan one sweep.

    Args:
        frame: The program.
        levels: When its operations can run.
        grid: How the axis is cut.
        level: Which sweep.
        stored: Values that are stored, and by which sweep.
    """
    windows: dict[int, Window] = {}
    writes = [v for v, when in stored.items() if when == level]
    sums: list[int] = []
    todo = [-index for index in levels.ends.get(level, ())]
    heapq.heapify(todo)
    steps: list[int] = []

    def want(v: int, window: Window) -> None:
        windows[v] = windows[v].union(window) if v in windows else window
        if v in frame.floating and stored.get(v, level) >= level:
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
