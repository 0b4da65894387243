"""From drafts that nearly fit the search goes to those that fit."""

import contextlib
import functools
from collections.abc import Sequence

import pytest
from handmade import chain
from handmade_plans import H100, busy

from jaxswap._graph.graph import Action
from jaxswap._planner import search_of
from jaxswap._search import descent
from jaxswap._search.best import Best
from jaxswap._search.clock import Deadline
from jaxswap._search.lessons import NO_LESSONS
from jaxswap._search.limits import Limits
from jaxswap._search.moves import swaps_of_products
from jaxswap._simulate.draft import Draft

SEARCH = search_of(busy(chain(6)), H100)
KEPT = SEARCH.kept
PLENTY = 3.0


class EnoughError(Exception):
    """Raised to end a search after some drafts."""


def descend(best: Best, *drafts: Draft, seconds: float = PLENTY, most: int = 0) -> None:
    """Go on from some drafts, for some time or until `most` were laid out."""
    count = 0

    def lay_out(actions: Sequence[Action]) -> list[Draft]:
        nonlocal count
        count += 1
        if count > most > 0:
            raise EnoughError
        return SEARCH._lay_out(actions, best=best, lessons=NO_LESSONS)

    for draft in drafts:
        best.offer(draft)
    deadline = Deadline.after(seconds, SEARCH.clock)
    with contextlib.suppress(EnoughError):
        descent.descend(best, SEARCH.arranger, SEARCH.candidates, lay_out, deadline)


@functools.cache
def smallest() -> Draft:
    best = Best(Limits.smallest(None))
    descend(best, KEPT, seconds=2.0)
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
    seen: list[tuple[Action, ...]] = []
    best = Best(Limits(int(0.6 * KEPT.timeline.device_bytes)))
    best.offer(KEPT)

    def lay_out(actions: Sequence[Action]) -> list[Draft]:
        seen.append(tuple(actions))
        return SEARCH._lay_out(actions, best=best, lessons=NO_LESSONS)

    step = functools.partial(descent.descend, best, SEARCH.arranger)
    step(SEARCH.candidates, lay_out, Deadline.after(PLENTY, SEARCH.clock))
    assert len(seen) == len(set(seen)) > 10


def test_time_is_kept_to() -> None:
    start = SEARCH.clock()
    descend(Best(Limits.smallest(None)), KEPT, seconds=0.2)
    assert SEARCH.clock() - start < 0.3
