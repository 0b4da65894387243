"""Plans may be few: how far one is from the next that is tried."""

import dataclasses

from handmade import MIB
from scripted_search import LIMIT, FakeCompiler, FakeDraft, FakeSearch, draft_of, run
from scripted_search import measured as measured_as

from jaxswap._search.limits import Limits
from jaxswap._search.measured import Measured

SLOW, MIDDLE, FAST = (
    dataclasses.replace(draft_of(size * MIB, seconds))
    for size, seconds in ((700, 3.0), (1000, 2.0), (1150, 1.0))
)


def largest(limits: Limits) -> FakeDraft:
    """Fill the room as far as one of the three plans does."""
    within = [d for d in (MIDDLE, FAST) if size_of(d) <= limits.device_bytes]
    return within[-1] if within else SLOW


def size_of(draft: FakeDraft) -> int:
    return draft.timeline.device_bytes


def programs(sizes: dict[FakeDraft, int]) -> FakeCompiler:
    def program(count: int, draft: FakeDraft) -> Measured:
        return measured_as(sizes[draft] * MIB)

    return FakeCompiler(program)


def test_a_plan_between_is_found() -> None:
    search = FakeSearch(largest)
    compiler = programs({SLOW: 350, FAST: 1000, MIDDLE: 790})
    refined = run(search, compiler)
    assert compiler.drafts == [SLOW, FAST, MIDDLE]
    assert refined.draft is MIDDLE
    assert refined.fits
    rooms = [call.room for call in search.calls]
    assert rooms[3] == (rooms[2] + size_of(FAST)) // 2 > rooms[2]


def test_where_nothing_is_between_the_search_ends() -> None:
    search = FakeSearch(lambda limits: FAST if largest(limits) is FAST else SLOW)
    compiler = programs({SLOW: 350, FAST: 1000})
    refined = run(search, compiler)
    assert compiler.drafts == [SLOW, FAST]
    assert refined.draft is SLOW
    rooms = [call.room for call in search.calls]
    assert 3 < len(rooms) < 8
    assert rooms[2:] == sorted(rooms[2:])
    assert size_of(FAST) - rooms[-1] < 0.1 * LIMIT


def test_steps_grow_while_programs_stay_a_little_too_large() -> None:
    """All plans compile to as many bytes, but those 6 MiB below the limit."""
    search, few = FakeSearch(), MIB // 2
    compiler = FakeCompiler(
        lambda count, draft: measured_as(
            LIMIT + few if size_of(draft) > LIMIT - 6 * MIB else LIMIT
        )
    )
    assert run(search, compiler, most=10).fits
    assert [LIMIT - call.room for call in search.calls] == [
        few * halves for halves in (0, 2, 4, 8, 16)
    ]
