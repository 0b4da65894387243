"""What of a list of entries stays the same whatever is swapped."""

from collections.abc import Sequence

from jaxswap._graph.graph import Graph
from jaxswap._schedule.instructions import Run
from jaxswap._schedule.order import Entry


class Uses:
    """Made once for all swaps that are tried over the same entries.

    Attributes:
        last_use: The last position at which each value is read.
        quiet_until: For each entry, the last position up to which all that it reads
            is read again and something that it makes is.
        is_replay: Whether each entry is a forward one in the backward pass.
        runs: The instructions that execute each entry.
    """

    def __init__(self, graph: Graph, entries: Sequence[Entry]) -> None:
        end = len(entries)
        self.last_use = {v: at for at, entry in enumerate(entries) for v in entry.reads}
        self.last_use.update(dict.fromkeys((*graph.gradients, *graph.outputs), end))
        self.quiet_until = [self._quiet_until(entry) for entry in entries]
        self.is_replay = [entry.is_backward and entry.is_replay for entry in entries]
        self.runs = [tuple(Run(*part) for part in entry.parts) for entry in entries]

    def _quiet_until(self, entry: Entry) -> int:
        read = min((self.last_use[v] for v in entry.reads), default=-1)
        made = max((self.last_use.get(v, -1) for v in entry.makes), default=-1)
        return min(read, made)
