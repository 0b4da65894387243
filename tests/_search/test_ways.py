"""The ways to run an iteration, and what each costs."""

import dataclasses
from typing import Any

from handmade import chain
from handmade_plans import H100, busy

from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action, Graph, alike
from jaxswap._search.ways import WAYS, Way, Ways, WayToRun, keep_all, lower_hull

KEEP, OFFLOAD, RECOMPUTE = Action.KEEP, Action.OFFLOAD, Action.RECOMPUTE


def body(depth: int = 4) -> Graph:
    graph = busy(chain(depth))
    return dataclasses.replace(graph, carried=graph.arguments[:1], trip_count=3)


def of_heavy(graph: Graph, actions: Any) -> list[Action]:
    forward = [e for e in graph.equations if e.is_heavy and not e.is_backward]
    return [actions[v] for eqn in forward for v in eqn.outputs]


def test_a_way_to_run_decides_on_the_carry_and_a_share_of_the_heavy_results() -> None:
    graph = body(4)
    for share, count in ((1.0, 4), (0.5, 2), (0.25, 1), (0.0, 0)):
        (segment,) = WayToRun(OFFLOAD, KEEP, share).decide(graph)
        actions = segment.actions
        assert segment.count == graph.trip_count
        assert [actions[v] for v in graph.carried] == [OFFLOAD]
        assert of_heavy(graph, actions).count(KEEP) == count
        assert of_heavy(graph, actions).count(RECOMPUTE) == 4 - count


def test_those_that_take_longest_for_their_size_come_first() -> None:
    graph = body(3)
    heavy = [e.index for e in graph.equations if e.is_heavy and not e.is_backward]
    equations = list(graph.equations)
    equations[heavy[1]] = dataclasses.replace(equations[heavy[1]], flops=9e12)
    graph = dataclasses.replace(graph, equations=tuple(equations))
    (segment,) = WayToRun(KEEP, OFFLOAD, 0.3).decide(graph)
    actions = segment.actions
    assert of_heavy(graph, actions) == [RECOMPUTE, OFFLOAD, RECOMPUTE]


def test_results_that_no_backward_pass_reads_are_not_stored() -> None:
    graph = body(2)
    last = [e for e in graph.equations if e.is_heavy and not e.is_backward][-1]
    readers = [
        dataclasses.replace(e, inputs=tuple(v for v in e.inputs if v > last.index))
        if e.is_backward
        else e
        for e in graph.equations
    ]
    graph = dataclasses.replace(graph, equations=tuple(readers))
    (segment,) = WayToRun(OFFLOAD, KEEP, 1.0).decide(graph)
    actions = segment.actions
    assert set(graph.residuals()).isdisjoint(last.outputs)
    needed = [v for v, a in enumerate(actions) if a is KEEP]
    assert set(needed) <= {v for e in graph.equations for v in e.outputs}


def test_the_first_way_leaves_loops_to_jax() -> None:
    graph = body()
    assert WAYS[0](graph) == keep_all(graph) == alike(graph, [KEEP] * len(graph.values))


def ways_of(trip_count: int) -> Ways:
    return Ways(dataclasses.replace(body(4), trip_count=trip_count), rates_of(H100))


def test_each_way_costs_what_it_stores_and_recomputes() -> None:
    ways = ways_of(3)
    carry = sum(ways.body.values[v].nbytes for v in ways.body.carried)
    by_actions = {way.actions: way for way in ways.single}
    heavy = WayToRun(KEEP, KEEP, 1.0).decide(ways.body)[0].actions
    least = WayToRun(KEEP, RECOMPUTE, 0.0).decide(ways.body)[0].actions
    swapped = WayToRun(OFFLOAD, RECOMPUTE, 0.0).decide(ways.body)[0].actions
    assert by_actions[least].device_bytes == carry
    assert by_actions[swapped].device_bytes == 0
    assert by_actions[swapped].host_bytes == carry
    assert by_actions[heavy].device_bytes > by_actions[least].device_bytes
    assert by_actions[heavy].seconds < by_actions[least].seconds


def test_an_iteration_that_recomputes_takes_memory_while_it_runs() -> None:
    ways = ways_of(3)
    nbytes = max(value.nbytes for value in ways.body.values)
    least = WayToRun(KEEP, RECOMPUTE, 0.0).decide(ways.body)[0].actions
    running = {way.actions: way.running_bytes for way in ways.single}
    assert running[least] >= ways.kept.running_bytes + 2 * nbytes


def test_blocks_store_the_square_root_and_run_forward_once_more() -> None:
    assert not ways_of(3).blocks
    ways = ways_of(10_000)
    single = {way.actions: way for way in ways.single}
    for way in ways.blocks:
        assert way.again is not None
        assert 10_000 % way.block == 0
        before = single[way.again.actions]
        assert before.seconds < way.seconds < 2 * before.seconds
        assert way.device_bytes < 0.1 * before.device_bytes
    assert ways.blocks


def test_what_a_mixture_of_others_beats_is_left_out() -> None:
    def way(nbytes: float, seconds: float) -> Way:
        return Way((), seconds, nbytes, 0)

    good = [way(0, 10.0), way(1, 5.0), way(4, 2.0)]
    bad = [way(0, 11.0), way(2, 4.5), way(5, 2.0), way(3, 9.0)]
    assert lower_hull([*bad, *good]) == good
