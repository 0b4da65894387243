"""One step as what each lane did when, simulated or measured.

A plan's timeline and a profile of a GPU get the same form here. So "hidden", "stalled"
and "idle" have the same meaning for both.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from jaxswap._plans.plan import Plan
from jaxswap._simulate.kernels import Kernel
from jaxswap._view.rows import short_name

Lane = Literal["compute", "swap-out", "swap-in"]
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class LaneSpan:
    """A kernel or a copy.

    Attributes:
        lane: `"compute"`, `"swap-out"` (to the host) or `"swap-in"` (to the device).
        start_seconds: When it began, measured from the start of the step.
        seconds: How long it took.
        name: Name of the kernel, or of the kind of copy.
        label: What it computed or copied, in the words of the source.
        source: `file:line` of the source. `""` if unknown.
        nbytes: Bytes that were copied. 0 for a kernel.
        track: The GPU's stream that ran it. `""` for the lane itself.
    """

    lane: Lane
    start_seconds: float
    seconds: float
    name: str
    label: str = ""
    source: str = ""
    nbytes: int = 0
    track: str = ""

    @property
    def end_seconds(self) -> float:
        """When it ended."""
        return self.start_seconds + self.seconds


@dataclasses.dataclass(frozen=True, slots=True)
class CopyLane:
    """All copies of one direction in a step.

    Attributes:
        count: How many copies.
        nbytes: Bytes of all of them.
        seconds: Time in which at least one of them ran.
        hidden_seconds: The part of `seconds` in which a kernel ran as well.
    """

    count: int
    nbytes: int
    seconds: float
    hidden_seconds: float


@dataclasses.dataclass(frozen=True)
class StepLanes:
    """One step: its kernels and copies.

    Attributes:
        spans: Kernels and copies, in the order in which they began.
        seconds: Time from the first start to the last end.

    Example:
        >>> kernel = LaneSpan("compute", 0, 2, "a")
        >>> copy = LaneSpan("swap-out", 1, 3, "b")
        >>> step = step_of([kernel, copy])
        >>> step.seconds, step.compute_seconds, step.stall_seconds
        (4, 2, 2)
        >>> step.swap_out.hidden_seconds
        1
    """

    spans: tuple[LaneSpan, ...]
    seconds: float

    @property
    def compute_seconds(self) -> float:
        """Seconds during which at least one kernel ran."""
        return length(self._busy("compute"))

    @property
    def swap_out(self) -> CopyLane:
        """Copies to the host."""
        return self._copies("swap-out")

    @property
    def swap_in(self) -> CopyLane:
        """Copies to the device."""
        return self._copies("swap-in")

    @property
    def stall_seconds(self) -> float:
        """Seconds during which copies ran and no kernel."""
        copies = self._busy("swap-out", "swap-in")
        return length(copies) - overlap(copies, self._busy("compute"))

    @property
    def idle_seconds(self) -> float:
        """Seconds during which nothing ran: kernels were waited for, or started."""
        return self.seconds - length(self._busy("compute", "swap-out", "swap-in"))

    def _busy(self, *lanes: Lane) -> list[Interval]:
        return union(
            (span.start_seconds, span.end_seconds)
            for span in self.spans
            if span.lane in lanes
        )

    def _copies(self, lane: Lane) -> CopyLane:
        spans = [span for span in self.spans if span.lane == lane]
        busy = self._busy(lane)
        return CopyLane(
            count=len(spans),
            nbytes=sum(span.nbytes for span in spans),
            seconds=length(busy),
            hidden_seconds=overlap(busy, self._busy("compute")),
        )


def step_of(spans: Iterable[LaneSpan]) -> StepLanes:
    """Put spans into a step that begins with the first of them.

    Args:
        spans: In any order, on any clock.

    Returns:
        The step; an empty one of no length if there are no spans.
    """
    ordered = sorted(spans, key=lambda span: span.start_seconds)
    if not ordered:
        return StepLanes((), 0.0)
    first = ordered[0].start_seconds
    moved = tuple(
        dataclasses.replace(span, start_seconds=span.start_seconds - first)
        for span in ordered
    )
    return StepLanes(moved, max(span.end_seconds for span in moved))


def simulated_step(plan: Plan) -> StepLanes:
    """Return the simulated step of a plan.

    Args:
        plan: The plan.

    Returns:
        Its kernels and copies. The step begins where the plan's timeline begins.
    """
    timeline, values = plan.timeline, plan.graph.values
    spans: list[LaneSpan] = []
    for at, step in enumerate(timeline.steps.steps):
        if not isinstance(step, Kernel) or not timeline.seconds_of[at]:
            continue
        equation = plan.graph.equations[step.equation]
        made = [values[v] for v in equation.outputs]
        name = equation.primitive + " again" * step.is_recomputed
        label = short_name(made[0]) if made else ""
        source = made[0].source if made else ""
        start, seconds = float(timeline.starts[at]), float(timeline.seconds_of[at])
        spans.append(LaneSpan("compute", start, seconds, name, label, source))
    for copy in timeline.transfers:
        value = values[copy.value]
        lane: Lane = "swap-in" if copy.is_inward else "swap-out"
        start, seconds = float(copy.start_seconds), float(copy.seconds)
        label, source = short_name(value), value.source
        name = lane.replace("-", " ")
        spans.append(LaneSpan(lane, start, seconds, name, label, source, value.nbytes))
    ordered = sorted(spans, key=lambda span: span.start_seconds)
    return StepLanes(tuple(ordered), float(timeline.seconds))


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that touch or overlap.

    Args:
        intervals: Pairs of start and end, in any order.

    Returns:
        Intervals that do not touch, by start.

    Example:
        >>> union([(4, 5), (0, 2), (1, 3)])
        [(0, 3), (4, 5)]
    """
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def length(intervals: Iterable[Interval]) -> float:
    """Add up the lengths of intervals that do not overlap."""
    return sum(end - start for start, end in intervals)


def overlap(one: list[Interval], other: list[Interval]) -> float:
    """Return how long two lists of intervals, each from `union`, run at a time.

    Example:
        >>> overlap([(0, 3), (4, 5)], [(2, 6)])
        2
    """
    total: float = 0
    i = j = 0
    while i < len(one) and j < len(other):
        start = max(one[i][0], other[j][0])
        end = min(one[i][1], other[j][1])
        total += max(0, end - start)
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return total
