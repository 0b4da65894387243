"""The entries of both passes, and what holds for them whatever is swapped."""

import bisect
import functools
import itertools
from collections.abc import Sequence

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.entries import Entry, entries_of
from jaxswap._schedule.instructions import Run


class Order:
    """The order in which a program's entries are issued.

    Positions are indices into the entries of both passes, forward first.

    Attributes:
        graph: The traced program.
        entries: What is issued, in order.
        heavy: Positions of the heavy entries.
        made: Position at which each value is made first.
        uses: Positions at which each value is read.
    """

    def __init__(self, graph: Graph, entries: Sequence[Entry]) -> None:
        self.graph = graph
        self.entries = tuple(entries)
        self.heavy = [at for at, entry in enumerate(entries) if entry.is_heavy]
        self.made: dict[int, int] = {}
        self.uses: dict[int, list[int]] = {}
        for at, entry in enumerate(entries):
            for v in entry.reads:
                self.uses.setdefault(v, []).append(at)
            for v in entry.makes:
                self.made.setdefault(v, at)

    @classmethod
    def of(
        cls,
        graph: Graph,
        actions: Sequence[Action],
        stale_after: int,
        large_bytes: int,
        hold_for: int = 0,
    ) -> "Order":
        """Return the order for some actions. See `entries_of` for the arguments."""
        entries = entries_of(graph, actions, stale_after, large_bytes, hold_for)
        return cls(graph, entries)

    def gaps(self, v: int) -> list[tuple[int, int]]:
        """Return the stretches without a use of a value in which heavy entries run."""
        made = self.made.get(v)
        if made is None:
            return []
        points = [made, *(use for use in self.uses.get(v, ()) if use > made)]
        return [
            (left, use)
            for left, use in itertools.pairwise(points)
            if self.heavy_between(left, use)
        ]

    def heavy_between(self, left: int, right: int) -> int:
        """Return how many heavy entries lie strictly between two positions."""
        first = bisect.bisect_right(self.heavy, left)
        return max(0, bisect.bisect_left(self.heavy, right) - first)

    def heavy_after(self, position: int) -> int | None:
        """Return the first heavy entry after a position."""
        at = bisect.bisect_right(self.heavy, position)
        return self.heavy[at] if at < len(self.heavy) else None

    def heavy_before(self, position: int) -> int | None:
        """Return the last heavy entry before a position."""
        at = bisect.bisect_left(self.heavy, position)
        return self.heavy[at - 1] if at else None

    @functools.cached_property
    def backward_start(self) -> int:
        """Position of the first entry of the backward pass."""
        return sum(not entry.is_backward for entry in self.entries)

    @functools.cached_property
    def last_use(self) -> dict[int, int]:
        """Last position at which each value is read. Results are read at the end."""
        found = {v: uses[-1] for v, uses in self.uses.items()}
        kept = (*self.graph.gradients, *self.graph.outputs)
        found.update(dict.fromkeys(kept, len(self.entries)))
        return found

    @functools.cached_property
    def quiet_until(self) -> list[int]:
        """For each entry, the last position up to which it stays in use.

        Up to there, each value that it reads is read again, and so is a value that it
        makes.
        """
        return [self._quiet_until(entry) for entry in self.entries]

    def _quiet_until(self, entry: Entry) -> int:
        read = min((self.last_use[v] for v in entry.reads), default=-1)
        made = max((self.last_use.get(v, -1) for v in entry.makes), default=-1)
        return min(read, made)

    @functools.cached_property
    def might_run_early(self) -> list[bool]:
        """Whether each entry is one of the backward pass that awaits no cotangent.

        Recomputations are such entries.
        """
        dependent = {*self.graph.cotangents}
        found = []
        for entry in self.entries:
            is_awaiting = not dependent.isdisjoint(entry.reads)
            if is_awaiting:
                dependent.update(entry.makes)
            found.append(entry.is_backward and not is_awaiting)
        return found

    @functools.cached_property
    def runs(self) -> list[tuple[Run, ...]]:
        """The instructions that execute each entry."""
        return [tuple(Run(*part) for part in entry.parts) for entry in self.entries]
