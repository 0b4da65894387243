"""Whole values in host memory, of which sweeps read and write windows.

The sliced axis comes first there, so the planes of a window lie one behind the other.
Beyond both ends there are more planes, which hold anything. Windows reach there, and so
does what is copied ahead: the windows of the next slab arrive, and the results of the
last one leave, while a slab is computed. So do slabs that do not divide the planes. All
windows lie equally far from one another, so XLA can copy them by the number of a slab.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from jaxswap._slabs.frame import Frame, Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.sweeps import Sweep


@dataclass(frozen=True)
class Margins:
    """Planes beyond the ends of a value in host memory.

    Attributes:
        before: Planes before the first one.
        after: Planes behind the last one.
    """

    before: int
    after: int


def swappable(frame: Frame, grid: Grid, sweeps: Collection[Sweep]) -> frozenset[int]:
    """Return the values that can lie in host memory.

    Sweeps write them, and nothing else reads them.
    """
    return frozenset(
        v
        for sweep in sweeps
        for v in sweep.writes
        if v not in frame.wanted
        and all(_reads_windows(frame, user, v) for user in frame.users.get(v, ()))
    )


def _reads_windows(frame: Frame, index: int, value: int) -> bool:
    step = frame.steps[index]
    if step.kind is Kind.WHOLE:
        return False
    pairs = zip(step.inputs, step.stencils, strict=True)
    return all(stencils is not None for v, stencils in pairs if v == value)


def margins_of(
    frame: Frame, grid: Grid, sweeps: Collection[Sweep], hosted: Collection[int]
) -> dict[int, Margins]:
    """Return the planes beyond the ends of each value in host memory.

    Args:
        frame: The program.
        grid: How the axis is cut.
        sweeps: Its sweeps.
        hosted: The values.
    """
    found = {}
    for v in hosted:
        axis = frame.axes[v]
        windows = [sweep.windows[v] for sweep in sweeps if v in sweep.windows]
        before = max(-window.start for window in windows)
        after = max(window.stop for window in windows)
        after -= grid.surplus(axis.rate, axis.planes)
        found[v] = Margins(max(before, grid.pitch(axis.rate)), max(after, 0))
    return found


def swapped_values(
    frame: Frame, grid: Grid, sweeps: Collection[Sweep], swapped: int
) -> frozenset[int]:
    """Return so many of the values that can lie in host memory."""
    return frozenset(order_to_leave(frame, grid, sweeps)[:swapped])


def order_to_leave(
    frame: Frame, grid: Grid, sweeps: Collection[Sweep]
) -> tuple[int, ...]:
    """Return the values that can lie in host memory, in the order in which they leave.

    Those come first that are copied least for the time for which they lie there, and of
    these the largest.
    """

    def cost(v: int) -> tuple[float, int, int]:
        reads = [sweep.level for sweep in sweeps if v in sweep.reads]
        (written,) = (sweep.level for sweep in sweeps if v in sweep.writes)
        lies = max(reads, default=written) - written
        return (1 + len(reads)) / max(lies, 1), -frame.axes[v].nbytes, v

    return tuple(sorted(swappable(frame, grid, sweeps), key=cost))
