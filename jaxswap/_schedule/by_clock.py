"""Entries, their seconds and a limit of memory -> swaps, laid out by the clock.

Copies in each direction form a queue, which works off one copy after the other:

- To the host, copies run in the order in which the values are made. The first heavy
  entry that begins after the end of a copy waits for it, which costs no time. If device
  memory would not suffice until then, an earlier entry waits.
- To the device, copies are placed from the last use to the first. A copy starts as late
  as possible, if it is still hidden behind what runs before its use and before the
  copies that follow. If device memory does not suffice, it starts later and is not
  hidden.

The same clock decides which gaps between its uses a value spends on the host: those
that are long enough for both copies.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from jaxswap._schedule.instructions import Return, Swap
from jaxswap._schedule.order import Order
from jaxswap._schedule.timing import COPIES_IN_FLIGHT


@dataclasses.dataclass(frozen=True)
class Absence:
    """A gap between two uses that a value spends on the host.

    Attributes:
        value: The index of the value.
        left: The last entry before the gap that reads or makes the value.
        use: The first entry after the gap that reads it.
        is_first: Whether this gap is the one for which the value is copied out.
    """

    value: int
    left: int
    use: int
    is_first: bool


@dataclasses.dataclass(frozen=True)
class Clock:
    """When entries run, and the memory they take while swapped values are away.

    Attributes:
        starts: Second at which each entry begins if nothing waits.
        ends: Second at which each entry is done.
        device_bytes: Device memory at each entry while each swapped value is away for
            as long as possible.
        out_seconds: Seconds of the copy to the host, by value.
        in_seconds: Seconds of the copy to the device, by value.
        nbytes: Bytes of each swapped value.
    """

    starts: np.ndarray
    ends: np.ndarray
    device_bytes: np.ndarray
    out_seconds: Mapping[int, float]
    in_seconds: Mapping[int, float]
    nbytes: Mapping[int, int]


def absences(
    order: Order,
    values: Collection[int],
    starts: np.ndarray,
    copy_seconds: Mapping[int, float],
    patience: float = 1.0,
) -> list[Absence]:
    """Choose the gaps that values spend on the host.

    Args:
        order: Where values are made and used.
        values: Those to swap.
        starts: Second at which each entry begins.
        copy_seconds: Seconds of both copies of each value together.
        patience: A gap is taken if it lasts this many times the copies. The longest
        patience: A gap is taken if it lasts this many times as long as the copies. The
            longest gap of a value is always taken.
    """
    found: list[Absence] = []
    for v in values:
        gaps = order.gaps(v)
        if not gaps:
            continue
        longest = max(gaps, key=lambda gap: starts[gap[1]] - starts[gap[0]])
        taken = [
            gap
            for gap in gaps
            if gap == longest
            or starts[gap[1]] - starts[gap[0]] >= patience * copy_seconds[v]
        ]
        for index, (left, use) in enumerate(taken):
            found.append(Absence(v, left, use, index == 0))
    return found


def tight(order: Order, gaps: Sequence[Absence]) -> tuple[Swap, ...]:
    """Return swaps that keep values away for as long as possible."""
    layout = {
        gap: (order.heavy_after(gap.left), order.heavy_before(gap.use)) for gap in gaps
    }
    return _swaps(order, gaps, layout, frozenset())


def place(
    order: Order,
    gaps: Sequence[Absence],
    clock: Clock,
    limit_bytes: int,
    eager: Collection[int] = (),
) -> tuple[Swap, ...]:
    """Place copies so that computation waits as little as possible.

    Args:
        order: Where values are made and used.
        gaps: The gaps that values spend on the host.
        clock: When entries run and how much memory they need.
        limit_bytes: Device memory that may be used.
        eager: Values whose copies back must be done one heavy entry before their use.
            A compiled program was seen to start these too late.
    """
    placing = _Placing(order, clock, limit_bytes)
    layout: dict[Absence, tuple[int | None, int | None]] = {}
    outward = sorted((g for g in gaps if g.is_first), key=lambda g: order.made[g.value])
    freed = {gap.value: placing.leave(gap) for gap in outward}
    for gap in sorted(gaps, key=lambda g: -g.use):
        floor = freed[gap.value] if gap.is_first else gap.left
        gate = placing.come_back(gap, floor, gap.value in eager)
        layout[gap] = (freed[gap.value], gate)
    return _swaps(order, gaps, layout, frozenset(eager))


def _swaps(
    order: Order,
    gaps: Sequence[Absence],
    layout: Mapping[Absence, tuple[int | None, int | None]],
    eager: Collection[int],
) -> tuple[Swap, ...]:
    by_value: dict[int, list[Absence]] = {}
    for gap in gaps:
        by_value.setdefault(gap.value, []).append(gap)
    swaps = []
    for v, mine in by_value.items():
        returns = []
        for gap in mine:
            gate = layout[gap][1]
            last = order.heavy_before(gap.use)
            is_early = gate is not None and last is not None and gate < last
            done_at = last if is_early and v in eager else None
            returns.append(Return(gate, gap.use, done_at))
        swaps.append(Swap(v, order.made[v], layout[mine[0]][0], tuple(returns)))
    return tuple(swaps)


class _Placing:
    """The state of both queues and of memory while copies are placed."""

    def __init__(self, order: Order, clock: Clock, limit_bytes: int) -> None:
        self.order = order
        self.clock = clock
        self.limit_bytes = limit_bytes
        self.starts = clock.starts.copy()
        self.ends = clock.ends.copy()
        self.used = clock.device_bytes.copy()
        self.heavy = np.array(order.heavy, np.int64)
        self.started: dict[int, int] = {}
        self.out_free = 0.0
        self.in_busy = float("inf")

    def leave(self, gap: Absence) -> int | None:
        """Place the copy to the host; return the entry that waits for it."""
        first = self.order.heavy_after(gap.left)
        if first is None:
            return None
        begin = max(self.out_free, self.ends[self.order.made[gap.value]])
        end = begin + self.clock.out_seconds[gap.value]
        self.out_free = end
        at = self._first_heavy_from(end, first, gap.use)
        over = self._violations(first, at, gap.value)
        if over.size:
            # Wait before the excess: at the last heavy entry up to there.
            place = np.searchsorted(self.heavy, first + int(over[0]), "right") - 1
            at = max(first, int(self.heavy[place]))
        self._stall(at, end - self.starts[at])
        self.used[first:at] += self.clock.nbytes[gap.value]
        return at

    def come_back(self, gap: Absence, floor: int | None, is_eager: bool) -> int | None:
        """Place the copy to the device; return the entry at which it may start."""
        last = self.order.heavy_before(gap.use)
        if last is None or floor is None or last < floor:
            return None
        seconds = self.clock.in_seconds[gap.value]
        due = self.starts[last if is_eager else gap.use]
        begin = min(due, self.in_busy) - seconds
        gate = self._gate(begin, floor, last)
        over = self._violations(gate, last, gap.value)
        if over.size:
            gate = self._heavy_from(gate + int(over[-1]) + 1, last)
        if self.used[last : gap.use].max() > self.limit_bytes:
            self.used[last : gap.use] -= self.clock.nbytes[gap.value]
            self.in_busy = self.starts[gap.use]
            return None
        self.started[gate] = self.started.get(gate, 0) + 1
        self.in_busy = max(begin, self.starts[gate])
        self.used[gate:last] += self.clock.nbytes[gap.value]
        return gate

    def _gate(self, begin: float, floor: int, last: int) -> int:
        """Return the last uncrowded heavy entry in `floor:last` to begin by `begin`."""
        low = int(np.searchsorted(self.heavy, floor))
        high = int(np.searchsorted(self.heavy, last, "right"))
        at = int(np.searchsorted(self.starts[self.heavy], begin, "right")) - 1
        at = min(max(at, low), high - 1)
        wished = at
        while at > low and self.started.get(int(self.heavy[at]), 0) >= COPIES_IN_FLIGHT:
            at -= 1
        if self.started.get(int(self.heavy[at]), 0) >= COPIES_IN_FLIGHT:
            at = wished
        return int(self.heavy[at])

    def _first_heavy_from(self, second: float, first: int, use: int) -> int:
        """Return the first heavy entry in `first:use` to begin at `second` or later."""
        low = int(np.searchsorted(self.heavy, first))
        high = int(np.searchsorted(self.heavy, use, "left"))
        at = int(np.searchsorted(self.starts[self.heavy], second, "left"))
        return int(self.heavy[min(max(at, low), max(low, high - 1))])

    def _heavy_from(self, position: int, otherwise: int) -> int:
        """Return the first heavy entry at a position or after it."""
        at = int(np.searchsorted(self.heavy, position))
        return int(self.heavy[at]) if at < len(self.heavy) else otherwise

    def _violations(self, start: int, end: int, value: int) -> np.ndarray:
        """Return the offsets into `start:end` where one more value is too much."""
        used = self.used[start:end] + self.clock.nbytes[value]
        return np.flatnonzero(used > self.limit_bytes)

    def _stall(self, at: int, seconds: float) -> None:
        if seconds > 0:
            self.starts[at:] += seconds
            self.ends[at:] += seconds
