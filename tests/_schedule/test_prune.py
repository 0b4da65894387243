"""A backward pass without the cotangents that turn out to be zero."""

from handmade import MIB, Builder

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.instructions import Run, SwapIn
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.prune import without_zeros, zeros_from
from jaxswap._schedule.timing import Timing


def two_results() -> tuple[Graph, list[int]]:
    """Two heads on one trunk, each with a cotangent; their gradients are summed."""
    b = Builder()
    x = b.argument(MIB)
    trunk = b.run("dot", [x, x], MIB)
    left, right = b.run("tanh", [trunk], MIB), b.run("exp", [trunk], MIB)
    first, second = b.cotangent(MIB), b.cotangent(MIB)
    g_left = b.run("mul", [first, left], MIB, is_backward=True)
    g_right = b.run("mul", [second, right], MIB, is_backward=True)
    total = b.run("add_any", [g_left, g_right], MIB, is_backward=True)
    gradient = b.run("dot", [total, x], MIB, is_backward=True)
    return b.graph([left, right], [gradient]), [first, second, g_left, g_right, total]


def test_zeros_go_as_far_as_all_inputs_are_zero() -> None:
    graph, (first, second, g_left, g_right, total) = two_results()
    assert zeros_from(graph, [second]) == {second, g_right}
    both = zeros_from(graph, [first, second])
    assert both == {first, second, g_left, g_right, total, graph.gradients[0]}
    assert zeros_from(graph, []) == set()


def test_nothing_is_left_out_without_zeros() -> None:
    graph, _ = two_results()
    steps = schedule(graph, [Action.KEEP] * len(graph.values), Timing()).backward
    assert without_zeros(graph, steps, set()) == steps


def test_what_only_a_zero_needed_is_left_out() -> None:
    graph, (_, second, *_) = two_results()
    actions = [Action.OFFLOAD] * len(graph.values)
    steps = schedule(graph, actions, Timing(is_forced=True, min_bytes=0)).backward
    kept = without_zeros(graph, steps, zeros_from(graph, [second]))
    names = [graph.equations[s.equation].primitive for s in kept if isinstance(s, Run)]
    assert names == ["mul", "add_any", "dot"]
    right = graph.equations[2].outputs[0]
    assert SwapIn(right) in steps
    assert SwapIn(right) not in kept
    assert SwapIn(graph.equations[1].outputs[0]) in kept


def test_what_awaits_no_cotangent_is_not_zero() -> None:
    b = Builder()
    x = b.argument(MIB)
    c, other = b.cotangent(MIB), b.cotangent(MIB)
    widened = b.run("convert", [x], 4 * MIB, is_backward=True)
    zero = b.run("mul", [other, widened], MIB, is_backward=True)
    gradient = b.run("mul", [c, widened], MIB, is_backward=True)
    assert zeros_from(b.graph([], [gradient, zero]), [other]) == {other, zero}
