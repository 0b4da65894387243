"""How many iterations of each loop run in which way."""

import dataclasses

import pytest
from _search.test_ways import body
from handmade_plans import H100

from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action, Graph, Segment, alike
from jaxswap._search.mixtures import Mixture, Mixtures
from jaxswap._search.ways import Ways

RATES = rates_of(H100)


def loop(trip_count: int, depth: int = 4) -> Graph:
    return dataclasses.replace(body(depth), trip_count=trip_count)


def of(mixture: Mixture, graph: Graph) -> tuple[Segment, ...]:
    unknown = mixture.or_else(lambda body: alike(body, ()))
    return unknown(graph)


def stored(segment: Segment) -> int:
    return segment.actions.count(Action.KEEP)


def test_more_bytes_let_more_of_the_last_iterations_store_more() -> None:
    graph = loop(24)
    mixtures = Mixtures([graph], RATES)
    most = mixtures.most_bytes
    (least,) = of(mixtures.at(0), graph)
    (fastest,) = of(mixtures.at(most), graph)
    assert least.count == fastest.count == 24
    assert stored(least) < stored(fastest)
    counts = []
    for share in (0.3, 0.6, 0.9):
        segments = of(mixtures.at(share * most), graph)
        assert sum(segment.count for segment in segments) == 24
        counts.append(segments[-1].count)
        assert stored(segments[-1]) >= stored(segments[0])
    assert len(set(counts)) > 1


def test_without_swaps_nothing_leaves() -> None:
    graph = loop(24)
    mixtures = Mixtures([graph], RATES, may_swap=False)
    for share in (0, 0.4, 1):
        for segment in of(mixtures.at(share * mixtures.most_bytes), graph):
            assert Action.OFFLOAD not in segment.actions


def test_bytes_go_first_to_the_loop_in_which_they_save_most() -> None:
    dear, cheap = loop(24), loop(24, 3)
    slower = [dataclasses.replace(e, flops=9 * e.flops) for e in dear.equations]
    dear = dataclasses.replace(dear, equations=tuple(slower))
    mixtures = Mixtures([dear, cheap], RATES, may_swap=False)
    least, some = mixtures.at(0), mixtures.at(0.3 * mixtures.most_bytes)
    assert of(some, cheap) == of(least, cheap)
    assert of(some, dear) != of(least, dear)
    assert max(len(of(some, graph)) for graph in (dear, cheap)) <= 2


def test_blocks_are_whole_and_known_as_loops_of_their_own() -> None:
    graph = loop(1009)  # a prime
    mixtures = Mixtures([graph], RATES, may_swap=False)
    segments = of(mixtures.at(0), graph)
    assert sum(segment.count for segment in segments) == 1009
    blocks = [segment for segment in segments if segment.block > 1]
    assert blocks
    for segment in blocks:
        assert segment.count % segment.block == 0
        block = dataclasses.replace(graph, trip_count=segment.block)
        assert [one.count for one in of(mixtures.at(0), block)] == [segment.block]


def test_other_loops_are_decided_on_elsewhere() -> None:
    mixture = Mixtures([loop(24)], RATES).at(0)
    assert of(mixture, loop(25)) == alike(loop(25), ())


def test_where_blocks_end_the_other_way_begins() -> None:
    graph = loop(10_000)
    mixtures = Mixtures([graph], RATES, may_swap=False)
    for share in (0.21, 0.34, 0.57):
        segments = of(mixtures.at(share * mixtures.most_bytes), graph)
        assert [segment.block > 1 for segment in segments] == [True, False]
        assert sum(segment.count for segment in segments) == 10_000


def test_the_cost_of_a_mixture_is_that_of_its_ways() -> None:
    graph = loop(9)  # too few for blocks
    mixtures = Mixtures([graph], RATES, may_swap=False)
    kept = Ways(graph, RATES).kept
    by_actions = {way.actions: way for way in Ways(graph, RATES).single}
    (least,) = of(mixtures.at(0), graph)
    way, cost = by_actions[least.actions], mixtures.cost(0)
    assert cost.seconds == pytest.approx(9 * (way.seconds - kept.seconds))
    stored = 9 * (way.device_bytes - kept.device_bytes)
    running = way.running_bytes - kept.running_bytes
    assert cost.device_bytes == pytest.approx(stored + running)


def test_a_loop_in_a_loop_holds_what_it_stores_once_more_than_it_runs() -> None:
    graph = loop(24)
    once = Mixtures([graph], RATES, may_swap=False)
    often = Mixtures([graph], RATES, may_swap=False, times=[4])
    assert often.most_bytes == 5 * once.most_bytes
    assert often.cost(0).seconds == pytest.approx(4 * once.cost(0).seconds)
    assert of(often.at(0), graph) == of(once.at(0), graph)


def test_at_each_step_every_loop_runs_in_one_way() -> None:
    graphs = [loop(24), loop(10_000, 3)]
    mixtures = Mixtures(graphs, RATES, may_swap=False)
    steps = mixtures.steps
    assert (steps[0], steps[-1]) == (0, mixtures.most_bytes)
    assert list(steps) == sorted(set(steps))
    for nbytes in steps:
        for graph in graphs:
            blocks = [s.block > 1 for s in of(mixtures.at(nbytes), graph)]
            assert len(blocks) == 1 or blocks == [True, False]
    seconds = [mixtures.cost(nbytes).seconds for nbytes in steps]
    assert seconds == sorted(seconds, reverse=True)
