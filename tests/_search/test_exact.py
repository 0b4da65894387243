"""Branch and bound over what is recomputed and what leaves."""

import numpy as np
import pytest
from random_programs import random_case

from jaxswap._search import exact as exact_search
from jaxswap._search.best import Best
from jaxswap._search.exact import Exact
from jaxswap._search.limits import Limits
from jaxswap._search.quota import Quota
from jaxswap._simulate.draft import Draft
from jaxswap._sketch.sketch import Sketcher, actions_of_codes


def solve(seed: int, layers: int, share: float) -> tuple[Best, float]:
    case = random_case(seed, layers)
    exact = Exact(case.arranger, case.candidates, Sketcher(case.arranger))
    best = Best(Limits(case.limit(share)))

    def lay_out(numbers: np.ndarray, hold_for: int) -> list[Draft]:
        actions = actions_of_codes(numbers)
        limit_bytes = best.limits.device_bytes
        draft = case.arranger.arrange(actions, limit_bytes, hold_for=hold_for)
        best.offer(draft)
        return [draft]

    best.offer(case.arranger.draft(case.candidates.fixed, ()))
    bound = exact.solve(best, lay_out, Quota.of(10**6, lambda: 0))
    return best, bound


def test_bound_is_the_optimum_once_all_is_tried() -> None:
    best, bound = solve(1, 4, 0.9)
    assert best.fits
    assert bound == best.draft.timeline.seconds


def test_nothing_is_claimed_where_nothing_fits() -> None:
    best, bound = solve(1, 4, 0.01)
    assert not best.fits
    assert bound == 0.0


OVER = Quota.of(0, lambda: 0)


def test_a_quota_that_is_spent_leaves_the_best_as_it_was() -> None:
    case = random_case(1, 4)
    best = Best(Limits(case.limit(0.5)))
    best.offer(case.arranger.draft(case.candidates.fixed, ()))
    before = best.draft
    exact = Exact(case.arranger, case.candidates, Sketcher(case.arranger))
    assert exact.solve(best, lambda actions, hold_for: [before], OVER) == 0.0
    assert best.draft is before


def test_large_programs_are_left_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(1, 4)
    exact = Exact(case.arranger, case.candidates, Sketcher(case.arranger))
    assert exact.is_small
    monkeypatch.setattr(exact_search, "MOST_SETS", 1)
    assert not exact.is_small
