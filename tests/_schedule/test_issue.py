"""Instructions of both passes: what waits for what."""

import dataclasses
import itertools

from handmade import MIB, Builder, chain, results_of

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.instructions import Barrier, Run, Schedule, SwapIn, SwapOut
from jaxswap._schedule.issue import schedule, schedule_body
from jaxswap._schedule.lms import LMS
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._schedule.timing import Timing


def default_schedule(graph: Graph) -> Schedule:
    decision = SwapHeavy().decide(graph)
    return schedule(graph, decision.actions, decision.timing)


def swapped(plan: Schedule) -> set[int]:
    return {swap.value for swap in plan.swaps}


def position(steps: tuple[object, ...], step: object) -> int:
    return steps.index(step)


def test_all_but_the_last_activations_of_a_chain_are_swapped() -> None:
    graph = chain(8)
    dots = results_of(graph, "dot")
    plan = default_schedule(graph)
    assert swapped(plan) == set(dots[:-2])
    assert set(plan.host_residuals) == set(dots[:-2])
    assert set(dots[-2:]) <= set(plan.device_residuals)


def test_each_copy_out_is_awaited_behind_one_heavy_operation() -> None:
    graph = chain(8)
    plan = default_schedule(graph)
    first = results_of(graph, "dot")[0]
    heavy_runs = [
        i
        for i, step in enumerate(plan.forward)
        if isinstance(step, Run) and graph.equations[step.equation].is_heavy
    ]
    out = position(plan.forward, SwapOut(first))
    awaited = next(
        i
        for i, step in enumerate(plan.forward)
        if isinstance(step, Barrier) and first in step.host
    )
    assert out < awaited
    assert sum(out < i < awaited for i in heavy_runs) == 1


def test_each_copy_in_starts_behind_a_barrier_and_before_a_heavy_operation() -> None:
    graph = chain(8)
    plan = default_schedule(graph)
    for v in plan.host_residuals:
        at = position(plan.backward, SwapIn(v))
        barriers = [s for s in plan.backward[:at] if isinstance(s, Barrier)]
        assert any(v in barrier.host and barrier.device for barrier in barriers)
        read = next(
            i
            for i, step in enumerate(plan.backward)
            if isinstance(step, Run) and v in graph.equations[step.equation].inputs
        )
        between = plan.backward[at:read]
        assert any(
            isinstance(s, Run) and graph.equations[s.equation].is_heavy for s in between
        )


def test_weight_gradients_are_awaited_by_the_next_heavy_operation() -> None:
    graph = chain(6)
    actions = [Action.OFFLOAD] * len(graph.values)
    plan = schedule(graph, actions, Timing())
    assert not [s for s in plan.backward if isinstance(s, Run) and s.is_recomputed]
    barriers = [set(s.device) for s in plan.backward if isinstance(s, Barrier)]
    for gradient in graph.gradients[:-1]:
        assert any(gradient in device for device in barriers)


def test_recomputations_wait_in_a_barrier_for_the_backward_pass() -> None:
    b = Builder()
    x = b.argument(MIB)
    kept = b.run("dot", [x, x], MIB)
    again = b.run("tanh", [kept], MIB)
    g = b.run("dot", [b.cotangent(MIB), x], MIB, is_backward=True)
    g = b.run("dot", [g, again], MIB, is_backward=True)
    graph = b.graph([again], [g])
    actions = [Action.KEEP] * len(graph.values)
    actions[again] = Action.RECOMPUTE
    plan = schedule(graph, actions, Timing())
    at = next(i for i, s in enumerate(plan.backward) if s == Run(1, is_recomputed=True))
    before = [s for s in plan.backward[:at] if isinstance(s, Barrier)]
    made_backward = {v for e in graph.equations if e.is_backward for v in e.outputs}
    assert any(kept in s.device and made_backward & set(s.device) for s in before)


def test_keeping_everything_needs_no_copy_and_no_barrier() -> None:
    graph = chain(6)
    plan = schedule(graph, [Action.KEEP] * len(graph.values), Timing())
    steps = (*plan.forward, *plan.backward)
    assert not [s for s in steps if isinstance(s, SwapOut | SwapIn)]
    assert not plan.host_residuals
    assert not [s for s in plan.forward if isinstance(s, Barrier)]


def test_skip_connection_leaves_inside_the_forward_pass_on_one_host_copy() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    skip = b.run("dot", [x, x], 64 * MIB)
    h = skip
    for _ in range(10):
        h = b.run("dot", [h, x], 64 * MIB)
    joined = b.run("add", [h, skip], 64 * MIB)
    out = b.run("dot", [joined, x], 64 * MIB)
    g = b.cotangent(64 * MIB)
    for _ in range(10):
        g = b.run("dot", [g, x], 64 * MIB, is_backward=True)
    g = b.run("dot", [g, skip], 64 * MIB, is_backward=True)
    graph = b.graph([out], [g])
    plan = default_schedule(graph)
    assert plan.forward.count(SwapOut(skip)) == 1
    assert plan.forward.count(SwapIn(skip)) == 1
    assert plan.backward.count(SwapIn(skip)) == 1
    assert SwapOut(skip) not in plan.backward


def test_idle_cotangent_is_swapped_within_the_backward_pass() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    out = b.run("dot", [x, x], 64 * MIB)
    g = b.run("dot", [b.cotangent(64 * MIB), x], 64 * MIB, is_backward=True)
    idle = g
    for _ in range(10):
        g = b.run("dot", [g, x], 64 * MIB, is_backward=True)
    g = b.run("add", [g, idle], 64 * MIB, is_backward=True)
    g = b.run("dot", [g, x], 64 * MIB, is_backward=True)
    graph = b.graph([out], [g])
    plan = default_schedule(graph)
    assert SwapOut(idle) in plan.backward
    assert position(plan.backward, SwapIn(idle)) > position(
        plan.backward, SwapOut(idle)
    )


def test_lms_never_recomputes_what_the_forward_pass_made() -> None:
    graph = chain(8)
    decision = LMS(1, 1).decide(graph)
    plan = schedule(graph, decision.actions, decision.timing)
    recomputed = {
        graph.equations[s.equation].primitive
        for s in plan.backward
        if isinstance(s, Run) and s.is_recomputed
    }
    assert recomputed == {"slope"}
    assert swapped(plan) & set(results_of(graph, "tanh"))


def test_small_sum_of_a_large_dead_value_is_not_deferred() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    out = b.run("dot", [x, x], 64 * MIB)
    g = b.run("dot", [b.cotangent(64 * MIB), x], 64 * MIB, is_backward=True)
    total = b.run("sum", [g], 8, is_backward=True)
    part = b.run("index", [total], 4, is_backward=True)
    h = b.run("dot", [x, b.cotangents[0]], 64 * MIB, is_backward=True)
    h = b.run("dot", [h, out], 64 * MIB, is_backward=True)
    graph = b.graph([out], [h, total, part])
    actions = [Action.KEEP] * len(graph.values)
    actions[out] = Action.OFFLOAD
    plan = schedule(graph, actions, Timing(swap_cotangents=False, is_forced=True))
    barriers = [set(s.device) for s in plan.backward if isinstance(s, Barrier)]
    assert any(total in device for device in barriers)


def test_what_waits_on_the_host_is_not_kept_on_the_device_too() -> None:
    graph = chain(8)
    recompute = [Action.RECOMPUTE] * len(graph.values)
    for v in results_of(graph, "dot"):
        recompute[v] = Action.OFFLOAD
    plans = [schedule(graph, recompute, Timing(sync_swapin=True, sync_swapout=True))]
    for policy in (SwapHeavy(), LMS(1, 1), LMS(1, 1, sync_mode=3)):
        decision = policy.decide(graph)
        plans.append(schedule(graph, decision.actions, decision.timing))
    for plan in plans:
        assert plan.host_residuals
        assert not set(plan.device_residuals) & set(plan.host_residuals)


def test_heavy_operations_that_data_flow_leaves_free_are_put_in_order() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    swapped_out = b.run("dot", [x], 64 * MIB)
    branches = [b.run("dot", [x], 64 * MIB) for _ in range(8)]
    out = b.run("add", branches, 64 * MIB)
    out = b.run("dot", [out], 64 * MIB)
    g = b.cotangent(64 * MIB)
    for _ in range(4):
        g = b.run("dot", [g], 64 * MIB, is_backward=True)
    g = b.run("dot", [g, swapped_out], 64 * MIB, is_backward=True)
    graph = b.graph([out], [g])
    actions = [Action.KEEP] * len(graph.values)
    actions[swapped_out] = Action.OFFLOAD
    plan = schedule(graph, actions, Timing())
    for earlier, later in itertools.pairwise(branches):
        at = next(
            i
            for i, s in enumerate(plan.forward)
            if isinstance(s, Run) and later in graph.equations[s.equation].outputs
        )
        before = plan.forward[at - 1]
        assert isinstance(before, Barrier)
        assert earlier in before.device


def narrow_chain(depth: int) -> tuple[Graph, list[int]]:
    """Layers that keep a narrow form of their result, which is widened for gradients.

    Returns:
        The graph and the narrow forms.
    """
    b = Builder()
    hidden, w, narrow = b.argument(64 * MIB), b.argument(), []
    for _ in range(depth):
        hidden = b.run("dot", [hidden, w], 64 * MIB)
        hidden = b.run("tanh", [hidden], 64 * MIB)
        narrow.append(b.run("convert", [hidden], 16 * MIB))
    of_hidden, gradients = b.cotangent(64 * MIB), []
    for v in reversed(narrow):
        wide = b.run("convert", [v], 64 * MIB, is_backward=True)
        gradients.append(b.run("dot", [wide, of_hidden], MIB, is_backward=True))
        of_hidden = b.run("dot", [of_hidden, w], 64 * MIB, is_backward=True)
    return b.graph([hidden], gradients), narrow


def test_narrow_forms_are_made_before_and_widened_after_other_work() -> None:
    """XLA would hold what they are made of, and widen all of them at once."""
    graph, narrow = narrow_chain(6)
    actions = [Action.KEEP] * len(graph.values)
    actions[narrow[0]] = Action.OFFLOAD
    plan = schedule(graph, actions, Timing(min_bytes=0, swap_cotangents=False))
    assert swapped(plan) == {narrow[0]}
    ahead = {v for s in plan.forward if isinstance(s, Barrier) for v in s.device}
    assert set(narrow[1:-2]) <= ahead
    assert narrow[0] not in ahead  # its copy is waited for
    behind = {v for s in plan.backward if isinstance(s, Barrier) for v in s.device}
    assert set(narrow[1:-1]) <= behind


def test_a_program_that_keeps_everything_has_no_barriers() -> None:
    graph, _ = narrow_chain(6)
    plan = schedule(graph, [Action.KEEP] * len(graph.values), Timing())
    assert not [s for s in (*plan.forward, *plan.backward) if isinstance(s, Barrier)]


def test_an_iteration_recomputes_each_value_once() -> None:
    """However far apart its uses are: outside of loops it would not be held."""
    b = Builder()
    x = b.argument()
    recomputed = b.run("tanh", [b.run("view", [x], MIB)], MIB)
    g = b.run("mul", [b.cotangent(), recomputed], MIB, is_backward=True)
    for _ in range(9):
        g = b.run("dot", [g, x], MIB, is_backward=True)
    g = b.run("mul", [g, recomputed], MIB, is_backward=True)
    graph = dataclasses.replace(
        b.graph([recomputed], [g]), carried=(x,), handed_on=(recomputed,)
    )
    body, swapped_ones = schedule_body(graph, [Action.RECOMPUTE] * len(graph.values))
    assert swapped_ones == ()
    tanh = next(e.index for e in graph.equations if e.primitive == "tanh")
    runs = [s.equation for s in body.backward if isinstance(s, Run)]
    assert runs.count(tanh) == 1


def recomputing_body() -> tuple[Graph, int]:
    """A body of four products, whose operands are recomputed in its backward pass."""
    graph = chain(4)
    x = graph.arguments[0]
    return dataclasses.replace(graph, carried=(x,), handed_on=(graph.outputs[0],)), x


def test_an_iteration_that_swaps_nothing_is_left_to_xla_behind_one_barrier() -> None:
    graph, _ = recomputing_body()
    body, swapped_ones = schedule_body(graph, [Action.RECOMPUTE] * len(graph.values))
    assert swapped_ones == ()
    barriers = [isinstance(step, Barrier) for step in (*body.forward, *body.backward)]
    assert barriers.count(True) == 1


def test_an_iteration_beside_copies_keeps_its_order() -> None:
    graph, carried = recomputing_body()
    actions = [Action.RECOMPUTE] * len(graph.values)
    actions[carried] = Action.OFFLOAD
    body, swapped_ones = schedule_body(graph, actions)
    assert swapped_ones == (carried,)
    barriers = [isinstance(step, Barrier) for step in body.backward]
    assert barriers.count(True) > 2
