"""Gaps between buffers are avoided where that does not cost much time."""

import pytest
from handmade import MIB, chain, rates
from scripted_search import (
    LIMIT,
    PLAIN,
    SWAP_RATE,
    FakeCompiler,
    FakeDraft,
    FakeSearch,
    Line,
    adds,
    draft_of,
    measured,
    run,
)

from jaxswap._search.attempt import Refined, Task
from jaxswap._search.candidates import find_candidates
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Measured
from jaxswap._search.refine import FEW_GAPS, refine
from jaxswap._search.search import Search
from jaxswap._simulate.draft import Arranger

GAP = 40 * MIB


def slower(times: float) -> FakeSearch:
    """A search whose drafts have a gap, or take so many times as long without."""

    def answer(limits: Limits) -> FakeDraft:
        nbytes = limits.device_bytes
        if limits.with_gaps:
            return FakeDraft(Line(nbytes, times))
        return FakeDraft(Line(nbytes, 1.0), fragmented_bytes=GAP)

    return FakeSearch(answer)


def leaves_gaps(count: int, draft: FakeDraft) -> Measured:
    """A program with the gaps that are expected of it."""
    gaps = draft.fragmented_bytes
    return measured(draft.timeline.device_bytes + gaps, fragmented_bytes=gaps)


@pytest.mark.parametrize(
    ("times", "with_gaps"), [(FEW_GAPS, True), (FEW_GAPS + 0.01, False)]
)
def test_a_draft_without_gaps_is_taken_if_it_is_not_much_slower(
    times: float, with_gaps: bool
) -> None:
    search, compiler = slower(times), FakeCompiler(adds(GAP // 2))
    run(search, compiler)
    assert (compiler.drafts[0].fragmented_bytes == 0) == with_gaps
    assert [call.limits.with_gaps for call in search.calls[:2]] == [False, True]
    assert search.calls[2].limits.with_gaps == with_gaps


def test_after_a_second_failure_gaps_are_not_avoided_any_more() -> None:
    search = slower(1.0)
    unexpected = adds(2 * GAP, fragmented_bytes=2 * GAP)
    run(search, FakeCompiler(unexpected), most=6)
    found = [call.limits.with_gaps for call in search.calls[1:]]
    assert found[:3] == [True, True, False]


def test_gaps_that_were_as_expected_are_avoided_after_a_failure() -> None:
    """They had been put up with, since drafts without them take much longer."""
    search, compiler = slower(FEW_GAPS + 0.5), FakeCompiler(leaves_gaps)
    refined = run(search, compiler)
    assert refined.fits
    assert [draft.fragmented_bytes for draft in compiler.drafts[:2]] == [GAP, 0]


def test_gaps_count_where_the_least_memory_is_looked_for() -> None:
    """No draft fits by the simulation. All need as much, and one leaves no gaps."""

    def answer(limits: Limits) -> FakeDraft:
        gaps = 0 if limits.with_gaps and limits.aim is not Aim.FASTEST else GAP
        return FakeDraft(Line(LIMIT + 1, 1.0), fragmented_bytes=gaps)

    compiler = FakeCompiler(leaves_gaps)
    refined = run(FakeSearch(answer), compiler)
    assert not refined.fits
    assert refined.device_bytes == LIMIT + 1
    assert [draft.fragmented_bytes for draft in compiler.drafts] == [GAP, 0]


def test_for_the_smallest_program_gaps_count_every_other_time() -> None:
    search = FakeSearch(lambda limits: draft_of(LIMIT - len(search.calls)))
    run(search, FakeCompiler(leaves_gaps), limit=0, most=5)
    found = [call.limits.with_gaps for call in search.calls]
    assert found == [False, True, False, True, False]


def test_a_budget_that_the_smallest_plan_meets_is_not_refused() -> None:
    graph = chain(8)
    arranger = Arranger(graph, rates(link=1e9), MIB)
    candidates = find_candidates(graph, arranger.simulator.fusion, MIB)

    def refined(limits: Limits) -> Refined:
        programs = Programs([Search(arranger, candidates)])
        task = Task(limits, 4, 0.3, SWAP_RATE, PLAIN)
        return refine(programs, FakeCompiler(leaves_gaps), task, lambda line: None)

    least = refined(Limits.smallest(None))
    within = refined(Limits(least.device_bytes))
    assert within.fits
    assert within.device_bytes <= least.device_bytes
    below = refined(Limits(least.device_bytes - 1))
    assert not below.fits
    assert below.device_bytes <= 1.03 * least.device_bytes


def test_without_a_compiler_gaps_do_not_count() -> None:
    assert run(slower(1.0), None).draft.fragmented_bytes == GAP


def test_a_draft_without_gaps_is_not_searched_for_again() -> None:
    search = FakeSearch()
    run(search, FakeCompiler(adds(0)))
    assert len(search.calls) == 1


def test_gaps_that_were_expected_are_not_taken_off_the_limit_again() -> None:
    """The program needs what was simulated, and the gap, and a little more."""

    def answer(limits: Limits) -> FakeDraft:
        nbytes = limits.device_bytes - GAP if limits.with_gaps else limits.device_bytes
        return FakeDraft(Line(nbytes, 1.0), fragmented_bytes=GAP)

    more = 10 * MIB
    search = FakeSearch(answer)
    compiler = FakeCompiler(adds(GAP + more, fragmented_bytes=GAP))
    refined = run(search, compiler)
    assert refined.fits
    assert len(compiler.drafts) == 2
    assert LIMIT - 2 * more <= search.calls[-1].room <= LIMIT
