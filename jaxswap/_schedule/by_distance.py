"""Entries and timing -> swaps: when a value leaves the device and when it returns.

Positions are indices into the list of entries of both passes, forward first. A value
is made at one position and used at some later ones. Uses soon after it is made read the
value itself. The other uses form groups. For each group the value is copied back from
the host once:

    made . use . use .....................  use . use ............ use
    |-- on the device --| free_at     gate | return |        gate | return |

`free_at` and `gate` are heavy entries. Right before `free_at`, computation waits for
the copy to the host. Right before `gate`, the copy to the device starts. If a group has
no such entries with a heavy entry between them, a swap would gain nothing. Then the
value stays on the device for that group.

The distances are those of IBM's Large Model Support (TFLMSv2): swap-out threshold,
swap-in ahead, group-by.
"""

import bisect
import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from jaxswap._schedule.entries import Entry
from jaxswap._schedule.instructions import Return, Swap
from jaxswap._schedule.order import Order
from jaxswap._schedule.timing import Distance, Timing

COPY_FLOPS_PER_BYTE = 250.0
"""Operations that take as long as the copy of one byte, at 10 TFLOP/s and 40 GB/s.

Deliberately low. An operation below this is too short to hide a copy.
"""


class ByDistance:
    """Lays out swaps over a fixed order, by the distances of a policy."""

    def __init__(self, order: Order, timing: Timing) -> None:
        self.order = order
        self.timing = timing
        self.typical_flops = statistics.median(
            [order.entries[at].flops for at in order.heavy] or [0.0]
        )
        self.levels = _levels(order.entries)

    def swap_of(self, value: int, nbytes: int) -> Swap | None:
        """Lay out the swap of one value. Return `None` if it would free no memory."""
        order = self.order
        made = order.made.get(value)
        uses = [use for use in order.uses.get(value, ()) if made is None or use > made]
        if made is None or not uses:
            return None
        covers = self._covers(nbytes)
        near, *groups = self._groups(made, uses, covers)
        last = near[-1] if near else made
        free_at: int | None = None
        returns: list[Return] = []
        for group in groups:
            gate = self._gate(group[0], covers)
            start = last if returns else self._free_at(made, last, covers)
            end = group[0] if self.timing.sync_swapin else gate
            if start is not None and end is not None and self._has_heavy(start, end):
                free_at = free_at if returns else start
                returns.append(Return(gate, group[0]))
            last = group[-1]
        if returns:
            return Swap(value, made, free_at, tuple(returns))
        return self._forced(value, made, uses) if self.timing.is_forced else None

    def spread(
        self, swaps: Sequence[Swap], nbytes: Mapping[int, int]
    ) -> tuple[Swap, ...]:
        """Start some copies earlier if too many would run behind one entry.

        The largest values keep their gate, because an early start costs device memory.
        A copy that was moved must be done at its former gate, or XLA moves it back.
        """
        started: collections.Counter[int | None] = collections.Counter(
            self.order.heavy_before(swap.free_at)
            for swap in swaps
            if swap.free_at is not None
        )
        spread = list(swaps)
        order = sorted(range(len(swaps)), key=lambda i: -nbytes[swaps[i].value])
        for i in order:
            swap = swaps[i]
            covers = self._covers(nbytes[swap.value])
            floor = swap.made if swap.free_at is None else swap.free_at
            returns = []
            for back in swap.returns:
                if back.gate is not None:
                    gate = self._free_gate(back.gate, floor, covers, started)
                    started[gate] += 1
                    done_at = back.gate if gate < back.gate else None
                    back = Return(gate, back.use, done_at)
                returns.append(back)
                floor = self._last_use_served(swap.value, swap.returns, back)
            spread[i] = dataclasses.replace(swap, returns=tuple(returns))
        return tuple(spread)

    def _free_gate(
        self,
        gate: int,
        floor: int,
        covers: list[int],
        started: Mapping[int | None, int],
    ) -> int:
        """Return the last gate up to `gate` at which one more copy may start."""
        earlier = covers[
            bisect.bisect_right(covers, floor) : bisect.bisect_left(covers, gate)
        ]
        for candidate in (gate, *reversed(earlier)):
            if started.get(candidate, 0) < self.timing.copies_in_flight:
                return candidate
        return gate

    def _last_use_served(
        self, value: int, returns: Sequence[Return], back: Return
    ) -> int:
        """Return the last use that the copy `back` serves."""
        later = [r.use for r in returns if r.use > back.use]
        end = min(later, default=len(self.order.entries))
        return max(use for use in self.order.uses[value] if use < end)

    def _covers(self, nbytes: int) -> list[int]:
        """Return the heavy entries long enough to hide a copy of `nbytes`."""
        least = min(COPY_FLOPS_PER_BYTE * nbytes, self.typical_flops)
        entries = self.order.entries
        return [at for at in self.order.heavy if entries[at].flops >= least]

    def _groups(self, made: int, uses: list[int], covers: list[int]) -> list[list[int]]:
        """Split uses into those that read the value in place, and groups with one copy.

        By levels, TFLMSv2 compares every use with the point where the value is made. By
        heavy operations, the gap since the previous use counts.
        """
        is_level = self.timing.distance is Distance.LEVEL
        groups: list[list[int]] = [[]]
        for use in uses:
            is_first = len(groups) == 1
            previous = groups[-1][-1] if groups[-1] else made
            start = made if is_first and is_level else previous
            limit = (
                self.timing.swapout_threshold
                if is_first
                else self.timing.swapin_groupby
            )
            if self._distance(start, use, covers) > limit:
                groups.append([])
            groups[-1].append(use)
        return groups

    def _distance(self, start: int, end: int, covers: list[int]) -> int:
        if self.timing.distance is Distance.LEVEL:
            return self.levels[end] - self.levels[start]
        return bisect.bisect_left(covers, end) - bisect.bisect_right(covers, start)

    def _free_at(self, made: int, last: int, covers: list[int]) -> int | None:
        """Return the heavy entry that waits for the copy to the host."""
        if not self.timing.sync_swapout:
            cover = bisect.bisect_right(covers, made)
            if cover == len(covers):
                return None
            last = max(last, covers[cover])
        return self.order.heavy_after(last)

    def _gate(self, use: int, covers: list[int]) -> int | None:
        """Return the heavy entry before which the copy for `use` starts."""
        ahead = self.timing.swapin_ahead
        if self.timing.sync_swapin:
            return None
        if self.timing.distance is Distance.LEVEL:
            heavy = self.order.heavy
            early = heavy[: bisect.bisect_left(heavy, use)]
            far = [i for i in early if self._distance(i, use, covers) >= ahead]
            return far[-1] if far else None
        before = bisect.bisect_left(covers, use)
        return covers[before - ahead] if before >= ahead else None

    def _has_heavy(self, start: int, end: int) -> bool:
        """Whether a heavy entry runs while the value is away."""
        heavy = self.order.heavy
        return bisect.bisect_left(heavy, start) < bisect.bisect_left(heavy, end)

    def _forced(self, value: int, made: int, uses: list[int]) -> Swap | None:
        """Return the swap of a value that must leave although nothing can hide it."""
        is_backward = [entry.is_backward for entry in self.order.entries]
        later = [use for use in uses if is_backward[use] and not is_backward[made]]
        return Swap(value, made, None, (Return(None, later[0]),)) if later else None


def _levels(entries: Sequence[Entry]) -> list[int]:
    """Return the longest-path level of each entry, as TFLMSv2's sort assigns it.

    Data flow alone does not put a recomputation into the backward pass. So it gets the
    level that the backward pass has reached.
    """
    level_of: dict[int, int] = {}
    levels = []
    reached = 0
    for entry in entries:
        level = 1 + max((level_of.get(v, 0) for v in entry.reads), default=0)
        if entry.is_backward and entry.is_recomputed:
            level = max(level, reached)
        elif entry.is_backward:
            reached = max(level, reached)
        levels.append(level)
        level_of.update(dict.fromkeys(entry.makes, level))
    return levels
