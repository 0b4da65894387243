"""`Plan` -> the contents of its pictures as plain data: lanes, memory, the peak."""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._plans.plan import Plan
from jaxswap._simulate.kernels import Kernel
from jaxswap._simulate.timeline import Timeline
from jaxswap._view.rows import short_name

NAMED = 7
"""How many lines tell of the values at the peak."""
LEAST_SHARE = 1 / 1500
"""A gap in a lane that is shorter than this share of the step is not shown."""
LANES = {
    "forward": ("compute", "forward pass", "#56b4e9"),
    "backward": ("compute", "backward pass", "#0072b2"),
    "recompute": ("compute", "recomputed", "#e69f00"),
    "wait": ("compute", "waiting for copies", "#d55e00"),
    "out": ("swap-out", "copy to the host", "#009e73"),
    "in": ("swap-in", "copy to the device", "#cc79a7"),
    "sweep": ("sweeps", "sweep over all slabs", "#f0e442"),
}
"""Lane, name and colour of each kind of span. The colours are those of Okabe and Ito,
which people with colour blindness can distinguish."""


@dataclasses.dataclass(frozen=True)
class Span:
    """A stretch of time in a lane.

    Attributes:
        kind: A key of `LANES`.
        start_seconds: When it begins.
        seconds: How long it takes.
        value: The value that is copied, or that a sweep makes first.
    """

    kind: str
    start_seconds: float
    seconds: float
    value: int | None = None

    @property
    def end_seconds(self) -> float:
        """When it ends."""
        return self.start_seconds + self.seconds


def title_lines(plan: Plan) -> tuple[str, str]:
    """Return the main numbers of a plan: memory, then time."""
    kind = "compiled" if plan.compiled else "predicted"
    used = f"{format_bytes(plan.device_bytes)} {kind}"
    if plan.budget_bytes is not None:
        used += f" of {format_bytes(plan.budget_bytes)} budget"
    kept = plan.plain
    host = f"{format_bytes(plan.host_bytes)} of host memory"
    return (
        f"plan for {plan.target.name}: {used}, {host}; "
        f"{format_bytes(kept.device_bytes)} simulated with everything kept",
        f"step of {format_seconds(plan.seconds)} simulated; "
        f"{format_seconds(kept.seconds)} with everything kept",
    )


def spans_of(timeline: Timeline) -> list[Span]:
    """Return what each lane does when. Kernels of one kind in a row are one span."""
    found: list[Span] = []
    least = timeline.seconds * LEAST_SHARE
    for at, step in enumerate(timeline.steps.steps):
        begin, stall = float(timeline.starts[at]), float(timeline.stalls[at])
        if stall > 0:
            _append(found, Span("wait", begin - stall, stall), least)
        if isinstance(step, Kernel):
            is_forward = at < timeline.steps.forward_count
            kind = "forward" if is_forward else "backward"
            took = float(timeline.seconds_of[at])
            kind = "recompute" if step.is_recomputed else kind
            _append(found, Span(kind, begin, took), least)
    for copy in timeline.transfers:
        kind = "in" if copy.is_inward else "out"
        start, seconds = float(copy.start_seconds), float(copy.seconds)
        found.append(Span(kind, start, seconds, copy.value))
    return found


def plan_spans(plan: Plan) -> list[Span]:
    """Return what each lane does when, the sweeps over slabs in a lane of their own."""
    facts, timeline = plan.graph.slab_facts, plan.timeline
    makers = plan.graph.producers()
    made = [v for sweep in facts.sweeps for v in sweep.outputs[:1]] if facts else []
    sweeps = {makers[v].index: v for v in made if v in makers}
    found = spans_of(timeline)
    for at, step in enumerate(timeline.steps.steps):
        if isinstance(step, Kernel) and step.equation in sweeps:
            start, took = float(timeline.starts[at]), float(timeline.seconds_of[at])
            found.append(Span("sweep", start, took, sweeps[step.equation]))
    return found


def lanes_of(spans: Iterable[Span]) -> list[str]:
    """Return the lanes to draw: that of sweeps only if there are any."""
    has_sweeps = any(span.kind == "sweep" for span in spans)
    names = [
        lane for kind, (lane, *_) in LANES.items() if has_sweeps or kind != "sweep"
    ]
    return list(dict.fromkeys(names))


def memory_corners(
    timeline: Timeline, nbytes_at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return points in time, and the bytes in use from each one until the next."""
    starts, nbytes = timeline.starts, nbytes_at
    if not len(starts):
        starts, nbytes = np.zeros(1), np.array([timeline.caller_bytes])
    return np.append(starts, timeline.seconds), np.append(nbytes, nbytes[-1])


def peak_of(plan: Plan) -> tuple[float, list[tuple[str, int]]]:
    """Return when most device memory is in use, and names and bytes of its users.

    Values with the same name and size are counted together.
    """
    timeline = plan.timeline
    if not len(timeline.starts):
        return 0.0, [("arguments and results", timeline.caller_bytes)]
    at = int(timeline.device_bytes_at.argmax())
    counts = collections.Counter(
        (short_name(value), value.nbytes)
        for b in timeline.alive(at)
        for value in (plan.graph.values[timeline.steps.values[b]],)
    )
    groups = [
        (f"{name} × {count}" if count > 1 else name, count * nbytes, count)
        for (name, nbytes), count in counts.items()
    ]
    groups.sort(key=lambda group: -group[1])
    found = [(name, nbytes) for name, nbytes, _ in groups[:NAMED]]
    rest = groups[NAMED:]
    if rest:
        count = sum(count for _, _, count in rest)
        found.append((f"{count} others", sum(nbytes for _, nbytes, _ in rest)))
    found.append(("arguments and results", timeline.caller_bytes))
    return float(timeline.starts[at]), found


def boundary_seconds(timeline: Timeline) -> float:
    """Return when the backward pass begins: the end of the step if there is none."""
    first = timeline.steps.forward_count
    is_there = first < len(timeline.starts)
    return float(timeline.starts[first]) if is_there else timeline.seconds


def time_unit(most_seconds: float) -> tuple[float, str]:
    """Return seconds and name of the unit for an axis of time."""
    for scale, name in ((1.0, "s"), (1e-3, "ms")):
        if most_seconds >= scale:
            return scale, name
    return 1e-6, "us"


def memory_unit(most_bytes: float) -> tuple[float, str]:
    """Return bytes and name of the unit for an axis of memory."""
    for scale, name in ((2.0**30, "GiB"), (2.0**20, "MiB")):
        if most_bytes >= scale:
            return scale, name
    return 2.0**10, "KiB"


def most_bytes(plan: Plan) -> int:
    """Return the largest number that a chart of memory shows."""
    return max(
        plan.timeline.device_bytes,
        plan.plain.device_bytes,
        plan.timeline.host_bytes,
        plan.device_bytes,
        plan.budget_bytes or 0,
        1,
    )


def _append(spans: list[Span], span: Span, least_seconds: float) -> None:
    """Add a span. If the last one has its kind and is next to it, join both."""
    if spans and spans[-1].kind == span.kind:
        start = spans[-1].start_seconds
        if span.start_seconds - spans[-1].end_seconds < least_seconds:
            spans.pop()
            span = Span(span.kind, start, span.end_seconds - start)
    spans.append(span)
