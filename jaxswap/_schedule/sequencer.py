"""Which values a heavy operation waits for, so that it runs after the previous one."""

from collections.abc import Collection

from jaxswap._schedule.entries import Entry
from jaxswap._schedule.order import Order


class Sequencer:
    """Finds which values a heavy operation waits for, to run after the previous one.

    Data flow orders most heavy operations. For others (the gradient of a weight, one of
    two branches) it leaves XLA a choice. XLA would delay them, and hold all that they
    read. Or it would move them away from the copy that they are to hide.
    """

    def __init__(self, order: Order, swapped: Collection[int] = ()) -> None:
        self.swapped = swapped
        self.graph = order.graph
        self.order = order
        self.last_use = order.last_use
        self.heavy_count = 0
        self.after: dict[int, int] = {}
        self.recent: list[int] = []
        self.pending: list[tuple[int, Entry]] = []

    def add(self, at: int, entry: Entry) -> None:
        """Note an entry that has been issued."""
        eqn = self.graph.equations[entry.parts[-1][0]]
        if eqn.is_deferred:
            return
        if entry.is_backward or eqn.is_cut or self._stores_less(entry):
            self.pending.append((self.order.quiet_until[at], entry))
        after = self.after
        latest = max([after.get(v, 0) for v in entry.reads], default=0)
        if entry.is_heavy:
            self.heavy_count += 1
            latest = self.heavy_count
            self.recent = []
        for v in entry.makes:
            after[v] = latest
        if latest == self.heavy_count:
            self.recent.extend(entry.makes)

    def _stores_less(self, entry: Entry) -> bool:
        """Whether an entry turns a value into a narrow form for the backward pass."""
        eqn, sizes = self.graph.equations[entry.parts[-1][0]], self.graph.values
        if not eqn.is_cheap or eqn.is_reduction:
            return False
        read = sum(sizes[v].nbytes for v in entry.reads)
        made = sum(sizes[v].nbytes for v in entry.makes)
        # A copy to the host is waited for by itself.
        return 0 < 2 * made < read and any(
            self.last_use.get(v, -1) >= self.order.backward_start
            and v not in self.swapped
            for v in entry.makes
        )

    def tie(self, values: tuple[int, ...]) -> None:
        """Note that `values` passed a barrier together."""
        latest = max((self.after.get(v, 0) for v in values), default=0)
        self.after.update(dict.fromkeys(values, latest))
        if latest == self.heavy_count:
            self.recent.extend(values)

    def is_next(self, reads: tuple[int, ...]) -> bool:
        """Whether data flow puts the reader of `reads` after the last heavy entry.

        True for the first heavy entry, even if it reads nothing.
        """
        latest = self.heavy_count
        return not latest or any(self.after.get(v, 0) == latest for v in reads)

    def due(self, at: int) -> tuple[int, ...]:
        """Return values to make now, since they let larger values be freed.

        They are read at `at` or later, but the larger values from which they are made
        are not. Most are sums of the backward pass. In the forward pass, they are the
        narrow forms of values that the backward pass reads. XLA would make them later
        and hold the larger values. Pieces are due at once: with all of them made, the
        whole value is free.
        """
        values = self.graph.values
        held_bytes: dict[int, int] = {}
        due: list[int] = []
        pending: list[tuple[int, Entry]] = []
        for quiet_until, entry in self.pending:
            if self.graph.equations[entry.parts[-1][0]].is_cut:
                # A copy to the host is waited for by itself.
                due.extend(v for v in entry.makes if v not in self.swapped)
                continue
            if at <= quiet_until:
                pending.append((quiet_until, entry))
                continue
            live = [v for v in entry.makes if self.last_use.get(v, -1) >= at]
            dead = [v for v in entry.reads if self.last_use[v] < at]
            held = sum(max(values[v].nbytes, held_bytes.get(v, 0)) for v in dead)
            held_bytes.update(dict.fromkeys(entry.makes, held))
            if live and held > 2 * sum(values[v].nbytes for v in live):
                due.extend(live)
            elif live and len(dead) < len(entry.reads):
                pending.append((quiet_until, entry))
        self.pending = pending
        return tuple(due)

    def token(self, at: int) -> tuple[int, ...]:
        """Return a value to wait for: the smallest that can order two heavy entries.

        It depends on the last heavy entry and is read at `at` or later. XLA removes
        values from a barrier that nobody reads afterwards. So a value that is not read
        again would order nothing. If there is none, cotangents are returned.
        """
        live = [v for v in self.recent if self.last_use.get(v, -1) >= at]
        if not live:
            return self.graph.cotangents if not self.heavy_count else ()
        return (min(live, key=lambda v: self.graph.values[v].nbytes),)
