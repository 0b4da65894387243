"""The function as JAX runs it is taken where it is better than what was found."""

import dataclasses

import pytest
from handmade import MIB
from scripted_search import (
    GRAPH,
    LIMIT,
    FakeCompiler,
    FakeDraft,
    FakeSearch,
    Line,
    draft_of,
    measured,
    run,
)

from jaxswap._graph.graph import Action
from jaxswap._search.refine import PLAIN

ELSEWHERE = dataclasses.replace(GRAPH)
SWAPPED = (Action.OFFLOAD,) * len(GRAPH.values)


def plain_of(nbytes: int, seconds: float = 0.5) -> FakeDraft:
    """The function as JAX runs it: a program that is not searched."""
    return dataclasses.replace(draft_of(nbytes, seconds), graph=ELSEWHERE)


def test_it_is_taken_if_it_fits_and_nothing_else_does() -> None:
    plain = plain_of(LIMIT + 100 * MIB, seconds=2.0)
    search = FakeSearch(lambda limits: draft_of(LIMIT + MIB), plain)
    compiler = FakeCompiler(
        lambda count, draft: measured(LIMIT if draft is plain else LIMIT + 200 * MIB)
    )
    lines: list[str] = []
    refined = run(search, compiler, lines=lines)
    assert refined.fits
    assert refined.draft is plain
    assert compiler.drafts[-1] is plain
    assert "compiling the function as JAX runs it" in lines
    assert refined.compiled is not None
    assert refined.compiled.compile_count == len(compiler.drafts)
    assert refined.compiled.predicted_device_bytes == LIMIT + 100 * MIB


def test_it_is_taken_if_it_is_faster_than_a_plan_of_another_program() -> None:
    plain = plain_of(LIMIT)
    compiler = FakeCompiler(lambda count, draft: measured(LIMIT))
    refined = run(FakeSearch(plain=plain), compiler)
    assert refined.draft is plain
    assert len(compiler.drafts) == 2


@pytest.mark.parametrize(
    "plain",
    [plain_of(LIMIT, seconds=1.0), plain_of(int(PLAIN * LIMIT) + 1), draft_of(LIMIT)],
    ids=["slower", "far too large", "searched already"],
)
def test_it_is_not_compiled_where_it_cannot_be_better(plain: FakeDraft) -> None:
    compiler = FakeCompiler(lambda count, draft: measured(LIMIT))
    refined = run(FakeSearch(plain=plain), compiler)
    assert refined.draft is not plain
    assert len(compiler.drafts) == 1


def test_the_plan_stays_if_the_function_as_jax_runs_it_does_not_fit() -> None:
    plain = plain_of(LIMIT)
    compiler = FakeCompiler(
        lambda count, draft: measured(LIMIT + (draft is plain) * MIB)
    )
    refined = run(FakeSearch(plain=plain), compiler)
    assert refined.fits
    assert refined.draft is not plain


def test_the_smaller_one_is_reported_if_none_fits() -> None:
    plain = plain_of(LIMIT)
    swapped = FakeDraft(Line(LIMIT + MIB, 1.0), SWAPPED)
    compiler = FakeCompiler(lambda count, draft: measured(LIMIT + 10 * MIB))
    refined = run(FakeSearch(lambda limits: swapped, plain), compiler, most=2)
    assert not refined.fits
    assert refined.draft is plain  # As large, and faster.


def test_without_a_compiler_its_simulation_is_believed() -> None:
    plain = plain_of(LIMIT)
    search = FakeSearch(lambda limits: draft_of(LIMIT + MIB), plain)
    assert run(search, None).draft is plain
    larger = plain_of(LIMIT + 2 * MIB)
    search = FakeSearch(lambda limits: draft_of(LIMIT + MIB), larger)
    assert run(search, None).draft is not larger
