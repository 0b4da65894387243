"""Drafts in C are those of the readable simulation, to the last bit."""

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_programs

from benchmarks.programs import TINY
from jaxswap._gpu.target import built_in_target, rates_of
from jaxswap._graph.compress import COMPRESSIONS
from jaxswap._graph.graph import Action, Graph
from jaxswap._graph.pieces import Pieces, axis_of
from jaxswap._run.loss import loss_source
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.timing import Distance, Timing
from jaxswap._search.best import HOLDS
from jaxswap._search.candidates import find_candidates
from jaxswap._search.ways import WAYS
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch import sketch as sketch_module
from jaxswap._sketch.library import library
from jaxswap._sketch.sketch import (
    Sketch,
    Sketcher,
    actions_of_codes,
    codes,
    entries_of,
    sketch_of,
)
from jaxswap._slabs.slabs import Slabs

PROGRAMS = 100
SCHEDULES = 20
REAL = ("mlp", "resnet50-512", "transformer-unrolled", "unet3d-192-bf16")
REAL += ("transformer-scanned",)


def compare(arranger: Arranger, rng: random.Random, schedules: int) -> None:
    """Lay out random actions in both ways, and hold all numbers against each other."""
    if library() is None:
        pytest.skip("there is no C compiler here")
    fusion = arranger.simulator.fusion
    candidates = find_candidates(arranger.graph, fusion, arranger.large_bytes)
    sketcher = Sketcher(arranger)
    kept_bytes = arranger.arrange(candidates.fixed, 0).timeline.device_bytes
    for _ in range(schedules):
        weights = [rng.random() for _ in Action]
        actions = list(candidates.fixed)
        for v in (*candidates.forward, *candidates.backward):
            (actions[v],) = rng.choices(list(Action), weights)
        if rng.random() < 0.3:  # Also what a search would never ask for.
            actions = [rng.choice([a, *Action]) for a in actions]
        eager = [v for v in candidates.forward if rng.random() < 0.2]
        limit = int(kept_bytes * rng.random())
        options = {
            "patience": rng.choice([1.0, 0.3]),
            "eager": frozenset(eager),
            "hold_for": rng.choice(HOLDS),
            "in_place": rng.random() < 0.7,
        }
        draft = arranger.arrange(actions, limit, **options)
        found = sketcher.sketch(codes(actions), limit, **options)
        assert_equal(sketcher, found, draft)
        again = sketcher.draft(codes(actions), limit, **options)
        assert (again.swaps, again.schedule) == (draft.swaps, draft.schedule)
        decision = Decision(tuple(actions), random_timing(rng))
        draft = arranger.follow(decision)
        assert_equal(sketcher, sketcher.follow(decision), draft)


def random_timing(rng: random.Random) -> Timing:
    """Distances as a policy may choose them."""
    return Timing(
        distance=rng.choice(list(Distance)),
        swapout_threshold=rng.choice([1, 2, 5, 30]),
        swapin_ahead=rng.choice([1, 2, 9]),
        swapin_groupby=rng.choice([0, 2, 7]),
        sync_swapout=rng.random() < 0.3,
        sync_swapin=rng.random() < 0.3,
        min_bytes=rng.choice([1, 1 << 10, 1 << 20]),
        swap_cotangents=rng.random() < 0.5,
        copies_in_flight=rng.choice([1, 2, 1 << 20]),
        is_forced=rng.random() < 0.3,
    )


def assert_equal(sketcher: Sketcher, found: Sketch, draft: Draft) -> None:
    """Hold all numbers of the last sketch against those of a draft."""
    timeline = draft.timeline
    assert np.array_equal(sketcher.last_bytes_at(), timeline.device_bytes_at)
    assert found.device_bytes == timeline.device_bytes
    assert found.host_bytes == timeline.host_bytes
    assert found.fragmented_bytes == draft.fragmented_bytes
    assert found.seconds == timeline.seconds
    entries, wanted_entries = sketcher.last_entries(), entries_of(draft)
    for name in ("equations", "is_recomputed", "device_bytes"):
        assert np.array_equal(getattr(entries, name), getattr(wanted_entries, name))
    wanted = sketch_of(draft)
    assert found.crowd == wanted.crowd
    assert np.array_equal(found.is_alive, wanted.is_alive)
    assert np.array_equal(found.cost_seconds, wanted.cost_seconds)


@pytest.mark.parametrize("first", range(0, PROGRAMS, 50))
def test_random_programs_take_the_same_in_both(first: int) -> None:
    for seed in range(first, first + 50):
        case = random_programs.random_case(seed, layers=3 + seed % 12)
        compare(case.arranger, random.Random(seed), SCHEDULES)


def test_narrowed_copies_take_the_same_in_both() -> None:
    case = random_programs.random_case(7, layers=9)
    for compress in COMPRESSIONS:
        graph = dataclasses.replace(case.arranger.graph, compress=compress)
        arranger = Arranger(graph, rates_of(built_in_target("h100")))
        compare(arranger, random.Random(7), SCHEDULES)


def test_sweeps_with_windows_take_the_same_in_both() -> None:
    def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
        for _ in range(3):
            x = jax.lax.conv_general_dilated(
                x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
            )
            x = jnp.tanh(x - x.mean(1, keepdims=True))
        return jnp.sum(x)

    args = (jnp.ones((3, 4, 4)), jnp.ones((1, 1 << 14, 4)))
    slabs = Slabs(count=4, swapped=3)
    graph = loss_source(loss, args, {}, 0, False).cut(slabs).traced(WAYS[0]).graph
    arranger = Arranger(graph, rates_of(built_in_target("h100")))
    compare(arranger, random.Random(2), SCHEDULES)
    kept = [Action.KEEP] * len(graph.values)
    timeline = arranger.arrange(kept, 0).timeline
    there = [v.host_nbytes for v in graph.values if v.host_nbytes]
    assert len(there) == 3
    assert max(there) < timeline.host_bytes <= sum(there)
    assert not timeline.host_bytes_at[-1]


@pytest.mark.parametrize("name", REAL)
def test_real_programs_take_the_same_in_both(name: str) -> None:
    loss, args = TINY[name]()
    source = loss_source(loss, args, {}, 0, False)
    for way in (WAYS[0], WAYS[-1]):
        graph: Graph = source.traced(way).graph
        arranger = Arranger(graph, rates_of(built_in_target("h100")))
        compare(arranger, random.Random(1), 8)


@pytest.mark.parametrize("name", REAL)
def test_values_in_pieces_take_the_same_in_both(name: str) -> None:
    loss, args = TINY[name]()
    source, rng = loss_source(loss, args, {}, 0, False), random.Random(4)
    whole = source.traced(WAYS[0]).graph
    fusion = Arranger(whole, rates_of(built_in_target("h100"))).simulator.fusion
    pieces = [
        Pieces(v, axis, 2)
        for v in find_candidates(whole, fusion, 1).forward
        if (axis := axis_of(whole.values[v].shape, 2)) is not None
    ]
    graph = source.cut(None, tuple(pieces)).traced(WAYS[0]).graph
    assert len(graph.values) == len(whole.values) + 2 * len(pieces)
    arranger = Arranger(graph, rates_of(built_in_target("h100")))
    compare(arranger, rng, SCHEDULES)


def test_without_a_compiler_the_readable_simulation_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = random_programs.random_case(3, 8)
    actions = codes([Action.OFFLOAD] * len(case.graph.values))
    monkeypatch.setattr(sketch_module, "library", lambda: None)
    found = Sketcher(case.arranger).sketch(actions, 0)
    timeline = case.arranger.arrange(actions_of_codes(actions), 0).timeline
    assert (found.seconds, found.device_bytes) == (
        timeline.seconds,
        timeline.device_bytes,
    )


@pytest.mark.parametrize("has_compiler", [True, False])
def test_gaps_are_found_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, has_compiler: bool
) -> None:
    case = random_programs.random_case(8, layers=9)
    swapped = codes([Action.OFFLOAD] * len(case.graph.values))
    if not has_compiler:
        monkeypatch.setattr(sketch_module, "library", lambda: None)
    asked, other = (
        Sketcher(case.arranger, expects_gaps=expects).sketch(swapped, 0)
        for expects in (True, False)
    )
    assert asked.fragmented_bytes > 0
    assert other.fragmented_bytes == 0
    assert (asked.device_bytes, asked.seconds) == (other.device_bytes, other.seconds)
