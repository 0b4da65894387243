"""Gaps between buffers are avoided where that does not cost much time."""

import pytest
from handmade import MIB
from scripted_search import (
    LIMIT,
    FakeCompiler,
    FakeDraft,
    FakeSearch,
    Line,
    adds,
    run,
)

from jaxswap._search.limits import Limits
from jaxswap._search.refine import FEW_GAPS

GAP = 40 * MIB


def slower(times: float) -> FakeSearch:
    """A search whose drafts have a gap, or take so many times as long without."""

    def answer(limits: Limits) -> FakeDraft:
        nbytes = limits.device_bytes
        if limits.with_gaps:
            return FakeDraft(Line(nbytes, times))
        return FakeDraft(Line(nbytes, 1.0), fragmented_bytes=GAP)

    return FakeSearch(answer)


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
