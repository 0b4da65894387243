"""Drafts that were laid out -> better ones, by random changes, some for the worse.

This is late acceptance hill climbing: a change is taken if it is no worse than the
draft some changes ago. So the search leaves the valleys in which `descent` ends. Random
numbers come from a fixed seed, so each search is the same everywhere.
"""

import functools
import random
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.best import HOLDS, PATIENCES, Best
from jaxswap._search.candidates import Candidates
from jaxswap._search.limits import Aim
from jaxswap._search.quota import Quota
from jaxswap._search.trial import Trial, trial_of
from jaxswap._sketch.program import CODES
from jaxswap._sketch.sketch import CROWDING

MEMORY = 100
"""A change is compared with the draft so many changes ago."""
WALKS = 3
"""How many walks share the quota. See `_start`."""
PRICE = 4.0
"""Price of a byte over the limit in the first walk, in times its copy to the host. It
is four times as high in each further walk."""
LOOSE = (1.02, 1.005, 1.005)
"""For each walk: times the seconds of its start that its first drafts may take."""
BRIEF_HOLDS = (1, 2)
"""Where memory is scarce, good drafts hold what is recomputed for a short time. See
`_walk_briefly`."""

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
    turn: int = 1,
    *,
    holds_briefly: bool = False,
) -> None:
    """Change actions at random, and go on from what is no worse than a while ago.

    Args:
        best: The drafts are offered to it.
        candidates: Values whose actions may be changed.
        graph: The program.
        lay_out: Lays out actions, and offers the draft to `best`.
        quota: How many drafts to lay out.
        copy_seconds: Seconds of the copy of a byte to the host.
        turn: The number of the call: each has other random numbers. Where only memory
            counts, later calls take fewer and longer walks.
        holds_briefly: Whether walks go to drafts that hold what is recomputed for a
            short time.
    """
    rng = random.Random(turn)
    moves = Moves(candidates, graph, rng, may_hold=not holds_briefly)
    if not moves.decided or quota.left <= 0:
        return
    if holds_briefly:
        _walk_briefly(best, moves, lay_out, quota, copy_seconds * PRICE)
        return
    is_for_speed = best.limits.aim is Aim.FASTEST
    walks = WALKS if is_for_speed else max(1, WALKS - turn)
    share = quota.left // walks
    begun: set[int] = set()
    for walk in range(walks):
        price = copy_seconds * (PRICE * 4**walk if is_for_speed else 1e9)
        at = _start(best, price, set() if is_for_speed else begun)
        begun.add(at.hold_for)
        _walk(best, at, moves, lay_out, quota.within(share), price, LOOSE[walk])


def _walk_briefly(
    best: Best, moves: "Moves", lay_out: LayOutOnce, quota: Quota, price: float
) -> None:
    """Walk to drafts that hold what is recomputed for a short time.

    Another time is another valley: at first such a draft is worse, and only after many
    changes is it better. A walk that may change times does not stay for long enough.
    The walks begin at the cheapest draft. It may need too much memory: what fits so far
    is often in a valley of drafts that swap too much.
    """
    cost = functools.partial(best.cost_seconds, seconds_per_byte=price)
    begin = trial_of(min(best.front, key=cost))
    share = quota.left // len(BRIEF_HOLDS)
    for hold_for in BRIEF_HOLDS:
        at = lay_out(begin.numbers, begin.patience, hold_for)
        _walk(best, at, moves, lay_out, quota.within(share), price, LOOSE[0])


def _walk(
    best: Best,
    at: Trial,
    moves: "Moves",
    lay_out: LayOutOnce,
    quota: Quota,
    price: float,
    loose: float,
) -> None:
    """Go from a draft to others."""
    now = _cost_seconds(best, at, price)
    past = [now * loose] * MEMORY
    turn = 0
    while not quota.is_over:
        found = lay_out(*moves.change(at, fits=best.is_within(at)))
        cost = _cost_seconds(best, found, price)
        if cost <= max(now, past[turn]):
            at, now = found, cost
        past[turn] = min(past[turn], now)
        turn = (turn + 1) % MEMORY


def _cost_seconds(best: Best, trial: Trial, price: float) -> float:
    """Return the seconds of a draft, plus a price for each byte over the limit.

    Where only memory counts, many points may be as full as the fullest. A change that
    relieves one of them is a step on the way, though the peak stays.
    """
    if best.limits.aim is Aim.FASTEST:
        return best.cost_seconds(trial, price)
    taken = trial.timeline
    return best.cost_seconds(trial, price * taken.crowd ** (1 / CROWDING))


def _start(best: Best, price: float, begun: Collection[int]) -> Trial:
    """Return the best draft, or the cheapest if none fits.

    The smallest drafts are often in another valley than the smallest so far. So walks
    to them begin at drafts that hold what is recomputed for different times.
    """
    if best.fits:
        return trial_of(best.draft)
    trials = [trial_of(laid) for laid in best.front]
    others = [trial for trial in trials if trial.hold_for not in begun]
    return min(others or trials, key=lambda trial: best.cost_seconds(trial, price))


class Moves:
    """Random changes of a draft's actions.

    Args:
        candidates: Values whose actions may be changed.
        graph: The program.
        rng: Chooses.
        may_hold: Whether it may change for how long recomputed values are held.

    Attributes:
        decided: The values whose actions may change.
    """

    def __init__(
        self,
        candidates: Candidates,
        graph: Graph,
        rng: random.Random,
        *,
        may_hold: bool = True,
    ) -> None:
        self.decided = (*candidates.forward, *candidates.backward)
        self.recomputable = candidates.recomputable
        self.rng = rng
        self.holds = HOLDS if may_hold else ()
        self.rows = [candidates.forward, *_alike(self.decided, graph)]

    def change(self, trial: Trial, *, fits: bool) -> Change:
        """Return other actions, or the same ones laid out otherwise."""
        numbers = trial.numbers.copy()
        patience, hold_for = trial.patience, trial.hold_for
        kind = self.rng.random()
        if kind < 0.03:
            patience = PATIENCES[1] if patience == PATIENCES[0] else PATIENCES[0]
        elif kind < 0.06 and self.holds:
            hold_for = self.holds[int(self.rng.random() * len(self.holds))]
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
