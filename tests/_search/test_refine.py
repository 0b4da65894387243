"""The loop of search and compiler, with a search and a compiler that follow a script.

Drafts of the scripted search need as many bytes as they are given room; what their
programs need, and which of their copies are exposed, each test says.
"""

from typing import Any

import pytest
from handmade import MIB, chain, rates, results_of
from handmade_plans import H100, busy
from scripted_search import (
    GRAPH,
    LABEL,
    LIMIT,
    PLAIN,
    SWAP_RATE,
    VALUE,
    Call,
    FakeCompiler,
    FakeDraft,
    FakeSearch,
    Line,
    adds,
    draft_of,
    exposes,
    inverse,
    measured,
    run,
)

from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action
from jaxswap._search.attempt import ENOUGH, Task
from jaxswap._search.candidates import find_candidates
from jaxswap._search.lessons import Lessons, likeness
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Measured
from jaxswap._search.refine import refine
from jaxswap._search.search import Search
from jaxswap._simulate.draft import Arranger


@pytest.mark.parametrize("fits", [True, False])
def test_without_a_compiler_the_simulation_is_believed(fits: bool) -> None:
    size = LIMIT if fits else LIMIT + 1
    search = FakeSearch(lambda limits: draft_of(size))
    refined = run(search, None, host=7)
    assert refined.fits is fits
    assert refined.compiled is None
    assert refined.correction_bytes == 0
    assert refined.bound_seconds == 0.5
    for_least = Call(Limits.smallest(7, is_own=False), Lessons(), 1.25)
    refusal = [] if fits else [for_least]
    assert search.calls == [Call(Limits(LIMIT, 7), Lessons(), 2.5), *refusal]


def test_good_prediction_needs_one_program() -> None:
    search, compiler = FakeSearch(), FakeCompiler(adds(-LIMIT // 50))
    refined = run(search, compiler)
    assert refined.fits
    assert len(compiler.drafts) == 1
    assert refined.draft is compiler.drafts[0]
    assert refined.compiled is not None
    assert refined.compiled.compile_count == 1
    assert refined.compiled.predicted_device_bytes == LIMIT
    assert refined.compiled.device_bytes == LIMIT - LIMIT // 50
    assert refined.correction_bytes == -(LIMIT // 50)


def test_what_programs_need_beyond_the_simulation_is_taken_off_the_limit() -> None:
    search, compiler = FakeSearch(), FakeCompiler(adds(100 * MIB))
    refined = run(search, compiler)
    assert refined.fits
    assert len(compiler.drafts) == 2
    assert search.calls[0].room == LIMIT
    assert LIMIT - 107 * MIB < search.calls[1].room < LIMIT - 100 * MIB
    assert refined.draft is compiler.drafts[1]
    assert refined.correction_bytes == 100 * MIB
    seen = refined.compiled
    assert seen is not None
    assert seen.compile_count == 2
    error = seen.device_bytes - seen.predicted_device_bytes
    assert abs(error) <= ENOUGH * seen.predicted_device_bytes
    assert seen.device_bytes <= LIMIT


def test_a_known_correction_counts_from_the_first_search_on() -> None:
    search, compiler = FakeSearch(), FakeCompiler(adds(100 * MIB))
    refined = run(search, compiler, known=100 * MIB)
    assert refined.fits
    assert [call.room for call in search.calls] == [LIMIT - 100 * MIB]
    assert refined.compiled is not None
    assert refined.compiled.predicted_device_bytes == LIMIT
    believed = run(FakeSearch(), None, known=100 * MIB)
    assert believed.correction_bytes == 100 * MIB


def test_memory_that_was_left_unused_is_planned_for_again() -> None:
    search = FakeSearch(inverse)
    compiler = FakeCompiler(adds(-200 * MIB))
    refined = run(search, compiler)
    assert [call.room for call in search.calls] == [LIMIT, LIMIT + 200 * MIB]
    assert refined.draft is compiler.drafts[1]  # the faster
    assert refined.fits


def test_a_faster_plan_that_does_not_fit_is_not_taken() -> None:
    sizes = {1: LIMIT // 2, 2: LIMIT + 1}
    search = FakeSearch(inverse)
    compiler = FakeCompiler(lambda count, draft: measured(sizes[count]))
    refined = run(search, compiler, most=2)
    assert refined.fits
    assert refined.draft is compiler.drafts[0]


def test_where_nothing_fits_the_smallest_is_returned() -> None:
    sizes = [1300 * MIB, 1100 * MIB, 1200 * MIB, 1150 * MIB]
    compiler = FakeCompiler(lambda count, draft: measured(sizes[count - 1]))
    refined = run(FakeSearch(), compiler)
    assert not refined.fits
    assert len(compiler.drafts) == 4
    assert refined.draft is compiler.drafts[1]
    assert refined.compiled is not None
    assert refined.compiled.device_bytes == 1100 * MIB


def test_where_nothing_fits_the_least_without_policies_is_compiled_too() -> None:
    """A policy's draft is the smallest by the simulation, not by its program."""
    policy, least = draft_of(1050 * MIB), draft_of(1100 * MIB)
    search = FakeSearch(
        lambda limits: least if limits.aim is Aim.SMALLEST_OWN else policy
    )
    sizes = [1300 * MIB, 1110 * MIB]
    compiler = FakeCompiler(lambda count, draft: measured(sizes[count - 1]))
    refined = run(search, compiler)
    assert not refined.fits
    assert compiler.drafts == [policy, least]
    assert refined.draft is least
    assert refined.compiled is not None
    assert refined.compiled.device_bytes == 1110 * MIB


def test_what_was_seen_not_to_fit_is_not_planned_again() -> None:
    search, compiler = FakeSearch(), FakeCompiler(adds(100 * MIB))
    assert run(search, compiler).fits
    assert search.calls[1].lessons.refused == {compiler.drafts[0].actions}


def test_the_last_program_is_the_smallest_where_corrections_never_suffice() -> None:
    """Each program needs more than the one before it said it would."""
    search = FakeSearch(lambda limits: draft_of(max(limits.device_bytes, 300 * MIB)))
    compiler = FakeCompiler(
        lambda count, draft: measured(draft.timeline.device_bytes + 40 * MIB * count)
    )
    refined = run(search, compiler, most=3)
    assert refined.fits
    assert [draft.timeline.device_bytes // MIB for draft in compiler.drafts] == [
        800,
        753,
        300,
    ]
    assert refined.draft is compiler.drafts[2]
    assert search.forgotten_after == 2


def test_for_the_smallest_program_the_last_may_be_a_policys() -> None:
    search = FakeSearch(lambda limits: draft_of(300 * MIB - len(search.calls)))
    run(search, FakeCompiler(adds(100 * MIB)), limit=0, most=3)
    own, policies = Aim.SMALLEST_OWN, Aim.SMALLEST
    assert [call.limits.aim for call in search.calls] == [own, own, policies]
    assert search.forgotten_after is None


def test_the_last_program_is_the_smallest_where_no_other_can_fit() -> None:
    search = FakeSearch(lambda limits: draft_of(max(limits.device_bytes, 780 * MIB)))
    compiler = FakeCompiler(adds(100 * MIB))
    refined = run(search, compiler, most=3)
    assert not refined.fits
    assert len(compiler.drafts) == 2  # not the same once more
    assert compiler.drafts[-1].timeline.device_bytes == 780 * MIB
    assert refined.compiled is not None
    assert refined.compiled.device_bytes == 880 * MIB


@pytest.mark.parametrize("most", [1, 2, 4])
def test_no_more_programs_are_compiled_than_allowed(most: int) -> None:
    compiler = FakeCompiler(lambda count, draft: measured(2 * LIMIT + count))
    refined = run(FakeSearch(), compiler, most=most)
    assert len(compiler.drafts) == most
    assert not refined.fits


def test_the_same_draft_is_not_compiled_twice() -> None:
    only = draft_of(LIMIT)
    compiler = FakeCompiler(adds(100 * MIB))
    refined = run(FakeSearch(lambda limits: only), compiler)
    assert len(compiler.drafts) == 1
    assert not refined.fits
    assert refined.draft is only


def test_an_exposed_copy_is_asked_for_earlier_in_the_same_plan() -> None:
    search = FakeSearch()
    compiler = FakeCompiler(exposes([True, False], [LABEL]))
    refined = run(search, compiler)
    first, second = search.calls
    assert (first.lessons.eager, first.again) == (frozenset(), None)
    assert VALUE.index in second.lessons.eager
    labelled = {v.index for v in GRAPH.values if v.label == VALUE.label}
    assert second.lessons.eager == labelled
    assert second.lessons.grounded == frozenset()
    assert second.again is compiler.drafts[0]
    assert refined.draft is compiler.drafts[1]
    assert refined.compiled is not None
    assert refined.compiled.exposed_bytes == 0


def test_a_copy_that_stays_exposed_keeps_its_value_on_the_device() -> None:
    search = FakeSearch()
    compiler = FakeCompiler(exposes([True, True, False], [LABEL]))
    refined = run(search, compiler)
    first, second, third = search.calls
    assert not first.lessons.grounded
    assert not second.lessons.grounded
    assert VALUE.index in third.lessons.grounded
    assert third.again is None  # what leaves is chosen anew
    assert refined.draft is compiler.drafts[2]


def test_copies_of_a_plan_that_does_not_fit_are_not_asked_for_earlier() -> None:
    """To fit comes first, and drafts with copies that may be late are most of all."""
    labels = (LABEL,)
    exposed = adds(100 * MIB, swapped_bytes=9, exposed_bytes=9, exposed_returns=labels)
    search = FakeSearch()
    assert run(search, FakeCompiler(exposed), most=2).fits
    assert search.calls[1].again is None
    assert not search.calls[1].lessons.eager
    assert search.calls[1].room < LIMIT - 100 * MIB


def test_labels_that_no_value_has_are_passed_over() -> None:
    search = FakeSearch()
    run(search, FakeCompiler(exposes([True], ["no value's label"])), most=2)
    assert not search.calls[1].lessons.eager
    assert not search.calls[1].lessons.grounded


def test_few_exposed_bytes_are_put_up_with() -> None:
    labels = (LABEL,)
    few = adds(0, swapped_bytes=100, exposed_bytes=5, exposed_returns=labels)
    compiler = FakeCompiler(few)
    assert run(FakeSearch(), compiler).fits
    assert len(compiler.drafts) == 1


def test_a_plan_that_means_to_wait_may_expose_its_copies() -> None:
    waiting = Line(LIMIT, 1.0, stall_seconds=0.5)
    compiler = FakeCompiler(exposes([True], [LABEL]))
    run(FakeSearch(lambda limits: FakeDraft(waiting)), compiler)
    assert len(compiler.drafts) == 1


@pytest.mark.parametrize(("hidden_seconds", "best"), [(1.1, 1), (1.2, 0)])
def test_copies_that_nothing_hides_count_as_seconds(
    hidden_seconds: float, best: int
) -> None:
    """They take 50 bytes at 400 a second, an eighth of the first draft's second."""
    seconds = iter([1.0, hidden_seconds])
    search = FakeSearch(lambda limits: draft_of(limits.device_bytes, next(seconds)))
    compiler = FakeCompiler(exposes([True, False], [LABEL]))
    assert run(search, compiler, most=2).draft is compiler.drafts[best]


def test_pinned_host_memory_is_limited_too() -> None:
    def program(count: int, draft: FakeDraft) -> Measured:
        return measured(draft.timeline.device_bytes, host_bytes=20 - 6 * count)

    # The first program holds 14 bytes on the host, the second 8.
    once = run(FakeSearch(), FakeCompiler(program), host=10, most=1)
    assert not once.fits
    twice = run(FakeSearch(), FakeCompiler(program), host=10, most=2)
    assert twice.fits
    assert twice.compiled is not None
    assert twice.compiled.host_bytes == 8


def test_for_the_smallest_program_no_host_memory_beyond_the_limit_is_taken() -> None:
    def program(count: int, draft: FakeDraft) -> Measured:
        # The first program is the smaller one on the device.
        return measured((5 + count) * MIB, host_bytes=20 if count == 1 else 0)

    sizes = iter([5, 6, 7, 8])
    search: Any = FakeSearch(lambda limits: draft_of(next(sizes) * MIB))
    task = Task(Limits.smallest(0), 2, 2.5, SWAP_RATE, PLAIN)
    found = refine(search, FakeCompiler(program), task, lambda line: None)
    assert found.compiled is not None
    assert found.compiled.host_bytes == 0


def test_progress_is_told_line_by_line() -> None:
    lines: list[str] = []
    run(FakeSearch(), FakeCompiler(adds(100 * MIB)), lines=lines)
    assert lines[:4] == [
        "planning for 800 MiB",
        "compiling a plan of 800 MiB predicted",
        "compiled: 900 MiB",
        "planning for 694 MiB",
    ]
    assert len(lines) == 6
    lines.clear()
    run(FakeSearch(), FakeCompiler(adds(0)), limit=0, known=5, most=1, lines=lines)
    assert lines[0] == "planning for the least"


def test_a_real_search_leaves_room_for_what_the_compiler_adds() -> None:
    graph = chain(3)
    arranger = Arranger(graph, rates(link=1e12), MIB)
    fusion = arranger.simulator.fusion
    search = Search(arranger, find_candidates(graph, fusion, MIB))
    kept = search.kept.timeline.device_bytes
    limit = int(0.9 * kept)
    added = int(0.08 * kept)
    compiler = FakeCompiler(adds(added))
    task = Task(Limits(limit), 4, 2.0, SWAP_RATE, PLAIN)
    refined = refine(Programs([search]), compiler, task, lambda line: None)
    assert refined.fits
    assert refined.compiled is not None
    assert refined.compiled.device_bytes <= limit
    assert refined.correction_bytes == added
    assert refined.draft.timeline.device_bytes <= limit - added
    assert refined.bound_seconds <= refined.draft.timeline.seconds


def test_corrections_count_for_programs_that_do_the_same() -> None:
    graph = busy(chain(4))
    arranger = Arranger(graph, rates_of(H100), MIB)
    keep = [Action.KEEP] * len(graph.values)
    tanh = results_of(graph, "tanh")
    other = list(keep)
    other[tanh[0]] = Action.RECOMPUTE
    first, second = arranger.draft(keep, ()), arranger.draft(other, ())
    assert likeness(first, first) == 1.0
    assert 0.8 < likeness(first, second) < 1.0
    elsewhere = Arranger(busy(chain(4)), rates_of(H100), MIB).draft(keep, ())
    assert likeness(first, elsewhere) == 0.0
