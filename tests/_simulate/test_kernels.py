"""What is fused, what becomes a buffer, and who reads it last."""

import dataclasses

import pytest
from handmade import GB, Builder, by_hand, products

from jaxswap._graph.graph import Graph
from jaxswap._schedule.instructions import Barrier, Schedule, SwapIn, SwapOut
from jaxswap._simulate.kernels import (
    NO_BUFFER,
    Fusion,
    Kernel,
    PlannedCopy,
    Steps,
    Wait,
)
from jaxswap._simulate.lowering import lower


def lowered(graph: Graph, schedule: Schedule) -> Steps:
    return lower(Fusion(graph), schedule)


def forward(b: Builder, *outputs: int) -> Steps:
    """Everything that was added, in order, with nothing swapped."""
    return lowered(b.graph(outputs), by_hand(range(len(b.equations))))


def kernels(steps: Steps) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """(equation, buffers read, buffers made) of each kernel."""
    found = [step for step in steps.steps if isinstance(step, Kernel)]
    return [(k.equation, tuple(sorted(k.reads)), k.makes) for k in found]


def test_elementwise_chain_is_fused_into_its_reader() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    h = b.run("tanh", [made], GB)
    h = b.run("mul", [h, h], GB)
    total = b.run("sum", [h], 4)
    steps = forward(b, total)
    assert steps.values == (made, total)
    assert kernels(steps) == [(0, (), (0,)), (3, (0,), (1,))]


def test_fused_value_is_made_in_each_of_its_readers() -> None:
    b = Builder()
    left = b.run("dot", [b.argument(GB)], GB)
    right = b.run("dot", [b.arguments[0]], GB)
    both = b.run("add", [left, right], GB)
    first, second = b.run("sum", [both], 4), b.run("sum", [both], 4)
    steps = forward(b, first, second)
    assert steps.values == (left, right, first, second)
    assert kernels(steps)[2:] == [(3, (0, 1), (2,)), (4, (0, 1), (3,))]


def test_operand_of_a_product_and_of_an_unknown_operation_is_a_buffer() -> None:
    b = Builder()
    x = b.argument(GB)
    for_product = b.run("tanh", [x], GB)
    product = b.run("dot", [for_product], GB)
    for_unknown = b.run("tanh", [product], GB)
    unknown = b.run("opaque", [for_unknown], GB)
    for_sum = b.run("tanh", [unknown], GB)
    total = b.run("sum", [for_sum], 4)
    steps = forward(b, total)
    assert steps.values == (for_product, product, for_unknown, unknown, total)
    assert kernels(steps)[1:4] == [(1, (0,), (1,)), (2, (1,), (2,)), (3, (2,), (3,))]


@pytest.mark.parametrize(("wider", "count"), [("convert_element_type", 2), ("tanh", 3)])
def test_product_widens_its_operand_as_it_reads_it(wider: str, count: int) -> None:
    b = Builder()
    narrow = b.run("opaque", [b.argument()], GB)
    b.run("dot", [b.run(wider, [narrow], 4 * GB)], GB)
    b.equations[-1] = dataclasses.replace(b.equations[-1], primitive="dot_general")
    assert len(forward(b, len(b.values) - 1).values) == count


def test_result_of_the_pass_is_a_buffer_of_the_callers() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    result = b.run("tanh", [made], GB)
    steps = forward(b, result)
    assert steps.values == (made, result)
    assert steps.is_fixed == (False, True)


def test_cheap_operation_with_a_side_effect_runs_though_nobody_reads_it() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    seen = b.run("tanh", [made], GB, is_pure=False)
    assert forward(b, made).values == (made, seen)


@pytest.mark.parametrize("nbytes", [GB, GB // 2])
def test_view_is_the_buffer_that_it_looks_at(nbytes: int) -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    view = b.run("view", [b.run("view", [made], nbytes)], nbytes)
    product = b.run("dot", [view], GB)
    steps = forward(b, product)
    assert steps.values == (made, product)
    assert kernels(steps) == [(0, (), (0,)), (3, (0,), (1,))]


def test_view_of_a_fused_value_makes_it_a_buffer() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    product = b.run("dot", [b.run("view", [fused], GB)], GB)
    assert forward(b, product).values == (made, fused, product)


def test_view_that_grows_has_bytes_of_its_own() -> None:
    b = Builder()
    small = b.run("dot", [b.argument(GB)], GB // 4)
    grown = b.run("view", [small], GB)
    product = b.run("dot", [grown], GB)
    assert forward(b, product).values == (small, grown, product)


def test_value_held_in_an_optimization_barrier_is_a_buffer_that_it_shares() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    held = b.run("optimization_barrier", [fused], GB)
    total = b.run("sum", [held], 4)
    steps = forward(b, total)
    assert steps.values == (made, fused, total)
    assert kernels(steps)[-1] == (3, (1,), (2,))


def elementwise() -> tuple[Graph, int, int]:
    """A cheap value that both passes read: `sum(tanh(dot(x)))`, `sum(dot(g) * tanh)`.

    Values: 1 the product, 2 its `tanh`, 3 the sum; backward 5, 6 and 7 in that order.
    """
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    total = b.run("sum", [fused], 4)
    g = b.run("dot", [b.cotangent()], GB, is_backward=True)
    g = b.run("mul", [g, fused], GB, is_backward=True)
    return b.graph([total], [b.run("sum", [g], 4, is_backward=True)]), made, fused


def test_swapped_value_is_a_buffer_and_returns_as_another() -> None:
    graph, made, fused = elementwise()
    total, g, gradient = 3, 5, 7
    steps = lowered(graph, by_hand([0, 1, SwapOut(fused), 2], [3, SwapIn(fused), 4, 5]))
    assert steps.values == (made, fused, total, g, fused, gradient)
    copies = [step for step in steps.steps if isinstance(step, PlannedCopy)]
    assert copies == [PlannedCopy(fused, 1, False), PlannedCopy(fused, 4, True)]
    assert kernels(steps)[2] == (2, (1,), (2,))
    assert kernels(steps)[-1] == (5, (3, 4), (5,))
    unswapped = lowered(graph, by_hand([0, 1, 2], [3, 4, 5]))
    assert unswapped.values == (made, total, g, gradient)


def test_value_behind_a_barrier_is_a_buffer_in_that_pass_alone() -> None:
    graph, made, fused = elementwise()
    total, g, gradient = 3, 5, 7
    ahead = lowered(graph, by_hand([0, 1, Barrier((fused,)), 2], [1, 3, 4, 5]))
    assert ahead.values == (made, fused, total, g, gradient)
    behind = lowered(graph, by_hand([0, 1, 2], [1, Barrier((fused,)), 3, 4, 5]))
    assert behind.values == (made, total, fused, g, gradient)
    assert kernels(behind)[-1] == (5, (2, 3), (4,))


def test_recomputed_value_has_a_buffer_of_its_own() -> None:
    graph = products(2)
    steps = lowered(graph, by_hand([0, 1], [2, 0, 3]))
    assert steps.values == (1, 2, 4, 1, 5)
    recomputations = [s.is_recomputed for s in steps.steps if isinstance(s, Kernel)]
    assert recomputations == [False, False, False, True, False]
    assert kernels(steps)[-1] == (3, (2, 3), (4,))


def test_cheap_kernels_that_read_the_same_are_charged_once() -> None:
    b = Builder()
    left = b.run("dot", [b.argument(GB)], GB)
    right = b.run("dot", [b.arguments[0]], GB)
    first = b.run("sum", [b.run("add", [left, right], GB)], 4)
    sums = [b.run("sum", [left], 4), b.run("sum", [first], 4)]
    product = b.run("dot", [left], GB)
    sums += [b.run("sum", [right], 4), b.run("sum", [product], 4)]
    unknown = b.run("opaque", [right], GB)
    steps = forward(b, *sums, unknown)
    shared = {
        steps.values[step.makes[0]]: step.is_shared
        for step in steps.steps
        if isinstance(step, Kernel)
    }
    assert not shared[first]
    assert shared[sums[0]]  # reads part of what `first` reads
    assert not shared[sums[1]]  # reads `first` itself
    assert not shared[sums[2]]  # a product stands between
    assert not shared[sums[3]]
    assert not shared[unknown]  # does not fuse, though `sums[2]` reads the same


def shared_sum(readers: int, own_bytes: int, *, behind_view: bool = False) -> bool:
    """Whether the sum of two products is stored for so many readers."""
    b = Builder()
    left = b.run("dot", [b.argument(GB)], GB)
    right = b.run("dot", [b.arguments[0]], GB)
    both = b.run("add", [left, right], own_bytes)
    read = b.run("view", [both], own_bytes) if behind_view else both
    results = [b.run("sum", [read], 4) for _ in range(readers)]
    return both in Fusion(b.graph(results)).materialized


@pytest.mark.parametrize("behind_view", [False, True])
def test_value_is_stored_if_that_moves_fewer_bytes(behind_view: bool) -> None:
    # Made in two readers: 2 × 2 GB. Stored: 2 GB to make it, 1 to write, 2 to read.
    assert not shared_sum(2, GB, behind_view=behind_view)
    # Made in three: 6 GB. Stored: 2 + 1 + 3.
    assert shared_sum(3, GB, behind_view=behind_view)
    # Of half the size, for two: 4 GB against 2 + 0.5 + 1.
    assert shared_sum(2, GB // 2, behind_view=behind_view)
    assert not shared_sum(1, 4, behind_view=behind_view)


def test_value_made_of_one_buffer_is_never_stored_for_its_readers() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], 4)
    results = [b.run("sum", [fused], 4) for _ in range(9)]
    assert fused not in Fusion(b.graph(results)).materialized


def test_readers_in_the_other_pass_do_not_make_a_value_worth_storing() -> None:
    b = Builder()
    left = b.run("dot", [b.argument(GB)], GB)
    right = b.run("dot", [b.arguments[0]], GB)
    both = b.run("add", [left, right], GB)
    results = [b.run("sum", [both], 4) for _ in range(2)]
    cotangent = b.cotangent()
    gradients = [b.run("sum", [both, cotangent], 4, is_backward=True) for _ in range(2)]
    assert both not in Fusion(b.graph(results, gradients)).materialized


def test_last_read_is_that_of_the_kernel_into_which_the_reader_is_fused() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)  # no step: read by the sum at step 2
    product = b.run("dot", [made], GB)
    total = b.run("sum", [fused], 4)
    steps = forward(b, product, total)
    assert steps.values == (made, product, total)
    assert steps.last_reads == (2, 1, 2)
    assert steps.runs == (0, 2, 3)


def test_copy_to_the_host_reads_its_buffer() -> None:
    graph = products(2)
    steps = lowered(graph, by_hand([0, 1, SwapOut(1)], [2, SwapIn(1), 3]))
    assert steps.forward_count == 3
    assert steps.values == (1, 2, 4, 1, 5)
    # Made and last read by steps: 1 at 0 and 2 (the copy), 2 at 1 and 3, the product
    # of the backward pass at 3 and 5, the value that is back at 4 and 5.
    assert steps.last_reads == (2, 3, 5, 5, 5)


def test_view_of_an_argument_is_copied_from_no_buffer() -> None:
    b = Builder()
    view = b.run("view", [b.argument(GB)], GB)
    product = b.run("dot", [view], GB)
    g = b.run("dot", [b.cotangent(), view], GB, is_backward=True)
    graph = b.graph([product], [g])
    steps = lowered(graph, by_hand([0, SwapOut(view), 1], [SwapIn(view), 2]))
    assert steps.values == (product, view, g)
    assert steps.steps[0] == PlannedCopy(view, NO_BUFFER, False)
    assert steps.steps[2] == PlannedCopy(view, 1, True)
    assert kernels(steps)[-1] == (2, (1,), (2,))


def test_swapped_view_makes_a_buffer_of_what_it_looks_at() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    view = b.run("view", [fused], GB)
    total = b.run("sum", [view], 4)
    graph = b.graph([total])
    steps = lowered(graph, by_hand([0, 1, 2, SwapOut(view), 3]))
    assert steps.values == (made, fused, total)
    assert steps.steps[2] == PlannedCopy(view, 1, False)


def test_copy_is_awaited_once_and_only_after_it_began() -> None:
    graph = products(3)
    waits = Barrier((2,), (1,))
    steps = lowered(graph, by_hand([0, waits, SwapOut(1), 1, waits, 2], [waits, 3, 4]))
    found = [(at, s) for at, s in enumerate(steps.steps) if isinstance(s, Wait)]
    assert found == [(3, Wait((1,)))]
    assert steps.runs == (0, 1, 1, 2, 2, 3, 4)
