"""The search finds the optimum of small programs, and good plans of larger ones."""

import dataclasses
import functools
import gc
import itertools
import time
from typing import Any

import pytest
from brute_force import brute_force
from handmade import chain
from handmade_plans import H100, SLOW_LINK, busy
from random_programs import LIMITS, Case, random_case

from jaxswap._graph.graph import Action
from jaxswap._request import search_of
from jaxswap._search import exact, wander
from jaxswap._search import search as search_module
from jaxswap._search.lessons import Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.search import Found, Search
from jaxswap._sketch import sketch

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
        found = search.find(Limits(limit), seconds=3.0)
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
            found = search.find(Limits(limit), seconds=0.5)
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
    found = case.search().find(Limits(case.kept_bytes))
    assert found.fits
    assert not found.draft.swaps
    assert Action.OFFLOAD not in found.draft.actions


def test_what_fits_nowhere_comes_back_as_small_as_can_be() -> None:
    case = small(2, 5) or random_case(2, 5)
    (optimum,) = brute_force(case, [0])
    found = case.search().find(Limits.smallest(None), seconds=2.0)
    assert not found.fits
    assert found.draft.timeline.device_bytes <= 1.05 * optimum.smallest_bytes


@functools.cache
def swapping_seed() -> int:
    for seed in range(60):
        case = random_case(seed, 4)
        found = case.search().find(Limits(case.limit(0.8)), seconds=1.0)
        if found.fits and found.draft.swaps:
            return seed
    raise AssertionError("no program swaps")


def swapping_case() -> tuple[Search, Limits]:
    """The search of a program whose best plan swaps, and the limits of that."""
    case = random_case(swapping_seed(), 4)
    return case.search(), Limits(case.limit(0.8))


def test_grounded_values_stay_on_the_device() -> None:
    search, limits = swapping_case()
    found = search.find(limits, seconds=1.0)
    lessons = Lessons(grounded=frozenset(swap.value for swap in found.draft.swaps))
    again = search.find(limits, lessons, seconds=1.0)
    assert not {s.value for s in again.draft.swaps} & lessons.grounded


def test_a_search_can_begin_anew() -> None:
    case = random_case(1, 4)
    search = case.search()
    search.find(Limits(case.limit(0.5)), seconds=0.3)
    assert list(search.front)
    search.forget()
    assert not list(search.front)


def test_what_was_refused_is_not_found_again() -> None:
    search, limits = swapping_case()
    first = search.find(limits, seconds=1.0).draft
    again = search.find(
        limits, Lessons(refused=frozenset({first.actions})), seconds=1.0
    )
    assert again.draft.actions != first.actions


def test_host_memory_is_limited_too() -> None:
    search, limits = swapping_case()
    free = search.find(limits, seconds=1.0).draft.timeline.host_bytes
    less = dataclasses.replace(limits, host_bytes=free // 2)
    found = search.find(less, seconds=1.0)
    assert not found.fits or found.draft.timeline.host_bytes <= free // 2
    enough = dataclasses.replace(limits, host_bytes=free)
    assert search.find(enough, seconds=1.0).fits


def test_where_a_plan_is_slow_drafts_that_swap_nothing_are_searched_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = search_of(busy(chain(13)), SLOW_LINK)
    assert not search.exact.is_small
    kept = search.kept.timeline
    limit = kept.caller_bytes + (kept.device_bytes - kept.caller_bytes) // 2
    swapless = search.find(Limits(limit, 0), seconds=1.0)
    assert swapless.fits
    assert not swapless.draft.swaps
    asked: list[int | None] = []
    original = Search._search

    def noted(self: Search, limits: Limits, *more: Any) -> float:
        asked.append(limits.host_bytes)
        return original(self, limits, *more)

    monkeypatch.setattr(Search, "_search", noted)
    again = search_of(busy(chain(13)), SLOW_LINK)
    found = again.find(Limits(limit), seconds=1.0)
    assert asked == [None, 0, 0, 0]
    assert found.draft.timeline.seconds <= 1.01 * swapless.draft.timeline.seconds


def test_more_memory_never_makes_a_plan_slower() -> None:
    search = search_of(busy(chain(16)), H100)
    kept = search.kept.timeline
    room = kept.device_bytes - kept.caller_bytes
    small = search.find(Limits(kept.caller_bytes + int(0.4 * room)), seconds=0.3)
    large = search.find(Limits(kept.caller_bytes + int(0.6 * room)), seconds=0.0)
    assert small.fits
    assert large.fits
    assert large.draft.timeline.seconds <= small.draft.timeline.seconds


def test_values_that_must_come_back_early_are_laid_out_anew() -> None:
    search, limits = swapping_case()
    first = search.find(limits, seconds=1.0).draft
    lessons = Lessons(eager=frozenset(swap.value for swap in first.swaps))
    assert search.find(limits, lessons, seconds=1.0).draft is not first
    assert first not in search.front


def test_a_search_leaves_garbage_collection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It belongs to the whole process, and other threads go on meanwhile."""
    search, limits = swapping_case()
    seen: list[bool] = []
    original = search.sketcher.sketch

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(gc.isenabled())
        return original(*args, **kwargs)

    monkeypatch.setattr(search.sketcher, "sketch", noted)
    search.find(limits, seconds=0.2)
    assert seen
    assert all(seen)


@pytest.mark.parametrize("layers", [3, 13])
def test_a_search_finds_the_same_whatever_the_clocks_say(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> Found:
        search = search_of(busy(chain(layers)), SLOW_LINK)
        return search.find(
            Limits(search.kept.timeline.device_bytes * 3 // 4), seconds=0.3
        )

    first = find()
    readings = itertools.count()
    for clock in ("monotonic", "perf_counter", "thread_time", "process_time", "time"):
        monkeypatch.setattr(time, clock, lambda: 0.01 * next(readings))
    again = find()
    assert next(readings)
    assert first.draft.actions == again.draft.actions
    assert first.draft.swaps == again.draft.swaps


@pytest.mark.parametrize("layers", [9, 13])
def test_with_and_without_a_compiler_the_same_is_found(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> tuple[Found, int]:
        search = search_of(busy(chain(layers)), SLOW_LINK)
        limits = Limits(search.kept.timeline.device_bytes * 3 // 5)
        return search.find(limits, seconds=0.01), search.count()

    first, first_count = find()
    monkeypatch.setattr(sketch, "library", lambda: None)
    again, count = find()
    assert count == first_count
    assert first.draft.actions == again.draft.actions
    assert first.draft.swaps == again.draft.swaps
    assert first.draft.timeline.seconds == again.draft.timeline.seconds


def test_a_search_that_takes_too_long_says_that_the_clock_stopped_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "MOST_SECONDS", -1.0)
    search = search_of(busy(chain(13)), SLOW_LINK)
    search.find(Limits(search.kept.timeline.device_bytes * 3 // 4))
    assert search.is_cut_short


def test_a_draft_can_be_laid_out_again_without_a_search() -> None:
    search, limits = swapping_case()
    draft = search.find(limits, seconds=1.0).draft
    count = search.count()
    again = search.lay_out_again(draft, limits, Lessons())
    assert again.draft.actions == draft.actions
    assert search.count() <= count + 2


@pytest.mark.parametrize("layers", [13, 40])
def test_half_the_memory_costs_half_of_what_it_costs_to_recompute_all(
    layers: int,
) -> None:
    search = search_of(busy(chain(layers)), SLOW_LINK)
    assert not search.exact.is_small
    kept = search.kept.timeline
    room = kept.device_bytes - kept.caller_bytes
    found = search.find(Limits(kept.caller_bytes + room // 2), seconds=1.0)
    assert found.fits
    extra = found.draft.timeline.seconds / kept.seconds - 1
    assert extra < 0.6 * (4 / 3 - 1)


def test_a_deep_program_needs_less_memory_if_recomputations_are_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def least() -> Found:
        search = search_of(busy(chain(16)), SLOW_LINK)
        return search.find(Limits.smallest(0), seconds=0.5)

    repeated = least()
    monkeypatch.setattr(search_module, "HOLDS", (0,))
    monkeypatch.setattr(wander, "HOLDS", (0,))
    once = least()
    assert repeated.draft.hold_for > 0
    ratio = repeated.draft.timeline.device_bytes / once.draft.timeline.device_bytes
    assert ratio < 0.9


def test_the_time_that_tracing_takes_is_not_searched_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = search_of(chain(13), H100)

    def drafts(equations: int, programs: int = 1) -> int:
        graph = dataclasses.replace(
            search.arranger.graph, equations=(None,) * equations
        )
        monkeypatch.setattr(search.arranger, "graph", graph)
        return search.drafts(2.0, programs)

    most, fewest = 2 * search_module.MOST, 2 * search_module.FEWEST
    assert drafts(100) == most
    assert drafts(5000) > 2 * drafts(7000) > 2 * fewest
    assert drafts(5000) == pytest.approx(2 * drafts(5000, programs=2), abs=2)
    assert drafts(9000) == drafts(90_000) == fewest


def test_where_gaps_are_of_no_interest_none_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> int:
        raise AssertionError("gaps were looked for")

    monkeypatch.setattr("jaxswap._simulate.draft.expected_gap_bytes", refused)
    search = search_of(busy(chain(16)), H100, expects_gaps=False)
    limits = Limits(search.kept.timeline.device_bytes // 2)
    found = search.find(limits, seconds=0.2)
    again = search.lay_out_again(found.draft, limits, Lessons())
    assert found.fits
    assert again.draft.actions == found.draft.actions
