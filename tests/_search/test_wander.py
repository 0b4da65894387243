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
from jaxswap._search.wander import BRIEF_HOLDS, Moves, wander
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


def brief_walk(best: Best, drafts: int) -> list[Trial]:
    """Wander with what is recomputed held briefly. Return what is laid out."""
    made: list[Trial] = []

    def lay_out(numbers: np.ndarray, patience: float, hold_for: int) -> Trial:
        trial = SEARCH.drafting.offer(best, Terms(), numbers, patience, hold_for)
        made.append(trial)
        return trial

    quota = Quota.of(drafts, SEARCH.count)
    walked = best, SEARCH.candidates, GRAPH, lay_out, quota
    wander(*walked, copy_seconds=1e-10, holds_briefly=True)
    return made


def test_each_short_time_is_held_for_the_whole_walk() -> None:
    best = Best(Limits(int(0.7 * KEPT.timeline.device_bytes)))
    best.offer(KEPT)
    found = [trial.hold_for for trial in brief_walk(best, 200)]
    assert found == sorted(found)
    assert {*found} == {*BRIEF_HOLDS}


def test_brief_walks_begin_at_what_is_cheap_though_it_may_not_fit() -> None:
    slow = walk(Limits(int(0.8 * KEPT.timeline.device_bytes)), 200).draft
    nearly = Limits(KEPT.timeline.device_bytes - 1)
    assert slow.timeline.device_bytes <= nearly.device_bytes
    best = Best(nearly)
    best.offer(slow)
    best.offer(KEPT)
    assert best.draft is slow
    first = brief_walk(best, 20)[0]
    assert first.actions == KEPT.actions
