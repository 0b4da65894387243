"""The search finds the optimum of small programs, and good plans of larger ones."""

import functools
import gc
import time

import pytest
from handmade import chain
from handmade_plans import H100, SLOW_LINK, busy
from random_programs import LIMITS, Case, brute_force, random_case

from jaxswap._graph.graph import Action
from jaxswap._planner import search_of
from jaxswap._search import exact
from jaxswap._search.moves import Best
from jaxswap._search.search import (
    DEAR,
    MOST_SLOWDOWN,
    Found,
    Instant,
    Search,
    uncollected,
)

CASES = [(seed, 3 + seed % 3) for seed in range(12)]


def small(seed: int, layers: int) -> Case | None:
    case = random_case(seed, layers)
    return case if 3 <= case.count <= 6 else None


@pytest.mark.parametrize(("seed", "layers"), CASES)
def test_small_programs_get_their_optimum(seed: int, layers: int) -> None:
    case = small(seed, layers)
    if case is None:
        pytest.skip("too few values, or too many for brute force")
    limits = [case.limit(share) for share in LIMITS]
    optima = brute_force(case, limits, is_pruned=True)
    search = case.search()
    for limit, optimum in zip(limits, optima, strict=True):
        if optimum.draft is None:
            continue
        found = search.find(limit, seconds=3.0)
        best = optimum.draft.timeline.seconds
        assert found.fits
        assert found.draft.timeline.seconds <= 1.02 * best
        assert found.bound_seconds <= 1.001 * best


def test_most_of_these_programs_are_judged() -> None:
    judged = [case for case in (small(*c) for c in CASES) if case is not None]
    assert len(judged) >= len(CASES) // 2


def test_search_without_enumeration_still_finds_plans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "MOST_SETS", 0)
    fits, tried, excess = 0, 0, []
    for seed, layers in CASES[:6]:
        case = random_case(seed, layers)
        if not 3 <= case.count <= 6:
            continue
        limits = [case.limit(share) for share in LIMITS]
        optima = brute_force(case, limits, is_pruned=True)
        search = case.search()
        for limit, optimum in zip(limits, optima, strict=True):
            if optimum.draft is None:
                continue
            found = search.find(limit, seconds=0.5)
            tried += 1
            fits += found.fits
            if found.fits:
                best = optimum.draft.timeline.seconds
                excess.append(found.draft.timeline.seconds / best - 1)
                assert found.bound_seconds <= 1.001 * best
    assert fits >= 0.7 * tried
    assert sum(e <= 0.02 for e in excess) >= 0.7 * len(excess)


def test_everything_is_kept_where_it_fits() -> None:
    case = random_case(1, 4)
    found = case.search().find(case.kept_bytes)
    assert found.fits
    assert not found.draft.swaps
    assert Action.OFFLOAD not in found.draft.actions


def test_what_fits_nowhere_comes_back_as_small_as_can_be() -> None:
    case = small(2, 5) or random_case(2, 5)
    (optimum,) = brute_force(case, [0])
    found = case.search().find(0, seconds=2.0)
    assert not found.fits
    assert found.draft.timeline.device_bytes <= 1.05 * optimum.smallest_bytes


@functools.cache
def swapping_seed() -> int:
    for seed in range(60):
        case = random_case(seed, 4)
        found = case.search().find(case.limit(0.8), seconds=1.0)
        if found.fits and found.draft.swaps:
            return seed
    raise AssertionError("no program swaps")


def swapping_case() -> tuple[Case, Search, int]:
    """A program whose best plan swaps, its search, and the limit."""
    case = random_case(swapping_seed(), 4)
    return case, case.search(), case.limit(0.8)


def test_grounded_values_stay_on_the_device() -> None:
    _, search, limit = swapping_case()
    found = search.find(limit, seconds=1.0)
    search.grounded = frozenset(swap.value for swap in found.draft.swaps)
    again = search.find(limit, seconds=1.0)
    assert not {s.value for s in again.draft.swaps} & search.grounded


def test_a_search_can_begin_anew_but_for_what_was_refused() -> None:
    case = random_case(1, 4)
    search = case.search()
    draft = search.find(case.limit(0.5), seconds=0.3).draft
    search.refused |= {draft.actions}
    search.grounded = frozenset(range(len(draft.graph.values)))
    search.forget()
    assert not list(search.front)
    assert not search.grounded
    assert search.refused == {draft.actions}


def test_host_memory_is_limited_too() -> None:
    _, search, limit = swapping_case()
    free = search.find(limit, seconds=1.0).draft.timeline.host_bytes
    found = search.find(limit, free // 2, seconds=1.0)
    assert not found.fits or found.draft.timeline.host_bytes <= free // 2
    assert search.find(limit, free, seconds=1.0).fits


def test_where_a_plan_is_slow_drafts_that_swap_nothing_are_searched_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = search_of(busy(chain(20)), SLOW_LINK)
    assert not search.exact.is_small
    kept = search.kept.timeline
    limit = kept.caller_bytes + (kept.device_bytes - kept.caller_bytes) // 2
    swapless = search.find(limit, 0, seconds=1.0)
    assert swapless.fits
    assert not swapless.draft.swaps
    asked: list[int | None] = []
    original = Search._search

    def noted(self: Search, limit: int, host: int | None, seconds: float) -> Found:
        asked.append(host)
        return original(self, limit, host, seconds)

    monkeypatch.setattr(Search, "_search", noted)
    found = search_of(busy(chain(20)), SLOW_LINK).find(limit, seconds=3.0)
    assert asked == [None, 0, 0, 0]
    assert found.draft.timeline.seconds <= 1.01 * swapless.draft.timeline.seconds


def test_more_memory_never_makes_a_plan_slower() -> None:
    search = search_of(busy(chain(16)), H100)
    kept = search.kept.timeline
    room = kept.device_bytes - kept.caller_bytes
    small = search.find(kept.caller_bytes + int(0.4 * room), seconds=0.3)
    large = search.find(kept.caller_bytes + int(0.6 * room), seconds=0.0)
    assert small.fits
    assert large.fits
    assert large.draft.timeline.seconds <= small.draft.timeline.seconds


def test_values_that_must_come_back_early_are_laid_out_anew() -> None:
    _, search, limit = swapping_case()
    first = search.find(limit, seconds=1.0).draft
    search.eager = frozenset(swap.value for swap in first.swaps)
    assert search.find(limit, seconds=1.0).draft is not first
    assert first not in search.front


@pytest.mark.parametrize("is_enabled", [True, False])
def test_garbage_is_collected_again_after_a_search(is_enabled: bool) -> None:
    was_enabled = gc.isenabled()
    (gc.enable if is_enabled else gc.disable)()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is is_enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_a_dear_plan_is_searched_for_longer_once_near_a_limit() -> None:
    search = search_of(busy(chain(20)), H100)
    limit = search.kept.timeline.device_bytes - 1
    dear = search.arranger.arrange(search._starts[0], 0)
    assert dear.timeline.seconds > DEAR * search.kept.timeline.seconds
    longer = []
    for share in (1.0, 0.98, 0.9, 0.1):
        best = Best(int(share * limit))
        best.offer(dear)
        longer.append(search._is_worth_more(best))
    assert longer == [True, False, True, False]  # The last does not fit.


def test_a_plan_that_costs_little_is_not_searched_for_longer() -> None:
    search = search_of(busy(chain(20)), H100)
    best = Best(search.kept.timeline.device_bytes)
    best.offer(search.kept)
    assert not search._is_worth_more(best)


def test_a_draft_can_be_laid_out_again_without_a_search() -> None:
    _, search, limit = swapping_case()
    draft = search.find(limit, seconds=1.0).draft
    again = search.find(limit, again=draft)
    assert again.draft.actions == draft.actions


def test_half_the_memory_costs_half_of_what_it_costs_to_recompute_all() -> None:
    graph = busy(chain(40))
    search = search_of(graph, SLOW_LINK)
    kept = search.kept.timeline
    room = kept.device_bytes - kept.caller_bytes
    found = search.find(kept.caller_bytes + room // 2)
    assert found.fits
    extra = found.draft.timeline.seconds / kept.seconds - 1
    assert extra < 0.6 * (4 / 3 - 1)


@pytest.mark.parametrize(
    ("wall", "worked", "expected"),
    [(30.0, 10.0, 3.0), (10.0, 10.0, 1.0), (5.0, 0.0, MOST_SLOWDOWN)],
)
def test_where_wall_time_is_limited_other_load_is_made_up_for(
    wall: float, worked: float, expected: float
) -> None:
    start = Instant(time.perf_counter() - wall, time.thread_time() - worked)
    assert start.slowdown() == pytest.approx(expected, rel=1e-2)
