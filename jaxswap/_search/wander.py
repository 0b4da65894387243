"""Drafts that were laid out -> better ones, by random changes, some for the worse.

This is late acceptance hill climbing: a change is taken if it is no worse than the
draft some changes ago. So the search leaves the valleys in which `descent` ends. Random
numbers come from a fixed seed, so each search is the same everywhere.
"""

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.best import HOLDS, PATIENCES, Best
from jaxswap._search.candidates import Candidates
from jaxswap._search.limits import Aim
from jaxswap._search.quota import Quota
from jaxswap._search.trial import Trial, trial_of
from jaxswap._sketch.program import CODES

MEMORY = 100
"""A change is compared with the draft so many changes ago."""
WALKS = 3
"""How many walks share the quota. Each starts at the best draft so far."""
PRICE = 4.0
"""Price of a byte over the limit in the first walk, in times its copy to the host. It
is four times as high in each further walk."""
LOOSE = (1.02, 1.005, 1.005)
"""For each walk: times the seconds of its start that its first drafts may take."""

Change = tuple[np.ndarray, float, int]
"""Actions, given as numbers, a patience, and how long recomputed values are held."""
LayOutOnce = Callable[[np.ndarray, float, int], Trial]
"""Lays out a change, and offers the draft."""


def wander(
    best: Best,
    candidates: Candidates,
    graph: Graph,
    lay_out: LayOutOnce,
    quota: Quota,
    copy_seconds: float,
) -> None:
    """Change actions at random, and go on from what is no worse than a while ago.

    Args:
        best: The drafts are offered to it.
        candidates: Values whose actions may be changed.
        graph: The program.
        lay_out: Lays out actions, and offers the draft to `best`.
        quota: How many drafts to lay out.
        copy_seconds: Seconds of the copy of a byte to the host.
    """
    moves = Moves(candidates, graph, random.Random(0))
    if not moves.decided or quota.left <= 0:
        return
    share = quota.left // WALKS
    for walk in range(WALKS):
        price = PRICE * 4**walk if best.limits.aim is Aim.FASTEST else 1e9
        _walk(
            best, moves, lay_out, quota.within(share), price * copy_seconds, LOOSE[walk]
        )


def _walk(
    best: Best,
    moves: "Moves",
    lay_out: LayOutOnce,
    quota: Quota,
    price: float,
    loose: float,
) -> None:
    """Go from the best draft to others."""
    at = _start(best, price)
    now = best.cost_seconds(at, price)
    past = [now * loose] * MEMORY
    turn = 0
    while not quota.is_over:
        found = lay_out(*moves.change(at, fits=best.is_within(at)))
        cost = best.cost_seconds(found, price)
        if cost <= max(now, past[turn]):
            at, now = found, cost
        past[turn] = min(past[turn], now)
        turn = (turn + 1) % MEMORY


def _start(best: Best, price: float) -> Trial:
    """Return the best draft, or the cheapest if none fits."""
    laid = best.draft
    if not best.fits:
        laid = min(best.front, key=lambda draft: best.cost_seconds(draft, price))
    return trial_of(laid)


class Moves:
    """Random changes of a draft's actions.

    Attributes:
        decided: The values whose actions may change.
    """

    def __init__(
        self, candidates: Candidates, graph: Graph, rng: random.Random
    ) -> None:
        self.decided = (*candidates.forward, *candidates.backward)
        self.recomputable = candidates.recomputable
        self.rng = rng
        self.rows = [candidates.forward, *_alike(self.decided, graph)]

    def change(self, trial: Trial, *, fits: bool) -> Change:
        """Return other actions, or the same ones laid out otherwise."""
        numbers = trial.numbers.copy()
        patience, hold_for = trial.patience, trial.hold_for
        kind = self.rng.random()
        if kind < 0.03:
            patience = PATIENCES[1] if patience == PATIENCES[0] else PATIENCES[0]
        elif kind < 0.06:
            hold_for = HOLDS[int(self.rng.random() * len(HOLDS))]
        elif kind < 0.2:
            one, other = self._any(self.decided), self._any(self.decided)
            numbers[one], numbers[other] = trial.numbers[other], trial.numbers[one]
            self._allow(numbers, trial, (one, other))
        else:
            values = self._few(trial, fits=fits) if kind < 0.6 else self._row()
            numbers[list(values)] = int(self.rng.random() * len(CODES))
            self._allow(numbers, trial, values)
        return numbers, patience, hold_for

    def _allow(self, numbers: np.ndarray, trial: Trial, values: Sequence[int]) -> None:
        """Undo what is not possible: some values cannot be recomputed."""
        for v in values:
            is_recomputed = numbers[v] == CODES[Action.RECOMPUTE]
            if is_recomputed and v not in self.recomputable:
                numbers[v] = trial.numbers[v]

    def _any(self, values: Sequence[int]) -> int:
        return values[int(self.rng.random() * len(values))]

    def _few(self, trial: Trial, *, fits: bool) -> Sequence[int]:
        """Return a value, every other time one that matters."""
        pool: Sequence[int] = self.decided
        if self.rng.random() < 0.5:
            taken = trial.timeline
            marks = taken.cost_seconds > 0 if fits else taken.is_alive
            pool = [v for v in self.decided if marks[v]] or pool
        return (self._any(pool),)

    def _row(self) -> Sequence[int]:
        """Return neighbours in the forward pass, or among values that are alike."""
        row = self.rows[0]
        if self.rng.random() < 0.5:
            row = self.rows[int(self.rng.random() * len(self.rows))]
        if not row:
            return (self._any(self.decided),)
        first = int(self.rng.random() * len(row))
        return row[first : first + (1 << int(self.rng.random() * 7))]


def _alike(values: Sequence[int], graph: Graph) -> Iterator[list[int]]:
    """Return lists of values that the same line makes in the same shape."""
    found: dict[tuple[object, ...], list[int]] = {}
    for v in values:
        value = graph.values[v]
        key = (value.primitive, value.shape, value.nbytes, value.source)
        found.setdefault(key, []).append(v)
    yield from found.values()
