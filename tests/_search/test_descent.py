"""From drafts that nearly fit the search goes to those that fit."""

import contextlib
import functools
from collections.abc import Sequence

import numpy as np
import pytest
from handmade import chain
from handmade_plans import H100, busy

from jaxswap._request import search_of
from jaxswap._search import descent
from jaxswap._search.best import Best
from jaxswap._search.drafting import Terms
from jaxswap._search.limits import Limits
from jaxswap._search.moves import swaps_of_products
from jaxswap._search.quota import Quota
from jaxswap._search.trial import Laid
from jaxswap._simulate.draft import Draft

SEARCH = search_of(busy(chain(6)), H100)
KEPT = SEARCH.kept
PLENTY = 3000


class EnoughError(Exception):
    """Raised to end a search after some drafts."""


def descend(best: Best, *drafts: Draft, quota: int = PLENTY, most: int = 0) -> None:
    """Go on from some drafts, until a quota is spent or `most` were laid out."""
    count = 0

    def lay_out(actions: np.ndarray, hold_for: int) -> Sequence[Laid]:
        nonlocal count
        count += 1
        if count > most > 0:
            raise EnoughError
        return SEARCH.drafting.offering(best, Terms())(actions, hold_for)

    for draft in drafts:
        best.offer(draft)
    left = Quota.of(quota, SEARCH.count)
    with contextlib.suppress(EnoughError):
        descent.descend(best, SEARCH.arranger, SEARCH.candidates, lay_out, left)


@functools.cache
def smallest() -> Laid:
    best = Best(Limits.smallest(None))
    descend(best, KEPT, quota=2000)
    return best.draft


def slow_draft() -> Draft:
    """All products swapped, the rest recomputed."""
    starts = swaps_of_products(SEARCH.arranger.graph, SEARCH.candidates)
    return SEARCH.arranger.arrange(next(starts), 0)


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3])
def test_from_what_keeps_all_it_comes_below_the_limit(share: float) -> None:
    least = smallest().timeline.device_bytes
    limit = int(least + share * (KEPT.timeline.device_bytes - least))
    best = Best(Limits(limit))
    descend(best, KEPT)
    assert best.fits
    assert best.draft.timeline.seconds < 1.5 * KEPT.timeline.seconds


def test_a_fast_draft_that_nearly_fits_is_worth_more_than_a_slow_one_that_fits() -> (
    None
):
    slow = slow_draft()
    limit = int(0.95 * KEPT.timeline.device_bytes)
    assert slow.timeline.device_bytes <= limit
    assert slow.timeline.seconds > 1.5 * KEPT.timeline.seconds
    best = Best(Limits(limit))
    # One change makes it fit; from the slow one it is a long way.
    descend(best, slow, KEPT, most=1)
    assert best.fits
    assert best.draft.timeline.seconds < 1.1 * KEPT.timeline.seconds


def test_the_smallest_is_found_without_a_limit() -> None:
    assert smallest().timeline.device_bytes < 0.55 * KEPT.timeline.device_bytes


def test_no_actions_are_laid_out_twice() -> None:
    seen: list[bytes] = []
    best = Best(Limits(int(0.6 * KEPT.timeline.device_bytes)))
    best.offer(KEPT)

    def lay_out(actions: np.ndarray, hold_for: int) -> Sequence[Laid]:
        seen.append(actions.tobytes())
        return SEARCH.drafting.offering(best, Terms())(actions, hold_for)

    step = functools.partial(descent.descend, best, SEARCH.arranger)
    step(SEARCH.candidates, lay_out, Quota.of(PLENTY, SEARCH.count))
    assert len(seen) == len(set(seen)) > 10


def test_the_quota_is_kept_to() -> None:
    start = SEARCH.count()
    descend(Best(Limits.smallest(None)), KEPT, quota=50)
    assert 10 < SEARCH.count() - start < 55  # A change may be laid out in two ways.
