"""What compiled programs taught about the drafts of one program."""

import dataclasses

import numpy as np

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.measured import Measured
from jaxswap._simulate.draft import Draft
from jaxswap._sketch.program import CODES


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What the next draft has to respect.

    Attributes:
        eager: Values whose copies back started too late. Their copies must be done one
            heavy operation earlier.
        grounded: Values that stay on the device, because an earlier copy did not help.
        refused: Actions of drafts whose compiled programs did not fit.
        is_exposed: Whether its loops copy what nothing hides, which no draft changes.
    """

    eager: frozenset[int] = frozenset()
    grounded: frozenset[int] = frozenset()
    refused: frozenset[tuple[Action, ...]] = frozenset()
    is_exposed: bool = False

    def exposed(self, values: frozenset[int]) -> "Lessons":
        """Note copies back that nothing hides. The second time, the value stays."""
        return dataclasses.replace(
            self,
            eager=self.eager | values,
            grounded=self.grounded | (values & self.eager),
        )

    def without(self, actions: tuple[Action, ...]) -> "Lessons":
        """Note a draft whose compiled program does not fit."""
        return dataclasses.replace(self, refused=self.refused | {actions})

    def allowed(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers of actions with all values kept that must not leave."""
        if not self.grounded:
            return numbers
        found, values = numbers.copy(), list(self.grounded)
        leaves = found[values] == CODES[Action.OFFLOAD]
        found[values] = np.where(leaves, CODES[Action.KEEP], found[values])
        return found


NO_LESSONS = Lessons()


def exposed_values(graph: Graph, measured: Measured) -> frozenset[int]:
    """Return the values whose copies back to the device overlap nothing."""
    labels = set(measured.exposed_returns)
    return frozenset(v.index for v in graph.values if v.scope_label in labels)


def likeness(one: Draft, other: Draft) -> float:
    """Return the share of the large values, by bytes, with equal actions in two drafts.

    One program needs some bytes beyond its simulation. Another one is expected to need
    this share of them.
    """
    if one.graph is not other.graph:
        return 0.0
    sizes = [v.nbytes for v in one.graph.values]
    large = [v for v, n in enumerate(sizes) if n >= one.staleness[1]]
    same = [v for v in large if one.actions[v] is other.actions[v]]
    return sum(sizes[v] for v in same) / max(1, sum(sizes[v] for v in large))
