"""Graph, rates and actions -> a `Draft`: a schedule by the clock, simulated."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence

import numpy as np

from jaxswap._gpu.rates import Rates
from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.by_clock import Clock, absences, place, tight
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.entries import Entry
from jaxswap._schedule.instructions import Schedule, Swap
from jaxswap._schedule.issue import issue, swaps_by_distance
from jaxswap._schedule.order import Order
from jaxswap._simulate.gaps import expected_gap_bytes
from jaxswap._simulate.in_place import written_in_place
from jaxswap._simulate.kernels import Kernel
from jaxswap._simulate.simulate import Simulator
from jaxswap._simulate.timeline import Timeline

STALE_AFTER = 6
"""Heavy operations after which a cheap large value is recomputed again, not held."""

SMALL_SHARE = 1 / 4096
"""Values below this share of what a program holds with everything kept are small."""

IN_PLACE_SHARE = 1 / 64
"""Results from this share of it on are worth a loop, to be written in place."""

ORDERS_KEPT = 64
"""How many orders of entries are remembered while a plan is searched for."""


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """One way to run a program, with its simulated timeline.

    Attributes:
        graph: The program.
        actions: One for each value.
        swaps: When swapped values leave and return.
        staleness: Heavy operations after which a cheap large value is recomputed again
            rather than held, and the bytes from which on it is large.
        hold_for: Heavy operations for which any large recomputed value is held. See
            `backward_entries`.
        in_place_bytes: Results of at least so many bytes are written over operands that
            are not read again. 0: XLA decides.
        order: The order of issue.
        schedule: The instructions.
        timeline: What they do when.
    """

    graph: Graph
    actions: tuple[Action, ...]
    swaps: tuple[Swap, ...]
    staleness: tuple[int, int]
    hold_for: int
    in_place_bytes: int
    order: Order
    schedule: Schedule
    timeline: Timeline

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of both passes."""
        return self.order.entries

    @functools.cached_property
    def fragmented_bytes(self) -> int:
        """What XLA is expected to leave free between buffers."""
        return expected_gap_bytes(self.graph, self.timeline)


class Arranger:
    """Lays out and simulates sets of actions for one graph and one GPU.

    Attributes:
        graph: The program.
        simulator: Plays its schedules at the GPU's rates.
    """

    def __init__(
        self, graph: Graph, rates: Rates, large_bytes: int | None = None
    ) -> None:
        self.graph = graph
        self.simulator = Simulator(graph, rates)
        self._large_bytes = large_bytes
        self._orders: dict[tuple[int, ...], Order] = {}

    @functools.cached_property
    def large_bytes(self) -> int:
        """Bytes from which on a value is worth a decision of its own."""
        if self._large_bytes is not None:
            return self._large_bytes
        return max(1, int(self._held_bytes * SMALL_SHARE))

    @functools.cached_property
    def in_place_bytes(self) -> int:
        """Bytes from which on a result is worth a loop, to be written in place."""
        return max(1, int(self._held_bytes * IN_PLACE_SHARE))

    @property
    def _held_bytes(self) -> int:
        """What a program holds at most, with everything kept, beside the caller's."""
        timeline = self._all_kept.timeline
        return timeline.device_bytes - timeline.caller_bytes

    @property
    def staleness(self) -> tuple[int, int]:
        """See `Draft`."""
        return STALE_AFTER, self.large_bytes

    @functools.cached_property
    def all_kept(self) -> Draft:
        """The draft in which every value stays on the device."""
        return dataclasses.replace(self._all_kept, staleness=self.staleness)

    @functools.cached_property
    def _all_kept(self) -> Draft:
        # Nothing is recomputed, so it does not matter what is large or stale.
        keep, staleness = (Action.KEEP,) * len(self.graph.values), (STALE_AFTER, 1)
        return self._draft(keep, (), Order.of(self.graph, keep, *staleness), staleness)

    def arrange(
        self,
        actions: Sequence[Action],
        limit_bytes: int,
        *,
        patience: float = 1.0,
        eager: Collection[int] = (),
        hold_for: int = 0,
        in_place: bool = True,
    ) -> Draft:
        """Lay out the copies that `actions` ask for below a limit of device memory.

        Args:
            actions: One for each value.
            limit_bytes: Device memory that may be used.
            patience: How willingly short gaps are spent on the host.
            eager: Values whose copies back must be done early.
            hold_for: How long recomputed values are held. See `backward_entries`.
            in_place: Whether results may be written in place. They are if the limit is
                exceeded otherwise.
        """
        order = self.order(actions, hold_for)
        lay_out = functools.partial(self.draft, actions, hold_for=hold_for)
        leaving = [
            v for v in order.made if actions[v] is Action.OFFLOAD and order.gaps(v)
        ]
        if not leaving:
            tightly = functools.partial(lay_out, ())
            return self._below(limit_bytes, tightly, in_place)
        simulator = self.simulator
        out = {v: simulator.copy_seconds(v, is_inward=False) for v in leaving}
        back = {v: simulator.copy_seconds(v, is_inward=True) for v in leaving}
        both = {v: out[v] + back[v] for v in leaving}
        gaps = absences(order, leaving, self._starts(order.entries), both, patience)
        tightly = functools.partial(lay_out, tight(order, gaps))
        first = self._below(limit_bytes, tightly, in_place)
        nbytes = {v: self.graph.values[v].nbytes for v in leaving}
        device_bytes = device_bytes_at(order.entries, first.timeline)
        ends = np.cumsum(seconds_at(order.entries, first.timeline))
        starts = np.concatenate([[0.0], ends[:-1]])
        clock = Clock(starts, ends, device_bytes, out, back, nbytes)
        swaps = place(order, gaps, clock, limit_bytes, eager)
        return lay_out(swaps, in_place_bytes=first.in_place_bytes)

    def _below(
        self, limit_bytes: int, lay_out: Callable[..., Draft], in_place: bool
    ) -> Draft:
        """Return a draft, with results in place if it exceeds the limit otherwise."""
        draft = lay_out()
        if not in_place or draft.timeline.device_bytes <= limit_bytes:
            return draft
        return lay_out(in_place_bytes=self.in_place_bytes)

    def draft(
        self,
        actions: Sequence[Action],
        swaps: Sequence[Swap],
        staleness: tuple[int, int] | None = None,
        hold_for: int = 0,
        in_place_bytes: int = 0,
    ) -> Draft:
        """Simulate given swaps."""
        staleness = staleness or self.staleness
        if staleness == self.staleness:
            order = self.order(actions, hold_for)
        else:
            order = Order.of(self.graph, actions, *staleness, hold_for)
        return self._draft(actions, swaps, order, staleness, hold_for, in_place_bytes)

    def _draft(
        self,
        actions: Sequence[Action],
        swaps: Sequence[Swap],
        order: Order,
        staleness: tuple[int, int],
        hold_for: int = 0,
        in_place_bytes: int = 0,
    ) -> Draft:
        schedule = issue(order, swaps)
        if in_place_bytes:
            fusion = self.simulator.fusion
            schedule = written_in_place(fusion, schedule, in_place_bytes)
        return Draft(
            graph=self.graph,
            actions=tuple(actions),
            swaps=tuple(swaps),
            staleness=staleness,
            hold_for=hold_for,
            in_place_bytes=in_place_bytes,
            order=order,
            schedule=schedule,
            timeline=self.simulator.play(schedule),
        )

    def follow(self, decision: Decision) -> Draft:
        """Lay out what a policy decided, by its own distances, and simulate."""
        timing = decision.timing
        order = Order.of(self.graph, decision.actions, *timing.staleness)
        swaps = swaps_by_distance(order, decision.actions, timing)
        return self._draft(decision.actions, swaps, order, timing.staleness)

    def order(self, actions: Sequence[Action], hold_for: int = 0) -> Order:
        """Return the order of entries. It depends on what is recomputed alone."""
        key = (hold_for, *(action is Action.RECOMPUTE for action in actions))
        if key not in self._orders:
            if len(self._orders) >= ORDERS_KEPT:
                self._orders.pop(next(iter(self._orders)))
            order = Order.of(self.graph, actions, *self.staleness, hold_for)
            self._orders[key] = order
        return self._orders[key]

    @functools.cached_property
    def seconds_alone(self) -> dict[int, float]:
        """Seconds of each equation when everything is kept."""
        timeline = self.all_kept.timeline
        pairs = zip(timeline.steps.steps, timeline.seconds_of, strict=True)
        return {s.equation: t for s, t in pairs if isinstance(s, Kernel)}

    def _starts(self, entries: Sequence[Entry]) -> np.ndarray:
        """About when each entry begins if no copy is waited for."""
        seconds = [
            sum(self.seconds_alone.get(equation, 0.0) for equation, _ in entry.parts)
            for entry in entries
        ]
        return np.cumsum([0.0, *seconds[:-1]])


def entry_of_steps(entries: Sequence[Entry], timeline: Timeline) -> np.ndarray:
    """The entry to which each step of a timeline belongs."""
    parts = np.cumsum([len(entry.parts) for entry in entries])
    found = np.searchsorted(parts, np.array(timeline.steps.runs), "right")
    return np.minimum(found, len(entries) - 1)


def seconds_at(entries: Sequence[Entry], timeline: Timeline) -> np.ndarray:
    """Seconds that each entry computes."""
    seconds = np.zeros(len(entries))
    np.add.at(seconds, entry_of_steps(entries, timeline), timeline.seconds_of)
    return seconds


def device_bytes_at(entries: Sequence[Entry], timeline: Timeline) -> np.ndarray:
    """The most device memory at each entry."""
    found = np.zeros(len(entries), np.int64)
    np.maximum.at(found, entry_of_steps(entries, timeline), timeline.device_bytes_at)
    for at in np.flatnonzero(found == 0):
        found[at] = found[at - 1] if at else timeline.caller_bytes
    return found
