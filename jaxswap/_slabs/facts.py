"""What a plan tells of its sweeps: windows, what they write, what they sum up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxswap._slabs.frame import Frame
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.sweeps import Sweep


@dataclass(frozen=True)
class WindowRead:
    """Planes of a stored value that each slab reads.

    Attributes:
        value: The value.
        start: The first plane, counted from the first one of the slab. Below zero, it
            belongs to the slab before.
        stop: The plane behind the last one.
        pitch: From the first plane of a slab to that of the next.
    """

    value: int
    start: int
    stop: int
    pitch: int


@dataclass(frozen=True)
class SweepFacts:
    """One pass over all slabs.

    Attributes:
        level: How many sweeps have ended before, at least.
        reads: What each slab reads.
        writes: Values of which each slab writes its planes.
        sums: Values that all slabs together make.
        names: For each of `outputs`, where in the network it is made, or by what.
        operations: How many operations each slab runs.
    """

    level: int
    reads: tuple[WindowRead, ...]
    writes: tuple[int, ...]
    sums: tuple[int, ...]
    names: tuple[str, ...]
    operations: int

    @property
    def outputs(self) -> tuple[int, ...]:
        """What the sweep makes."""
        return (*self.writes, *self.sums)


@dataclass(frozen=True)
class SlabFacts:
    """How a program was cut.

    Attributes:
        length: Planes of the axis that is cut.
        count: How many slabs there are.
        thickness: Planes of a slab.
        sweeps: The sweeps, in order.
        whole: Operations on values with that axis that run on whole arrays, and why.
    """

    length: int
    count: int
    thickness: int
    sweeps: tuple[SweepFacts, ...]
    whole: tuple[str, ...] = ()


def facts_of(
    frame: Frame,
    grid: Grid,
    sweeps: Iterable[Sweep],
    names: Sequence[str],
    whole: Iterable[str],
) -> SlabFacts:
    """Return what a plan tells of some sweeps.

    Args:
        frame: The program.
        grid: How the axis is cut.
        sweeps: The sweeps.
        names: For each step of the program, where in the network it is, or what it is.
        whole: Why some operations run on whole arrays.
    """
    return SlabFacts(
        length=grid.length,
        count=grid.count,
        thickness=grid.thickness,
        sweeps=tuple(_sweep(frame, grid, sweep, names) for sweep in sweeps),
        whole=tuple(dict.fromkeys(whole)),
    )


def _sweep(frame: Frame, grid: Grid, sweep: Sweep, names: Sequence[str]) -> SweepFacts:
    reads = tuple(
        WindowRead(
            value=v,
            start=sweep.windows[v].start,
            stop=sweep.windows[v].stop,
            pitch=grid.pitch(frame.axes[v].rate),
        )
        for v in sweep.reads
    )
    made = (*sweep.writes, *sweep.sums)
    return SweepFacts(
        level=sweep.level,
        reads=reads,
        writes=sweep.writes,
        sums=sweep.sums,
        names=tuple(names[frame.makers[v]] for v in made),
        operations=len(sweep.steps),
    )
