"""What is searched for after a program was compiled, which fits or does not."""

import itertools

from handmade import MIB
from scripted_search import (
    LIMIT,
    FakeCompiler,
    FakeSearch,
    adds,
    draft_of,
    exposes,
    inverse,
    measured,
    run,
)

from jaxswap._search.attempt import IMPROVED


def test_no_more_than_the_least_correction_is_taken_off() -> None:
    """Gaps between buffers vary from plan to plan."""
    added = itertools.chain([40 * MIB, 120 * MIB], itertools.repeat(40 * MIB))
    search = FakeSearch()
    compiler = FakeCompiler(
        lambda count, draft: measured(draft.timeline.device_bytes + next(added))
    )
    assert run(search, compiler, most=8).fits
    rooms = [call.room for call in search.calls]
    assert LIMIT - 60 * MIB < rooms[2] <= LIMIT - 40 * MIB


def test_one_step_is_large_before_only_the_smallest_program_is_left() -> None:
    """Gaps of a few MiB come and go. The smallest program would be far slower."""
    added = iter([10 * MIB, 40 * MIB, 60 * MIB, 70 * MIB])
    search = FakeSearch()
    compiler = FakeCompiler(
        lambda count, draft: measured(draft.timeline.device_bytes + next(added))
    )
    assert run(search, compiler, most=5).fits
    rooms = [call.room for call in search.calls]
    assert all(room > 0.94 * LIMIT for room in rooms[:3])
    assert rooms[3:] == [LIMIT * 7 // 8]
    assert search.forgotten_after is None


def test_a_plan_much_slower_than_one_that_did_not_fit_is_improved() -> None:
    """The gap of the first program is a large one. The second needs much less."""
    added = itertools.chain([LIMIT // 4], itertools.repeat(0))
    search = FakeSearch(inverse)
    compiler = FakeCompiler(
        lambda count, draft: measured(draft.timeline.device_bytes + next(added))
    )
    refined = run(search, compiler)
    assert refined.fits
    assert refined.draft is compiler.drafts[-1]
    rooms = [call.room for call in search.calls]
    assert rooms[0] == LIMIT
    assert rooms[1] < 0.76 * LIMIT
    assert rooms[2] == (rooms[1] + LIMIT) // 2
    assert refined.draft.timeline.device_bytes > 0.9 * LIMIT


def test_gaps_between_arrays_are_not_expected_of_the_next_program() -> None:
    search = FakeSearch()
    gaps = adds(100 * MIB, fragmented_bytes=90 * MIB)
    compiler = FakeCompiler(
        lambda count, draft: (
            gaps(count, draft) if count == 1 else adds(10 * MIB)(2, draft)
        )
    )
    refined = run(search, compiler)
    assert refined.fits
    assert refined.correction_bytes == 10 * MIB
    assert LIMIT - 20 * MIB < search.calls[1].room < LIMIT - 10 * MIB


def test_gaps_between_arrays_are_expected_after_the_second_failure() -> None:
    search = FakeSearch()
    compiler = FakeCompiler(adds(100 * MIB, fragmented_bytes=90 * MIB))
    assert run(search, compiler).fits
    assert len(compiler.drafts) == 3
    assert search.calls[2].room < LIMIT - 100 * MIB


def test_room_shrinks_after_a_failure_though_the_program_needed_less() -> None:
    """What it needed too much are gaps; without, it needs less than simulated."""
    search = FakeSearch()
    run(search, FakeCompiler(adds(10 * MIB, fragmented_bytes=30 * MIB)))
    assert search.calls[1].room < LIMIT


def test_no_more_is_left_free_than_was_missing() -> None:
    search = FakeSearch()
    assert run(search, FakeCompiler(adds(1 * MIB))).fits
    assert search.calls[1].room == LIMIT - 2 * MIB


def test_a_plan_as_fast_as_plain_is_not_improved() -> None:
    near = FakeSearch(lambda limits: draft_of(limits.device_bytes, 0.504))
    compiler = FakeCompiler(adds(-200 * MIB))
    assert run(near, compiler).fits
    assert len(compiler.drafts) == 1


def test_few_programs_follow_one_that_fits_and_nothing_is_searched_as_long() -> None:
    seconds = iter([4.0, 3.0, 2.0, 1.0])
    search = FakeSearch(lambda limits: draft_of(limits.device_bytes, next(seconds)))
    compiler = FakeCompiler(exposes([True], []))
    refined = run(search, compiler, most=8)
    assert len(compiler.drafts) == 1 + IMPROVED
    assert refined.draft is compiler.drafts[-1]
    assert [call.seconds for call in search.calls] == [2.5, 1.25, 1.25]


def test_a_program_that_does_not_fit_is_followed_by_one_half_way_to_what_fits() -> None:
    sizes = {1: LIMIT // 2, 2: LIMIT + 1, 3: LIMIT}
    search = FakeSearch(inverse)
    compiler = FakeCompiler(lambda count, draft: measured(sizes[count]))
    refined = run(search, compiler)
    assert refined.draft is compiler.drafts[2]
    rooms = [call.room for call in search.calls]
    assert rooms == [LIMIT, LIMIT * 3 // 2, LIMIT * 5 // 4]
