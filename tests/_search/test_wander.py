"""Random changes lead to better drafts, the same ones each time."""

import random

import numpy as np
from handmade import chain
from handmade_plans import SLOW_LINK, busy

from jaxswap._graph.graph import Action
from jaxswap._request import search_of
from jaxswap._search.best import Best
from jaxswap._search.drafting import Terms
from jaxswap._search.limits import Limits
from jaxswap._search.quota import Quota
from jaxswap._search.trial import Trial, trial_of
from jaxswap._search.wander import Moves, wander
from jaxswap._sketch.program import CODES

SEARCH = search_of(busy(chain(10)), SLOW_LINK)
KEPT = SEARCH.kept
GRAPH = SEARCH.arranger.graph


def walk(limits: Limits, drafts: int) -> Best:
    """Wander from the draft that keeps everything."""
    best = Best(limits)
    best.offer(KEPT)

    def lay_out(numbers: np.ndarray, patience: float, hold_for: int) -> Trial:
        return SEARCH.drafting.offer(best, Terms(), numbers, patience, hold_for)

    quota = Quota.of(drafts, SEARCH.count)
    wander(best, SEARCH.candidates, GRAPH, lay_out, quota, copy_seconds=1e-10)
    return best


def test_it_comes_below_a_limit_and_then_gets_faster() -> None:
    limits = Limits(int(0.8 * KEPT.timeline.device_bytes))
    soon, late = walk(limits, 150), walk(limits, 1500)
    assert soon.fits
    assert late.draft.timeline.seconds < soon.draft.timeline.seconds


def test_it_looks_for_the_smallest_if_that_is_wanted() -> None:
    best = walk(Limits.smallest(None), 300)
    assert best.draft.timeline.device_bytes < 0.8 * KEPT.timeline.device_bytes


def test_each_walk_is_the_same() -> None:
    limits = Limits(int(0.7 * KEPT.timeline.device_bytes))
    assert walk(limits, 200).draft.actions == walk(limits, 200).draft.actions


def test_the_quota_is_kept_to() -> None:
    start = SEARCH.count()
    walk(Limits(0), 90)
    assert SEARCH.count() - start == 90


def test_impure_values_are_never_recomputed() -> None:
    moves = Moves(SEARCH.candidates, GRAPH, random.Random(1))
    moves.recomputable = frozenset()
    trial = trial_of(KEPT)
    fixed = {v for v, a in enumerate(KEPT.actions) if a is Action.RECOMPUTE}
    for _ in range(300):
        numbers, patience, hold_for = moves.change(trial, fits=True)
        recomputed = np.flatnonzero(numbers == CODES[Action.RECOMPUTE])
        assert set(recomputed.tolist()) <= fixed
        trial = Trial(numbers, trial.timeline, trial.make, patience, hold_for)
