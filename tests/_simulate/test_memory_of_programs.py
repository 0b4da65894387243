"""The memory of a whole program, against a naive count."""

import random

import numpy as np
import pytest
from handmade import GB, Builder, by_hand, products, rates

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.timing import Timing
from jaxswap._simulate.draft import Arranger
from jaxswap._simulate.kernels import NO_BUFFER, Kernel, PlannedCopy, Wait
from jaxswap._simulate.simulate import Simulator
from jaxswap._simulate.timeline import Timeline


def random_graph(rng: random.Random) -> Graph:
    """Anything that can be executed, of values of 1 to 5 GB."""
    b = Builder()
    kinds = ["dot", "dot", "tanh", "mul", "view", "sum", "opaque"]
    values = [b.argument(GB)]
    for _ in range(rng.randint(6, 14)):
        kind = rng.choice(kinds)
        count = 1 if kind in ("view", "tanh") else rng.randint(1, 2)
        inputs = rng.choices(values[-5:], k=count)
        nbytes = GB * rng.randint(1, 5)
        values.append(b.run(kind, inputs, nbytes, is_pure=rng.random() < 0.95))
    outputs = [values[-1], *rng.sample(values[1:], rng.randint(0, 1))]
    backward = [b.cotangent()]
    for _ in range(rng.randint(6, 14)):
        kind = rng.choice(kinds)
        inputs = [rng.choice(backward[-3:])]
        if kind not in ("view", "tanh"):
            inputs.append(rng.choice(values))
        nbytes = GB * rng.randint(1, 5)
        backward.append(b.run(kind, inputs, nbytes, is_backward=True))
    return b.graph(list(dict.fromkeys(outputs)), backward[-2:])


def random_actions(rng: random.Random, graph: Graph) -> list[Action]:
    """Anything; views and results are never swapped, as in a plan."""
    actions = rng.choices(list(Action), k=len(graph.values))
    for eqn in graph.equations:
        for v in eqn.outputs:
            if actions[v] is Action.OFFLOAD and (eqn.is_view or v in graph.outputs):
                actions[v] = Action.KEEP
    return actions


def recount(graph: Graph, timeline: Timeline) -> list[int]:
    """Device memory at each step, buffer by buffer, from the steps alone."""
    steps = timeline.steps
    sizes = [graph.values[v].nbytes for v in steps.values]
    held: list[set[int]] = [set() for _ in sizes]
    left: dict[int, int] = {}
    for at, step in enumerate(steps.steps):
        end = steps.forward_count if at < steps.forward_count else len(steps.steps)
        if isinstance(step, Kernel):
            for buffer in (*step.reads, *step.makes):
                held[buffer].add(at)
        elif isinstance(step, PlannedCopy):
            if step.buffer != NO_BUFFER:
                held[step.buffer].add(at)
            if not step.is_inward:
                left[step.value] = at
                waits = [
                    i
                    for i, later in enumerate(steps.steps)
                    if isinstance(later, Wait) and step.value in later.values
                ]
                if step.buffer != NO_BUFFER:
                    held[step.buffer].add((waits[0] if waits else end) - 1)
        else:
            assert all(left[v] < at for v in step.values)
    producers = graph.producers()
    caller = [*graph.outputs, *graph.gradients]
    for v in caller:  # A view of a value is the value's own bytes.
        if v in producers and producers[v].is_view:
            (source,) = producers[v].inputs
            if graph.values[v].nbytes <= graph.values[source].nbytes:
                caller.append(source)
    # The caller gets the first buffer of a value; where it gets a view, the one that
    # the view was made of, which only the steps themselves can tell.
    firsts = {v: steps.values.index(v) for v in caller if v in steps.values}
    viewed = [v for v in caller if v not in {*graph.outputs, *graph.gradients}]
    for buffer, v in enumerate(steps.values):
        if v in viewed and steps.is_fixed[buffer]:
            firsts[v] = buffer
    given = [*graph.arguments, *graph.outputs, *graph.gradients]
    total = []
    for at in range(len(steps.steps)):
        count = sum(graph.values[v].nbytes for v in given)
        for buffer, touched in enumerate(held):
            is_held = min(touched) <= at <= max(touched)
            if is_held and buffer not in firsts.values():
                count += sizes[buffer]
        total.append(count)
    return total


@pytest.mark.parametrize("seed", range(60))
def test_memory_of_random_programs_is_that_of_a_naive_count(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(rng)
    arranger = Arranger(graph, rates(), large_bytes=GB)
    limit = GB * rng.randint(1, 40)
    for _ in range(3):
        actions = random_actions(rng, graph)
        plans = [
            arranger.arrange(actions, limit).schedule,
            schedule(graph, actions, Timing(is_forced=rng.random() < 0.5)),
        ]
        for plan in plans:
            timeline = arranger.simulator.play(plan)
            expected = recount(graph, timeline)
            assert timeline.device_bytes_at.tolist() == expected
            assert timeline.device_bytes == max(expected)
            sizes = [graph.values[v].nbytes for v in timeline.steps.values]
            for at in range(len(expected)):
                alive = sum(sizes[buffer] for buffer in timeline.alive(at))
                assert alive + timeline.caller_bytes == expected[at]
            assert (np.diff(timeline.starts) >= 0).all()
            assert timeline.stall_seconds >= timeline.stalls.sum() - 1e-9


def test_result_that_is_made_again_costs_memory() -> None:
    graph = products(3)
    plan = by_hand([0, 1, 2], [0, 1, 2, 3, 4, 5])
    (result,) = graph.outputs
    timeline = Simulator(graph, rates()).play(plan)
    once = [v for v in timeline.steps.values if v == result]
    again = [
        is_fixed
        for v, is_fixed in zip(
            timeline.steps.values, timeline.steps.is_fixed, strict=True
        )
        if v == result
    ]
    assert len(once) == 2
    assert again == [True, False]


def test_result_that_is_a_view_is_counted_once() -> None:
    b = Builder()
    z = b.run("dot", [b.argument(GB)], GB)
    view = b.run("view", [z], GB)
    graph = b.graph([view])
    timeline = Simulator(graph, rates()).play(by_hand([0, 1], []))
    assert timeline.device_bytes == timeline.caller_bytes == 2 * GB
