"""The least memory, then what is faster and needs hardly more."""

from handmade import MIB
from scripted_search import (
    PLAIN,
    SWAP_RATE,
    FakeCompiler,
    FakeDraft,
    FakeSearch,
    adds,
    draft_of,
)

from jaxswap._search.attempt import Refined, Task
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.smallest import find_smallest

SLOW, FAST = 4.0, 1.2


def found(search: FakeSearch, compiler: FakeCompiler | None, most: int) -> Refined:
    task = Task(Limits.smallest(None), most, 2.5, SWAP_RATE, PLAIN)
    return find_smallest(search, compiler, task, lambda line: None)  # type: ignore[arg-type]


def searching(fast_bytes: int) -> FakeSearch:
    """Each draft for the least memory is another one, of 500 MiB and a bit."""

    def answer(limits: Limits) -> FakeDraft:
        if limits.aim is Aim.FASTEST:
            return draft_of(fast_bytes, FAST)
        return draft_of(500 * MIB + len(search.calls), SLOW)

    search = FakeSearch(answer)
    return search


def test_of_plans_that_need_hardly_more_the_fastest_is_taken() -> None:
    compiler = FakeCompiler(adds(0))
    refined = found(searching(504 * MIB), compiler, most=4)
    assert refined.seconds == FAST
    assert refined.compiled is not None
    assert refined.compiled.compile_count == len(compiler.drafts) == 4


def test_no_more_programs_are_compiled_than_allowed() -> None:
    """The first one is the smallest. The fast ones do not fit."""
    compiler = FakeCompiler(lambda count, draft: adds(count * MIB)(count, draft))
    for most in (1, 2, 4, 8):
        compiler.drafts.clear()
        refined = found(searching(505 * MIB), compiler, most)
        assert len(compiler.drafts) <= most
        assert refined.draft is compiler.drafts[0]


def test_what_needs_more_than_that_is_not_taken() -> None:
    assert found(searching(506 * MIB), FakeCompiler(adds(0)), most=8).seconds == SLOW


def test_without_a_compiler_the_simulation_decides() -> None:
    refined = found(searching(504 * MIB), None, most=8)
    assert (refined.seconds, refined.compiled) == (FAST, None)
