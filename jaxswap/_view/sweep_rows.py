"""`Plan` -> its sweeps over slabs, one row each: windows, bytes and seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxswap._graph.graph import Value
from jaxswap._plans.plan import Plan
from jaxswap._simulate.kernels import Kernel
from jaxswap._slabs.facts import WindowRead
from jaxswap._view.rows import short_name


@dataclasses.dataclass(frozen=True)
class Made:
    """What a sweep writes or sums up.

    Attributes:
        value: The value.
        name: Its name, with a `d` before it if it is a cotangent, and where it lies if
            that is host memory.
    """

    value: Value
    name: str

    @property
    def nbytes(self) -> int:
        """Its bytes, on the device or in host memory."""
        return self.value.nbytes or self.value.host_nbytes


@dataclasses.dataclass(frozen=True)
class WindowRow:
    """A stored value that a sweep reads in windows.

    Attributes:
        value: The value.
        name: Its name, as in `Made`.
        read: The planes that each slab reads.
        nbytes: What all slabs together read.
    """

    value: Value
    name: str
    read: WindowRead
    nbytes: int

    @property
    def planes(self) -> str:
        """The planes of a slab, and those of its neighbours on both sides."""
        before, after = -self.read.start, self.read.stop - self.read.pitch
        around = f"{before:+d}{after:+d}" if before or after else ""
        return f"{self.read.pitch}{around}"


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """One sweep of a plan.

    Attributes:
        name: Its name in the program.
        is_backward: Whether it belongs to the backward pass.
        seconds: How long it takes in the simulated step.
        operations: How many operations each slab runs.
        reads: What it reads.
        writes: What it writes, slab by slab.
        sums: What all slabs together make.
    """

    name: str
    is_backward: bool
    seconds: float
    operations: int
    reads: tuple[WindowRow, ...]
    writes: tuple[Made, ...]
    sums: tuple[Made, ...]

    @property
    def read_bytes(self) -> int:
        """Bytes that all slabs together read."""
        return sum(row.nbytes for row in self.reads)

    @property
    def written_bytes(self) -> int:
        """Bytes of what it writes."""
        return sum(made.nbytes for made in self.writes)


def sweep_rows(plan: Plan) -> tuple[SweepRow, ...]:
    """Return the sweeps of a plan, in the order in which they run."""
    facts, graph = plan.graph.slab_facts, plan.graph
    if facts is None:
        return ()
    seconds = _seconds_by_equation(plan)
    makers = graph.producers()
    names = {
        v: name
        for sweep in facts.sweeps
        for v, name in zip(sweep.outputs, sweep.names, strict=True)
    }
    found: list[SweepRow] = []
    for sweep in facts.sweeps:
        made = [makers[v] for v in sweep.outputs if v in makers]
        if not made:  # No result needs it.
            continue
        row = SweepRow(
            name=f"sweep{sweep.level}",
            is_backward=made[0].is_backward,
            seconds=seconds.get(made[0].index, 0.0),
            operations=sweep.operations,
            reads=tuple(_window(plan, read, names) for read in sweep.reads),
            writes=tuple(_made(plan, v, names) for v in sweep.writes),
            sums=tuple(_made(plan, v, names) for v in sweep.sums),
        )
        found.append(row)
    return tuple(found)


def _window(plan: Plan, read: WindowRead, names: Mapping[int, str]) -> WindowRow:
    made = _made(plan, read.value, names)
    share = (read.stop - read.start) / read.pitch
    return WindowRow(made.value, made.name, read, int(made.nbytes * share))


def _made(plan: Plan, index: int, names: Mapping[int, str]) -> Made:
    value, maker = plan.graph.values[index], plan.graph.producers().get(index)
    scope = names.get(index, value.scope)
    name = short_name(dataclasses.replace(value, scope=scope)).strip("/")
    is_cotangent = maker is not None and maker.is_backward
    place = " on host" if value.host_nbytes else ""
    return Made(value, f"{'d ' if is_cotangent else ''}{name}{place}")


def _seconds_by_equation(plan: Plan) -> dict[int, float]:
    """Return how long each equation runs in the simulated step."""
    timeline = plan.timeline
    found: dict[int, float] = {}
    for at, step in enumerate(timeline.steps.steps):
        if isinstance(step, Kernel):
            took = float(timeline.seconds_of[at])
            found[step.equation] = found.get(step.equation, 0.0) + took
    return found


def slab_data(plan: Plan) -> dict[str, Any] | None:
    """Return how values are cut into slabs as plain data; `None` if they are not."""
    slabs, facts = plan.slabs, plan.graph.slab_facts
    if slabs is None or facts is None:
        return None
    return {
        **dataclasses.asdict(slabs),
        "length": facts.length,
        "slab_count": facts.count,
        "thickness": facts.thickness,
        "whole": list(facts.whole),
        "sweeps": [_sweep_data(row) for row in sweep_rows(plan)],
    }


def _sweep_data(row: SweepRow) -> dict[str, Any]:
    def each(values: Sequence[Made]) -> list[dict[str, Any]]:
        return [
            {
                "value": made.value.index,
                "name": made.name,
                "shape": list(made.value.shape),
                "bytes": made.nbytes,
                "is_on_host": made.value.host_nbytes > 0,
            }
            for made in values
        ]

    return {
        "name": row.name,
        "is_backward": row.is_backward,
        "seconds": row.seconds,
        "operations": row.operations,
        "reads": [
            {
                "value": one.value.index,
                "name": one.name,
                "start": one.read.start,
                "stop": one.read.stop,
                "pitch": one.read.pitch,
                "bytes": one.nbytes,
                "is_on_host": one.value.host_nbytes > 0,
            }
            for one in row.reads
        ],
        "writes": each(row.writes),
        "sums": each(row.sums),
    }
