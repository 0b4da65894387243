"""`Plan` -> one row for each decision: what it costs by itself, and why it was made.

The reasons are read from the simulated step. They say what happens, not what was asked
for. If a value was to be kept, but the backward pass never reads it, the row says that
it is dropped.
"""

import enum
import functools
import itertools
from collections.abc import Iterable

import numpy as np

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._graph.graph import Value
from jaxswap._plans.plan import Plan, Row
from jaxswap._search.candidates import find_candidates
from jaxswap._simulate.kernels import NO_BUFFER, Kernel, PlannedCopy, Wait
from jaxswap._simulate.timeline import Timeline, Transfer

AT_ONCE = 0.01
"""A value counts as read at once if it is idle for less than this share of its copy
time."""


class Outcome(enum.Enum):
    """What becomes of a value in the simulated step."""

    KEEP = "keep"
    """Stays in device memory from the forward into the backward pass."""
    OFFLOAD = "offload"
    """Spends time in host memory."""
    RECOMPUTE = "recompute"
    """Is computed again in the backward pass."""
    DROP = "drop"
    """Is freed when its own pass has read it."""


def rows_of(plan: Plan) -> tuple[Row, ...]:
    """Explain every decision of a plan.

    Args:
        plan: The plan.

    Returns:
        One row for each large buffer of the forward pass and for each other value
        that is swapped, in the order of the program. If an equation has several
        results, the row of each one shows the whole recomputation.
    """
    facts = _Facts(plan)
    return tuple(facts.row(v) for v in _decided(plan))


def outcomes_of(plan: Plan) -> dict[int, Outcome]:
    """Tell what becomes of each value that has a row, by its index.

    Args:
        plan: The plan.

    Returns:
        The outcomes. They differ from the plan's actions if an action has no effect: a
        value that the backward pass does not read is neither kept nor recomputed.
    """
    facts = _Facts(plan)
    return {v: facts.outcome(v) for v in _decided(plan)}


def short_name(value: Value) -> str:
    """Name a value in a few words: by its given name, its module or its operation.

    Args:
        value: The value.

    Returns:
        Text such as `"encoder0/context0/conv"` or `"tanh model.py:18"`.

    Example:
        >>> short_name(Value(0, 4, (1,), None, "add", scope="Net/block/norm"))
        'block/norm'
    """
    if value.name:
        return value.name
    place = value.scope.split("/")
    if value.scope:
        return "/".join(place[1:] or place)
    line = value.source.rsplit("/", 1)[-1].split(" ")[0].split(":")
    return " ".join(part for part in (value.primitive, ":".join(line[:2])) if part)


def _decided(plan: Plan) -> list[int]:
    """Return the values that have a row."""
    fusion = plan.arranger.simulator.fusion
    found = {*find_candidates(plan.graph, fusion, plan.large_bytes).forward}
    makers, made = plan.graph.producers(), {*plan.timeline.steps.values}
    # Pieces of a value that is stored whole are never made.
    found = {v for v in found if v in made or not makers[v].is_cut}
    found.update(transfer.value for transfer in plan.timeline.transfers)
    return sorted(found)


class _Facts:
    """What the simulated steps say about each value."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timeline = plan.timeline
        self.steps = plan.timeline.steps
        self.remakers = plan.graph.remakers()
        self.ends = self.timeline.starts + self.timeline.seconds_of
        self.made = self.timeline.made()
        self.buffers: dict[int, list[int]] = {}
        for b, v in enumerate(self.steps.values):
            self.buffers.setdefault(v, []).append(b)
        self.reads, self.recomputations = self._kernels()
        self.transfers: dict[int, list[Transfer]] = {}
        for transfer in self.timeline.transfers:
            self.transfers.setdefault(transfer.value, []).append(transfer)
        self.stalls = stalls_of(self.timeline)

    @functools.cached_property
    def alone(self) -> dict[int, tuple[float, tuple[int, ...]]]:
        """Seconds of each equation and its inputs, if everything is kept."""
        steps = self.plan.all_kept.steps
        found: dict[int, tuple[float, tuple[int, ...]]] = {}
        for step, seconds in zip(
            steps.steps, self.plan.all_kept.seconds_of, strict=True
        ):
            if isinstance(step, Kernel):
                sources = tuple(steps.values[b] for b in step.reads)
                found.setdefault(step.equation, (float(seconds), sources))
        return found

    def row(self, v: int) -> Row:
        outcome = self.outcome(v)
        seconds = 0.0
        if outcome is Outcome.OFFLOAD:
            seconds = sum(t.seconds for t in self.transfers[v])
        elif outcome is Outcome.RECOMPUTE:
            recomputations = self.recomputations[self.remakers[v].index]
            seconds = self.timeline.seconds_of[recomputations].sum()
        return Row(
            value=self.plan.graph.values[v],
            action=self.plan.actions[v],
            seconds=float(seconds),
            stall_seconds=self.stalls.get(v, 0.0),
            why=self._why(v, outcome, float(seconds)),
        )

    def outcome(self, v: int) -> Outcome:
        if v in self.transfers:
            return Outcome.OFFLOAD
        if v in self.remakers and self.remakers[v].index in self.recomputations:
            return Outcome.RECOMPUTE
        boundary = self.steps.forward_count
        for b in self.buffers.get(v, ()):
            is_held = self.made[b] < boundary <= self.timeline.freed[b]
            if is_held or self.steps.is_fixed[b]:
                return Outcome.KEEP
        return Outcome.DROP

    def _kernels(self) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """Return the steps that read each value and that recompute each equation."""
        reads: dict[int, list[int]] = {}
        recomputations: dict[int, list[int]] = {}
        for at, step in enumerate(self.steps.steps):
            if isinstance(step, Kernel):
                for b in step.reads:
                    reads.setdefault(self.steps.values[b], []).append(at)
                if step.is_recomputed:
                    recomputations.setdefault(step.equation, []).append(at)
        return reads, recomputations

    def _why(self, v: int, outcome: Outcome, seconds: float) -> str:
        match outcome:
            case Outcome.OFFLOAD:
                return self._why_swapped(v)
            case Outcome.RECOMPUTE:
                return self._why_recomputed(v, seconds)
            case Outcome.KEEP:
                return self._why_kept(v)
        return self._why_dropped(v)

    def _why_swapped(self, v: int) -> str:
        copies = self.transfers[v]
        stall = self.stalls.get(v, 0.0)
        if stall and max(t.step for t in copies) < self.steps.forward_count:
            return f"waited {format_seconds(stall)}; away in the forward pass only"
        if stall:
            return f"waited {format_seconds(stall)}; {self._instead(v)}"
        begin = min(t.start_seconds for t in copies)
        end = max(t.end_seconds for t in copies)
        inside = np.minimum(self.ends, end) - np.maximum(self.timeline.starts, begin)
        work = format_seconds(float(np.maximum(inside, 0.0).sum()))
        took = _sum([t.seconds for t in copies])
        return f"copies ({took}) run beside {work} of work"

    def _instead(self, v: int) -> str:
        """Say what the recomputation of a swapped value would cost."""
        eqn = self.remakers[v]
        if eqn.is_backward:
            return "no recomputation of backward values"
        if eqn.is_cut:
            return "it is a piece, which is stored"
        if not eqn.is_pure:
            return "its operation must not run twice"
        seconds, sources = self.alone.get(eqn.index, (0.0, ()))
        more = len(self._missing(sources))
        others = f" + {more} more" if more else ""
        return f"a recomputation takes {format_seconds(seconds)}{others}"

    def _missing(self, values: Iterable[int]) -> set[int]:
        """Return the equations to recompute before some values can be read."""
        found: set[int] = set()
        stack = list(values)
        while stack:
            v = stack.pop()
            if v not in self.remakers or self._is_at_hand(v):
                continue
            index = self.remakers[v].index
            if index not in found:
                found.add(index)
                stack.extend(self.alone.get(index, (0.0, ()))[1])
        return found

    def _is_at_hand(self, v: int) -> bool:
        """Whether the backward pass has a value without a recomputation."""
        if self.plan.graph.values[v].is_argument:
            return True
        return self.outcome(v) in (Outcome.KEEP, Outcome.OFFLOAD)

    def _why_recomputed(self, v: int, seconds: float) -> str:
        recomputations = self.recomputations[self.remakers[v].index]
        took = format_seconds(seconds)
        boundary = self.steps.forward_count
        if all(self.made[b] >= boundary for b in self.buffers.get(v, ())):
            return f"made in the backward pass alone, in {took}"
        if self.remakers[v].is_join:
            return f"joined again of {len(self.remakers[v].inputs)} pieces in {took}"
        copies = f"copies would take {_sum(self._both_copies(v))}"
        times = f" {len(recomputations)} times" if len(recomputations) > 1 else ""
        return f"again{times} in {took}; {copies}"

    def _why_kept(self, v: int) -> str:
        if any(self.steps.is_fixed[b] for b in self.buffers[v]):
            return "a result, which the caller holds"
        idle, both = self._idle_seconds(v), self._both_copies(v)
        if idle < sum(both):
            rests = f"idle for {format_seconds(idle)}"
            if idle < AT_ONCE * sum(both):
                rests = "read again at once"
            return f"{rests}; copies would take {_sum(both)}"
        if self.plan.budget_bytes is None:
            asked = self.plan.policy or "the plan"
            return f"{asked} keeps it; there is no budget to meet"
        free = self._free_bytes(v)
        if free < 0:
            return f"stays, though {format_bytes(-free)} are missing then"
        return f"fits: {format_bytes(free)} are free while it is alive"

    def _why_dropped(self, v: int) -> str:
        if not self.buffers.get(v):
            return "never made: nothing needs it"
        if not self.reads.get(v):
            return "nothing reads it"
        return "only the forward pass reads it"

    def _both_copies(self, v: int) -> list[float]:
        """Return seconds of the copies out and in if nothing else is copied."""
        simulator = self.plan.arranger.simulator
        return [simulator.copy_seconds(v, is_inward) for is_inward in (False, True)]

    def _idle_seconds(self, v: int) -> float:
        """Return the longest time between two steps that make or read a value."""
        touches = sorted({self.made[self.buffers[v][0]], *self.reads.get(v, ())})
        pairs = itertools.pairwise(touches)
        idle = [float(self.timeline.starts[b] - self.ends[a]) for a, b in pairs]
        return max(idle, default=0.0)

    def _free_bytes(self, v: int) -> int:
        """Return device memory in the budget that is free while a value is alive."""
        plan = self.plan
        limit = (plan.budget_bytes or 0) - plan.reserve_bytes - plan.correction_bytes
        used = self.timeline.device_bytes_at
        freed = self.timeline.freed
        lives = [(self.made[b], int(freed[b])) for b in self.buffers[v]]
        most = max(used[start : max(start, end) + 1].max() for start, end in lives)
        return limit - int(most)


def stalls_of(timeline: Timeline) -> dict[int, float]:
    """Return the seconds that computation waits for the copies of each value.

    Args:
        timeline: The simulated step.

    Returns:
        Seconds by value. A wait for several copies counts for the last one to arrive.
        Seconds by value. A wait for several copies counts for the last to arrive.
    """
    steps = timeline.steps
    arrived: dict[int, tuple[float, int]] = {}
    left: dict[int, tuple[float, int]] = {}
    for transfer in timeline.transfers:
        step = steps.steps[transfer.step]
        end = (transfer.end_seconds, transfer.value)
        if not transfer.is_inward:
            left[transfer.value] = end
        elif isinstance(step, PlannedCopy) and step.buffer != NO_BUFFER:
            arrived[step.buffer] = end
    found: dict[int, float] = {}
    for at in np.flatnonzero(timeline.stalls):
        match steps.steps[at]:
            case Kernel(reads=reads):
                ends = [arrived[b] for b in reads if b in arrived]
            case Wait(values):
                ends = [left[v] for v in values if v in left]
            case _:
                ends = []
        if ends:
            v = max(ends)[1]
            found[v] = found.get(v, 0.0) + float(timeline.stalls[at])
    return found


def _sum(seconds: list[float]) -> str:
    """Write durations of copies: as `2 x 3.40 ms` if they are about equal."""
    texts = [format_seconds(s) for s in seconds]
    if len(set(texts)) == 1:
        return f"{len(texts)} x {texts[0]}"
    if len(texts) > 2:
        return f"{len(texts)}, {format_seconds(sum(seconds))} in all"
    return " + ".join(texts)
