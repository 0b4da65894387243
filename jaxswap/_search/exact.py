"""The best draft of a small program, by branch and bound.

The recomputed values decide the order of the entries. Swaps only add waiting to it. So
the search tries the sets of recomputed values, the fastest first. It ends when the next
set is slower without any copy than the best draft so far. For each set, values leave
one by one, in a tree of choices. A branch ends where nothing fits although all values
that may leave do. It also ends where something fits: more copies would not be faster.
"""

import dataclasses
import itertools
from collections.abc import Collection, Sequence

import numpy as np

from jaxswap._graph.graph import Action
from jaxswap._schedule.order import Order
from jaxswap._search.best import PATIENCES, Best, LayOut
from jaxswap._search.candidates import Candidates
from jaxswap._search.quota import Quota
from jaxswap._search.trial import Trial
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch.program import CODES
from jaxswap._sketch.sketch import NO_LIMIT, Sketcher, actions_of_codes, codes

MOST_SETS = 1 << 12
"""The largest number of sets of recomputed values that is tried."""

FEW = 5
"""If at most this many values may leave, all their sets are tried. Seldom, a value that
leaves takes memory, since it then needs a buffer that it did not need before."""


@dataclasses.dataclass(frozen=True, eq=False)
class RecomputedSet:
    """A set of recomputed values.

    Attributes:
        trial: The draft with this set, laid out without copies.
        swappable: Values that may leave in it, the largest first.
    """

    trial: Trial
    swappable: tuple[int, ...]


class Exact:
    """All sets of recomputed values of one program, the fastest first."""

    def __init__(
        self, arranger: Arranger, candidates: Candidates, sketcher: Sketcher
    ) -> None:
        self.arranger = arranger
        self.sketcher = sketcher
        self.candidates = candidates
        self._nodes: tuple[RecomputedSet, ...] | None = None

    @property
    def is_small(self) -> bool:
        """Whether the program is small enough."""
        return 1 << len(self.candidates.recomputable) <= MOST_SETS

    def solve(
        self,
        best: Best,
        lay_out: LayOut,
        quota: Quota,
        grounded: Collection[int] = (),
    ) -> float:
        """Offer all drafts that may be best. Return a lower bound on their seconds.

        If the search came to its end, the bound is the time of the best draft. Values
        that are `grounded` do not leave.
        """
        nodes = self._all_nodes(quota)
        if nodes is None:
            return 0.0
        for node in nodes:
            seconds = node.trial.timeline.seconds
            if best.fits and seconds >= best.draft.timeline.seconds:
                break
            if quota.is_over:
                return seconds
            best.offer(node.trial)
            free = tuple(v for v in node.swappable if v not in grounded)
            node = dataclasses.replace(node, swappable=free)
            if not best.is_within(node.trial) and not self._branch(
                node, 0, (), best, lay_out, quota
            ):
                return seconds
        return best.draft.timeline.seconds if best.fits else 0.0

    def _branch(
        self,
        node: RecomputedSet,
        at: int,
        leaving: tuple[int, ...],
        best: Best,
        lay_out: LayOut,
        quota: Quota,
    ) -> bool:
        """Decide on the swappable values from `at` on. Return whether that ended."""
        if quota.is_over:
            return False
        possible = (*leaving, *node.swappable[at:])
        is_many = len(node.swappable) > FEW
        if not self._can_fit(self._actions(node, possible), best) and is_many:
            return True
        if leaving:
            actions = self._actions(node, leaving)
            free = self._trial(actions, NO_LIMIT)
            if best.fits and free.timeline.seconds >= best.draft.timeline.seconds:
                return True
            if best.is_within(lay_out(actions, 0)[0]):
                return True
        if at == len(node.swappable):
            return True
        with_it = (*leaving, node.swappable[at])
        return self._branch(node, at + 1, with_it, best, lay_out, quota) and (
            self._branch(node, at + 1, leaving, best, lay_out, quota)
        )

    def _can_fit(self, actions: np.ndarray, best: Best) -> bool:
        """Whether the actions fit if values are away for as long as possible."""
        for patience in PATIENCES:
            smallest = self._trial(actions, 0, patience)
            best.offer(smallest)
            if best.is_within(smallest):
                return True
        return False

    def _actions(self, node: RecomputedSet, leaving: Sequence[int]) -> np.ndarray:
        actions = node.trial.numbers.copy()
        actions[list(leaving)] = CODES[Action.OFFLOAD]
        return actions

    def _trial(
        self, actions: np.ndarray, limit_bytes: int, patience: float = PATIENCES[0]
    ) -> Trial:
        sketch = self.sketcher.sketch(actions, limit_bytes, patience=patience)

        def make() -> Draft:
            return self.arranger.arrange(
                actions_of_codes(actions), limit_bytes, patience=patience
            )

        return Trial(actions, sketch, make, patience)

    def _all_nodes(self, quota: Quota) -> tuple[RecomputedSet, ...] | None:
        """Return a node for each order of entries. `None` if that did not end."""
        if self._nodes is not None:
            return self._nodes
        free = [v for v in self.candidates.forward if v in self.candidates.recomputable]
        found: dict[tuple[object, ...], RecomputedSet] = {}
        for choice in itertools.product((False, True), repeat=len(free)):
            if quota.is_over:
                return None
            actions = list(self.candidates.fixed)
            for v, is_recomputed in zip(free, choice, strict=True):
                if is_recomputed:
                    actions[v] = Action.RECOMPUTE
            trial = self._trial(codes(actions), NO_LIMIT)
            order = self.arranger.order(actions)
            key = tuple(entry.parts for entry in order.entries)
            if key not in found:
                swappable = self._swappable(order, actions)
                found[key] = RecomputedSet(trial, swappable)
        self._nodes = tuple(
            sorted(found.values(), key=lambda node: node.trial.timeline.seconds)
        )
        return self._nodes

    def _swappable(self, order: Order, actions: Sequence[Action]) -> tuple[int, ...]:
        values = self.arranger.graph.values
        decided = (*self.candidates.forward, *self.candidates.backward)
        mine = [
            v for v in decided if actions[v] is not Action.RECOMPUTE and order.gaps(v)
        ]
        return tuple(sorted(mine, key=lambda v: -values[v].nbytes))
