"""The choice among programs that run loops in different ways."""

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import MIB, chain
from handmade_plans import H100, SLOW_LINK, busy

import jaxswap
from jaxswap._base.units import parse_bytes
from jaxswap._graph.graph import Action, DecideLoop, Loop, Segment
from jaxswap._request import search_of
from jaxswap._schedule.issue import schedule_body
from jaxswap._search.lessons import Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.loops import MixedPrograms, Programs
from jaxswap._search.search import Found, Search
from jaxswap._search.ways import keep_all
from jaxswap._view.loop_rows import loop_rows_of

KEEP, OFFLOAD, RECOMPUTE = Action.KEEP, Action.OFFLOAD, Action.RECOMPUTE
Struct = jax.ShapeDtypeStruct


LEAST = Limits.smallest(None)


def programs() -> tuple[Programs, list[Search]]:
    """Programs of three sizes; the smaller, the slower."""
    graphs = [busy(chain(4, nbytes)) for nbytes in (128 * MIB, 64 * MIB, 16 * MIB)]
    searches = [search_of(graph, H100) for graph in graphs]
    for factor, search in enumerate(searches):
        timeline = search.kept.timeline
        slower = dataclasses.replace(timeline, seconds=timeline.seconds * 3**factor)
        search.kept = dataclasses.replace(search.kept, timeline=slower)
    return Programs(searches), searches


def test_the_fastest_program_that_fits_is_taken() -> None:
    found, searches = programs()
    enough = max(s.kept.timeline.device_bytes for s in searches)
    best = found.find(Limits(enough), seconds=0.5)
    assert best.fits
    assert best.program == 0
    assert best.draft.graph is found.searches[0].arranger.graph


def test_the_smallest_is_returned_if_nothing_fits() -> None:
    found, searches = programs()
    best = found.find(LEAST, seconds=0.5)
    assert not best.fits
    sizes = [s.find(LEAST, seconds=0.2).draft.timeline.device_bytes for s in searches]
    assert best.draft.timeline.device_bytes <= 1.1 * min(sizes)
    assert best.draft.graph is found.searches[best.program].arranger.graph


def test_a_draft_is_laid_out_again_in_its_own_program() -> None:
    found, _ = programs()
    best = found.find(LEAST, seconds=0.5)
    again = found.lay_out_again(best, LEAST, {})
    assert again.program == best.program
    assert again.draft.actions == best.draft.actions
    assert again.draft.graph is best.draft.graph


def test_lessons_reach_the_program_that_taught_them() -> None:
    found, searches = programs()
    everything = frozenset(range(len(searches[0].arranger.graph.values)))
    half = Limits(searches[0].kept.timeline.device_bytes // 2)
    free = found.find(half, seconds=0.5)
    assert free.draft.swaps
    bound = found.find(half, {free.program: Lessons(grounded=everything)}, seconds=0.5)
    assert bound.program != free.program or not bound.draft.swaps


def test_loops_that_swap_more_than_is_hidden_are_left_out() -> None:
    found, searches = programs()
    enough = Limits(max(s.kept.timeline.device_bytes for s in searches))
    first = found.find(enough, seconds=0.5)
    for search, nbytes in zip(found.searches, (9, 5, 0), strict=True):
        search.arranger.simulator.loop_host_bytes = nbytes
    lessons = {first.program: Lessons(is_exposed=True)}
    assert first.program == 0
    assert found.find(enough, lessons, seconds=0.5).program != 0
    lessons[1] = Lessons(is_exposed=True)
    assert found.find(enough, lessons, seconds=0.5).program == 2


def test_the_bound_is_that_of_the_programs_that_were_searched() -> None:
    """Not the seconds of keeping everything, which no plan below a limit reaches."""
    search = search_of(busy(chain(8)), SLOW_LINK)
    kept = search.kept.timeline
    room = kept.device_bytes - kept.caller_bytes
    limits = Limits(kept.caller_bytes + room // 3)
    alone = search.find(limits, seconds=1.0)
    assert alone.bound_seconds > 1.01 * kept.seconds
    together = Programs([search]).find(limits, seconds=1.0)
    assert together.bound_seconds == pytest.approx(alone.bound_seconds)


def test_all_programs_are_searched_anew_when_asked_for() -> None:
    found, searches = programs()
    found.find(Limits(searches[0].kept.timeline.device_bytes // 2), seconds=0.3)
    assert any(list(search.front) for search in searches)
    found.forget()
    assert not any(list(search.front) for search in searches)


def loss(weights: Any, x: Any) -> Any:
    def step(h: Any, w: Any) -> Any:
        return h + jnp.tanh(h @ w[0]) @ w[1], None

    return jnp.sum(jax.lax.scan(step, x, weights)[0] ** 2)


LAYERS = 24
WEIGHTS = (
    Struct((LAYERS, 1024, 4096), jnp.float32),
    Struct((LAYERS, 4096, 1024), jnp.float32),
)
ROWS = Struct((8192, 1024), jnp.float32)


def plan(budget: Any, **options: Any) -> jaxswap.Plan:
    options = {"compile": False, "progress": False} | options
    return jaxswap.plan(loss, WEIGHTS, ROWS, budget=budget, target="h100", **options)


def test_a_smaller_budget_stores_less_in_each_iteration() -> None:
    plain = plan(None).plain.device_bytes
    stored = []
    for budget in ("8GiB", "4GiB", "2.5GiB"):
        found = plan(budget)
        assert found.device_bytes <= parse_bytes(budget, "budget")
        (loop,) = found.loops
        assert found.plain.device_bytes == plain
        rows = loop_rows_of(found)
        stored.append(sum(row.nbytes for row in rows if row.action is KEEP))
        assert loop.graph.trip_count == LAYERS
    assert stored == sorted(stored, reverse=True)
    assert stored[-1] == 0


def test_plain_is_the_program_with_loops_left_to_jax_for_policies_too() -> None:
    by_policy = plan(None, policy=jaxswap.policies.FullRemat())
    assert by_policy.loops
    assert by_policy.plain.device_bytes == plan(None).plain.device_bytes
    assert by_policy.plain.seconds == plan(None).plain.seconds
    assert by_policy.all_kept.device_bytes < by_policy.plain.device_bytes


def test_a_plan_with_loops_is_followed_and_refused_elsewhere() -> None:
    found = plan("2.5GiB")
    swapped = jaxswap.offload(loss, plan=found)
    traced = str(jax.make_jaxpr(jax.grad(swapped))(WEIGHTS, ROWS))
    assert f"f32<host>[{LAYERS},8192,1024]" in traced
    other = Struct((LAYERS + 1, 1024, 4096), jnp.float32)
    longer = (other, Struct((LAYERS + 1, 4096, 1024), jnp.float32))
    with pytest.raises(ValueError, match="has no loop over"):
        jax.make_jaxpr(jax.grad(swapped))(longer, ROWS)


@pytest.mark.parametrize("share", [0.4, 0.55, 0.8, 0.95])
def test_a_loop_stores_what_fits_if_a_program_needs_more_than_expected(
    share: float,
) -> None:
    """Segments take memory of their own: less than what one iteration stores."""
    body = dataclasses.replace(
        busy(chain(4)), carried=(0,), handed_on=(-1,), trip_count=12
    )
    graph = dataclasses.replace(chain(2), loops=(Loop(body, keep_all(body)),))
    base = search_of(graph, H100)

    def stored(segment: Segment) -> int:
        values = schedule_body(body, segment.actions)[0].device_residuals
        return sum(body.values[v].nbytes for v in values if v not in body.arguments)

    most = stored(keep_all(body)[0])

    def make(decide: DecideLoop) -> Any:
        segments = decide(body)
        nbytes = sum(segment.count * stored(segment) for segment in segments)
        nbytes += (len(segments) - 1) * 9 * most // 10
        at = np.array([nbytes])
        timeline = dataclasses.replace(base.kept.timeline, device_bytes_at=at)
        kept = dataclasses.replace(base.kept, timeline=timeline)
        parts = {"arranger": base.arranger, "candidates": base.candidates}
        return SimpleNamespace(kept=kept, **parts)

    limit = int(12 * share * most)
    found = MixedPrograms(base, keep_all, make).searches(Limits(limit, 0))
    needed = [search.kept.timeline.device_bytes for search in found]
    assert max(n for n in needed if n <= limit) > limit - 2 * most


def test_the_report_tells_what_each_iteration_stores() -> None:
    found = plan("2.5GiB")
    text = str(found)
    assert f"in each of {LAYERS} iterations of loop 1" in text
    assert "offload    carry" in text
    rows = found.summary()["loops"]
    assert [row["action"] for row in rows if row["label"] == "carry"] == ["offload"]


@pytest.mark.slow
def test_a_planned_loop_needs_what_was_predicted_and_hides_its_copies() -> None:
    """Here XLA fuses a product with what follows, so it needs 10 % less."""
    found = plan("2.5GiB", compile=True)
    assert found.compiled is not None
    assert found.compiled.device_bytes <= 2.5 * 2**30
    predicted = found.compiled.predicted_device_bytes
    assert 0.95 <= predicted / found.compiled.device_bytes <= 1.1
    assert found.compiled.swapped_bytes > 0
    assert found.compiled.exposed_bytes == 0


def test_spare_programs_are_made_only_if_the_others_do_not_do() -> None:
    _, searches = programs()
    made: list[int] = []

    def make(at: int) -> list[Search]:
        made.append(at)
        return [searches[at]]

    spare = [functools.partial(make, at) for at in (1, 2)]
    together = Programs(searches[:1], spare=lambda: spare)
    sizes = [search.kept.timeline.device_bytes for search in searches]
    assert together.find(Limits(sizes[0]), seconds=0.2).program == 0
    assert made == []
    least = searches[0].find(LEAST, seconds=0.2).draft.timeline.device_bytes
    best = together.find(Limits(int(0.6 * least)), seconds=0.2)
    assert best.fits
    assert best.program > 0
    assert together.find(LEAST, seconds=0.2).program == together.searches.index(
        searches[2]
    )
    assert set(made) == {1, 2}


def test_a_spare_program_has_to_be_clearly_faster() -> None:
    _, searches = programs()

    def best(seconds: float) -> int:
        """Find among a slow program that fits and a spare one of these seconds."""
        first, spare = searches[0], searches[2]
        for search, took in ((first, 10.0), (spare, seconds)):
            timeline = dataclasses.replace(search.kept.timeline, seconds=took)
            search.kept = dataclasses.replace(search.kept, timeline=timeline)
            found = Found(search.kept, 0.0, fits=True)
            vars(search)["find"] = lambda *_, found=found, **__: found
        fast = dataclasses.replace(first.kept.timeline, seconds=1.0)
        plain = dataclasses.replace(first.kept, timeline=fast)
        together = Programs([first], plain, spare=lambda: [lambda: [spare]])
        return together.find(Limits(1 << 40)).program

    assert best(seconds=8.0) == 1
    assert best(seconds=9.5) == 0
