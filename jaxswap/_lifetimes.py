"""Entries and timing -> swaps: when a value leaves the device and when it returns.

Positions are indices into the list of entries of both passes, forward first. A value
has one position where it is made and some where it is used. Uses close to the making
are served by the value itself. The others fall into groups, each of which gets the
value back from the host once:

    made . use . use .....................  use . use ............ use
    |-- on the device --| free_at     gate | return |        gate | return |

`free_at` and `gate` are heavy entries. The copy to the host is waited for right before
`free_at`; the copy to the device starts right before `gate`. A group for which no such
entries exist, with at least one heavy entry between them, is served by the value
staying where it is, since a swap would gain nothing.

The distances are those of IBM's Large Model Support (TFLMSv2): swap-out threshold,
swap-in ahead, group-by.
"""

import bisect
import dataclasses
from collections.abc import Sequence

from jaxswap._order import Entry
from jaxswap._timing import Distance, Timing

COPY_FLOPS_PER_BYTE = 250.0
"""Work that takes as long as the copy of a byte takes, at 10 TFLOP/s and 40 GB/s.

Deliberately low: an operation below this counts as too short to hide a copy.
"""


@dataclasses.dataclass(frozen=True)
class Return:
    """One copy back to the device.

    Attributes:
        gate: the heavy entry right before which the copy starts; `None`: it starts
            when its use is next, and nothing hides it.
        use: the first entry that it serves.
    """

    gate: int | None
    use: int


@dataclasses.dataclass(frozen=True)
class Swap:
    """What happens to one swapped value.

    Attributes:
        value: its index.
        made: the entry after which the copy to the host starts.
        free_at: the heavy entry that waits for the copy; `None`: nothing waits.
        returns: the copies back, in order.
    """

    value: int
    made: int
    free_at: int | None
    returns: tuple[Return, ...]


class Lifetimes:
    """Lays out swaps over a fixed list of entries."""

    def __init__(self, entries: Sequence[Entry], timing: Timing) -> None:
        self.timing = timing
        self.heavy = [i for i, entry in enumerate(entries) if entry.is_heavy]
        self.flops = [entries[i].flops for i in self.heavy]
        self.first_backward = next(
            (i for i, entry in enumerate(entries) if entry.is_backward), len(entries)
        )
        self.made: dict[int, int] = {}
        self.uses: dict[int, list[int]] = {}
        for position, entry in enumerate(entries):
            for v in entry.reads:
                self.uses.setdefault(v, []).append(position)
            for v in entry.makes:
                self.made.setdefault(v, position)
        if timing.distance is Distance.LEVEL:
            self.levels = _levels(entries)
        else:
            self.levels = [bisect.bisect_left(self.heavy, i) for i in range(len(entries))]

    def swap_of(self, value: int, nbytes: int) -> Swap | None:
        """Lay out the swap of one value, or `None` if it had better stay."""
        made, uses = self.made.get(value), self.uses.get(value, [])
        if made is None or not uses:
            return None
        groups = self._groups(made, [use for use in uses if use > made])
        last = made
        free_at: int | None = None
        returns: list[Return] = []
        for near, group in groups:
            gap = None if near else self._gap(last, group[0], nbytes, not returns)
            if gap is not None:
                free_at = free_at if returns else gap[0]
                returns.append(Return(gap[1], group[0]))
            last = group[-1]
        if returns:
            return Swap(value, made, free_at, tuple(returns))
        return self._forced(value, made, uses) if self.timing.is_forced else None

    def _groups(self, made: int, uses: list[int]) -> list[tuple[bool, list[int]]]:
        """Split uses into those near the making and groups of those farther away."""
        near = [
            use
            for use in uses
            if self.levels[use] - self.levels[made] <= self.timing.swapout_threshold
        ]
        groups = [(True, near)] if near else []
        far: list[list[int]] = []
        for use in uses[len(near) :]:
            if far and self._distance(far[-1][-1], use) <= self.timing.swapin_groupby:
                far[-1].append(use)
            else:
                far.append([use])
        return [*groups, *((False, group) for group in far)]

    def _distance(self, start: int, end: int) -> int:
        return self.levels[end] - self.levels[start]

    def _gap(
        self, last: int, use: int, nbytes: int, is_first: bool
    ) -> tuple[int, int | None] | None:
        """Find (free_at, gate) between two uses, or `None` if there is no room."""
        free_at = self._free_at(last, nbytes) if is_first else last
        gate = None if self.timing.sync_swapin else self._gate(use, nbytes)
        end = use if gate is None else gate
        if free_at is None or not any(free_at <= h < end for h in self.heavy):
            return None
        if gate is None and not self.timing.sync_swapin:
            return None
        return free_at, gate

    def _free_at(self, last: int, nbytes: int) -> int | None:
        """The heavy entry that waits for a copy that may start after `last`."""
        start = bisect.bisect_right(self.heavy, last)
        if self.timing.sync_swapout:
            return self.heavy[start] if start < len(self.heavy) else None
        for i in range(start, len(self.heavy) - 1):
            if self._hides(i, nbytes):
                return self.heavy[i + 1]
        return None

    def _gate(self, use: int, nbytes: int) -> int | None:
        """The heavy entry before which the copy for a use at `use` starts."""
        ahead = self.timing.swapin_ahead
        end = bisect.bisect_left(self.heavy, use)
        count = 0
        for i in reversed(range(end)):
            if self.timing.distance is Distance.LEVEL:
                if self._distance(self.heavy[i], use) >= ahead:
                    return self.heavy[i]
            else:
                count += self._hides(i, nbytes)
                if count >= ahead:
                    return self.heavy[i]
        return None

    def _hides(self, i: int, nbytes: int) -> bool:
        """Whether the i-th heavy entry is long enough to count as cover."""
        return self.flops[i] >= min(
            COPY_FLOPS_PER_BYTE * nbytes, self._typical_flops
        )

    @property
    def _typical_flops(self) -> float:
        return sorted(self.flops)[len(self.flops) // 2] if self.flops else 0.0

    def _forced(self, value: int, made: int, uses: list[int]) -> Swap | None:
        """The swap of a value that is to leave although nothing can hide it."""
        later = [use for use in uses if use >= self.first_backward > made]
        if not later:
            return None
        return Swap(value, made, None, (Return(None, later[0]),))


def _levels(entries: Sequence[Entry]) -> list[int]:
    """Longest-path level of each entry, as TFLMSv2's categorised sort assigns it."""
    level_of: dict[int, int] = {}
    levels = []
    for entry in entries:
        level = 1 + max((level_of.get(v, 0) for v in entry.reads), default=0)
        levels.append(level)
        level_of.update(dict.fromkeys(entry.makes, level))
    return levels
