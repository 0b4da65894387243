"""When everything happens and what memory it takes, against clocks worked by hand.

At `rates()` a product takes a second, and so does the copy of a GB either way. Values
of `products` have a GB each; the caller holds three of them: the argument, the result
and the gradient.
"""

import dataclasses

import numpy as np
import pytest
from handmade import GB, Builder, by_hand, products, rates

from jaxswap._gpu.rates import Rates
from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.instructions import (
    Barrier,
    Instruction,
    Schedule,
    SwapIn,
    SwapOut,
)
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.timing import Timing
from jaxswap._simulate.simulate import Simulator
from jaxswap._simulate.timeline import Timeline

SWAP_FIRST = by_hand([0, SwapOut(1), 1, Barrier((2,), (1,)), 2], [3, SwapIn(1), 4, 5])
"""`products(3)`; its first value leaves behind product 1 and returns behind 4."""


def play(graph: Graph, plan: Schedule, at: Rates | None = None) -> Timeline:
    return Simulator(graph, at or rates()).play(plan)


def gigabytes(nbytes: np.ndarray) -> list[float]:
    return [round(float(n) / GB, 3) for n in nbytes]


def test_hidden_copies_cost_no_time() -> None:
    timeline = play(products(3), SWAP_FIRST)
    # 0 product, 1 copy out, 2 product, 3 wait, 4, 5 products, 6 copy in, 7, 8 products
    assert timeline.starts.tolist() == [0, 1, 1, 2, 2, 3, 4, 4, 5]
    assert timeline.seconds_of == pytest.approx([1, 0, 1, 0, 1, 1, 0, 1, 1])
    assert not timeline.stalls.any()
    assert timeline.seconds == 6
    out, back = timeline.transfers
    assert (out.step, out.start_seconds, out.end_seconds) == (1, 1, 2)
    assert (back.step, back.start_seconds, back.end_seconds) == (6, 4, 5)
    assert (out.is_inward, back.is_inward) == (False, True)


def test_computation_waits_for_slow_copies() -> None:
    timeline = play(products(3), SWAP_FIRST, rates(link=0.5e9))
    # The copy out takes from 1 to 3, the one back from 5 to 7; product 5 needs it.
    assert timeline.starts.tolist() == [0, 1, 1, 3, 3, 4, 5, 5, 7]
    assert timeline.stalls.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert timeline.seconds == 8
    assert timeline.stall_seconds == 2


def test_memory_at_every_step() -> None:
    timeline = play(products(3), SWAP_FIRST)
    assert timeline.caller_bytes == 3 * GB
    # Held: the first value at 0 to 2 and, back again, at 6 to 8; the second from 2 to
    # its use at 7; the results of the backward pass at 5 to 7 and at 7 to 8.
    assert gigabytes(timeline.device_bytes_at) == [4, 4, 5, 4, 4, 5, 6, 7, 5]
    assert timeline.device_bytes == 7 * GB
    assert gigabytes(timeline.host_bytes_at) == [0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert timeline.host_bytes == GB


def test_what_a_sweep_writes_to_the_host_is_there_until_it_is_read() -> None:
    graph = products(3)
    values, equations = list(graph.values), list(graph.equations)
    values[2] = dataclasses.replace(values[2], nbytes=0, host_nbytes=GB)
    graph = dataclasses.replace(graph, values=tuple(values))
    everything = by_hand([0, 1, 2], [3, 4, 5])
    assert gigabytes(play(graph, everything).host_bytes_at) == [0, 1, 1, 1, 1, 0]
    # A loop of the program is said to hold it all the time.
    equations[1] = dataclasses.replace(equations[1], primitive="scan")
    graph = dataclasses.replace(graph, equations=tuple(equations))
    assert gigabytes(play(graph, everything).host_bytes_at) == [1] * 6


def test_memory_does_not_depend_on_the_clock() -> None:
    fast = play(products(3), SWAP_FIRST)
    slow = play(products(3), SWAP_FIRST, rates(link=1e6))
    assert fast.device_bytes_at.tolist() == slow.device_bytes_at.tolist()


@pytest.mark.parametrize(
    ("forward", "freed"),
    [
        ([0, SwapOut(1), 1, Barrier((2,), (1,)), 2], 2),  # right before the wait
        ([0, SwapOut(1), 1, 2, Barrier((3,), (1,))], 3),
        ([0, SwapOut(1), 1, 2], 3),  # nothing waits: the end of the pass
        ([0, SwapOut(1), Barrier((1,), (1,)), 1, 2], 3),  # read after the wait
    ],
)
def test_buffer_is_free_once_its_copy_was_awaited(
    forward: list[int | Instruction], freed: int
) -> None:
    plan = by_hand(forward, [3, SwapIn(1), 4, 5])
    assert play(products(3), plan).freed[0] == freed


def test_copies_of_one_direction_queue() -> None:
    plan = by_hand([0, SwapOut(1), 1, SwapOut(2), 2], [3, SwapIn(2), SwapIn(1), 4, 5])
    timeline = play(products(3), plan, rates(link=0.4e9, out_share=1.0, in_share=1.0))
    spans = [(t.start_seconds, t.end_seconds) for t in timeline.transfers]
    # Copies take 2.5 seconds and are issued at 1, 2, 4 and 4. The second value is on
    # the host at 6, so its copy back cannot begin before, nor the other before that.
    assert spans == [(1, 3.5), (3.5, 6), (6, 8.5), (8.5, 11)]
    assert timeline.starts[-2:].tolist() == [8.5, 11]
    assert timeline.seconds == 12


def meeting_copies(nbytes: int) -> tuple[Graph, Schedule]:
    """`second` leaves from 2 to 4 and `first`, which left at once, returns from 3."""
    b = Builder()
    first = b.run("dot", [b.argument(GB)], nbytes)
    second = b.run("dot", [first], 2 * GB)
    last = b.run("dot", [second], GB)
    g = b.run("dot", [b.cotangent(), first], GB, is_backward=True)
    g = b.run("dot", [g, second], GB, is_backward=True)
    plan = by_hand(
        [0, SwapOut(first), 1, SwapOut(second), 2],
        [SwapIn(first), 3, SwapIn(second), 4],
    )
    return b.graph([last], [g]), plan


@pytest.mark.parametrize(
    ("share", "nbytes", "seconds"),
    [
        (0.5, GB, 1.5),  # half as fast for the second of overlap, then 0.5 to go
        (0.5, 2 * GB // 5, 0.8),  # done before the other is
        (1.0, GB, 1.0),
    ],
)
def test_copies_both_ways_share_the_link(
    share: float, nbytes: int, seconds: float
) -> None:
    graph, plan = meeting_copies(nbytes)
    timeline = play(graph, plan, rates(in_share=share))
    assert (timeline.transfers[1].start_seconds, timeline.transfers[1].seconds) == (
        2,
        2,
    )
    assert timeline.transfers[2].start_seconds == 3
    assert timeline.transfers[2].seconds == pytest.approx(seconds)
    alone = play(graph, plan, rates(in_share=share, link=100e9))
    assert alone.transfers[2].seconds == pytest.approx(nbytes / 100e9)


@pytest.mark.parametrize(("out_share", "in_share"), [(0.5, 1.0), (1.0, 0.5)])
def test_each_direction_keeps_a_share_of_its_own(
    out_share: float, in_share: float
) -> None:
    graph, plan = meeting_copies(GB)
    at = rates(out_share=out_share, in_share=in_share)
    returned = play(graph, plan, at).transfers[2]
    assert returned.seconds == pytest.approx({1.0: 1.0, 0.5: 1.5}[in_share])


def test_copy_has_a_fixed_cost() -> None:
    timeline = play(products(3), SWAP_FIRST, rates(copy_latency_seconds=0.25))
    assert [t.seconds for t in timeline.transfers] == [1.25, 1.25]
    assert timeline.stalls.tolist() == [0, 0, 0, 0.25, 0, 0, 0, 0, 0.25]


def test_each_direction_has_its_own_rate() -> None:
    at = dataclasses.replace(rates(), swap_in_bytes_per_second=0.8e9)
    timeline = play(products(3), SWAP_FIRST, at)
    assert [t.seconds for t in timeline.transfers] == [1, 1.25]
    assert timeline.seconds == 6.25


def test_issuing_a_copy_costs_a_launch() -> None:
    graph, at = products(3), rates(launch_seconds=0.25)
    kept = play(graph, by_hand([0, 1, 2], [3, 4, 5]), at)
    assert kept.seconds == 6 * 1.25
    timeline = play(graph, SWAP_FIRST, at)
    assert timeline.seconds == 6 * 1.25 + 2 * 0.25
    assert [t.start_seconds for t in timeline.transfers] == [1.5, 5.5]


def test_step_is_over_when_the_last_copy_is() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], 3 * GB)
    timeline = play(b.graph([made]), by_hand([0, SwapOut(made)]))
    assert timeline.seconds == 4
    assert timeline.stall_seconds == 3


def seconds(b: Builder, *, launch_seconds: float = 1e-30) -> list[float]:
    """Seconds of each kernel of the forward pass, the last equation's its result."""
    graph = b.graph([len(b.values) - 1])
    at = rates(launch_seconds=launch_seconds)
    timeline = play(graph, by_hand(range(len(graph.equations))), at)
    return timeline.seconds_of.tolist()


def test_kernel_takes_the_longer_of_arithmetic_and_bytes() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)  # 1e12 operations
    made = b.run("dot", [made], GB, flops=1e9)  # 1 ms against 2 GB
    made = b.run("dot", [made], GB, flops=4e9)  # 4 ms
    b.run("dot", [made], GB, flops=4e9, tile_flops=6e9)  # in whole tiles 6 ms
    assert seconds(b) == pytest.approx([1, 2e-3, 4e-3, 6e-3])
    assert seconds(b, launch_seconds=0.5) == pytest.approx([1.5, 0.502, 0.504, 0.506])


def test_unknown_operation_is_charged_by_its_bytes() -> None:
    b = Builder()
    made = b.run("opaque", [b.argument(3 * GB)], 2 * GB, flops=1e15)
    b.run("opaque", [made], GB, inner_bytes=7e9)  # a loop that moves 7 GB inside
    assert seconds(b) == pytest.approx([5e-3, 7e-3])


def test_fused_kernel_is_charged_for_the_buffers_that_it_is_made_of() -> None:
    b = Builder()
    left = b.run("opaque", [b.argument(GB)], GB)
    right = b.run("opaque", [b.arguments[0]], 3 * GB)
    h = b.run("tanh", [b.run("mul", [left, right], 3 * GB)], 3 * GB)
    first = b.run("sum", [h], GB // 2)
    second = b.run("sum", [right], GB // 4)  # fused with it: its result alone
    b.run("opaque", [first, second], GB)
    expected = [2e-3, 4e-3, 4.5e-3, 0.25e-3, 1.75e-3]
    assert seconds(b) == pytest.approx(expected)
    launches = np.array([1, 1, 1, 0, 1])
    assert seconds(b, launch_seconds=1.0) == pytest.approx(expected + launches)


def test_recomputations_of_a_chain_are_charged_as_a_chain() -> None:
    graph = products(4)

    def recomputed(*values: int) -> tuple[float, float]:
        actions = [Action.KEEP] * len(graph.values)
        for v in values:
            actions[v] = Action.RECOMPUTE
        timeline = play(graph, schedule(graph, actions, Timing()))
        return timeline.recompute_seconds, timeline.seconds

    assert recomputed() == (0, 8)
    assert recomputed(2) == (1, 9)
    assert recomputed(1, 2, 3) == (3, 11)
    # The fourth value, which the backward pass reads first, needs the three before.
    assert recomputed(1, 2, 3, 4) == (4, 12)


def test_recomputed_chain_holds_all_its_values() -> None:
    graph = products(3)
    kept = play(graph, by_hand([0, 1, 2], [3, 4, 5]))
    # Value 1 is held up to the end, value 2 up to step 4, which reads it and makes one
    # result of the backward pass from another.
    assert gigabytes(kept.device_bytes_at) == [4, 5, 5, 6, 7, 5]
    again = play(graph, by_hand([0, 1, 2], [3, 0, 1, 4, 5]))
    # Both are gone at step 3. Steps 4 and 5 make them again, one from the other.
    assert gigabytes(again.device_bytes_at) == [4, 5, 4, 4, 5, 6, 7, 5]


def test_a_kernel_that_sums_has_a_rate_of_its_own() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    b.run("sum", [made], 4)
    graph = b.graph([len(b.values) - 1])
    at = dataclasses.replace(rates(), reduction_bytes_per_second=1e11)
    timeline = play(graph, by_hand(range(2)), at)
    assert timeline.seconds_of == pytest.approx([1, 1e-2])  # a GB at 100 GB a second


def with_fields(graph: Graph, **fields: float | str) -> Graph:
    """The same program, its equations changed."""
    equations = (dataclasses.replace(e, **fields) for e in graph.equations)
    return dataclasses.replace(graph, equations=tuple(equations))


def test_a_convolution_that_converts_takes_longer_and_needs_a_workspace() -> None:
    graph = with_fields(products(1), workspace_bytes=GB)
    at = dataclasses.replace(rates(), conversion_bytes_per_second=4e9)
    run = by_hand([0], [1])
    plain, converted = play(products(1), run, at), play(graph, run, at)
    # Two GB are read and written at four a second, after a second of arithmetic.
    assert plain.seconds_of == pytest.approx([1, 1])
    assert converted.seconds_of == pytest.approx([1.5, 1.5])
    more = converted.device_bytes_at - plain.device_bytes_at
    assert more.tolist() == [GB, GB]


def test_copies_for_groups_are_merged_unless_a_barrier_lies_between() -> None:
    b = Builder()
    x, c = b.argument(GB), b.cotangent()
    y = b.run("dot", [x], GB)
    z = b.run("dot", [y], GB)
    of_y = b.run("dot", [y, c], GB, is_backward=True)
    of_x = b.run("dot", [x, of_y], GB, is_backward=True)
    fields = {"primitive": "ragged_dot_general", "workspace_bytes": 8 * GB}
    graph = with_fields(b.graph([z], [of_x]), **fields)

    def extra(plan: Schedule) -> list[int]:
        alone = with_fields(graph, primitive="dot")
        more = play(graph, plan).device_bytes_at - play(alone, plan).device_bytes_at
        return (more // GB).tolist()

    # `x` is copied for the first and the last product, `y` for the two in between.
    assert extra(by_hand([0, 1], [2, 3])) == [0, 8, 8, 0]
    # An argument passes no barrier.
    assert extra(by_hand([0, 1], [Barrier((y,), ()), 2, 3])) == [0, 8, 8, 0]
    # Two copies of `y` that are not next to one another.
    apart = by_hand([1, 0], [3, 2])
    assert extra(apart) == [0, 8, 8, 0]
    assert extra(by_hand([1, 0], [Barrier((y,), ()), 3, 2])) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("tile_count", "factor"),
    [
        (0, 1.0),  # says nothing
        (4, 1.0),
        (8, 1.0),
        (5, 8 / 5),  # one tile in the second wave
        (3, 4 / 3),
        (1, 2.0),  # split along the sum
    ],
)
def test_a_product_takes_as_long_as_its_waves_of_tiles(
    tile_count: int, factor: float
) -> None:
    graph = with_fields(products(1), tile_count=tile_count)
    at = dataclasses.replace(rates(), tiles_at_once=4.0)
    timeline = play(graph, by_hand([0], [1]), at)
    assert timeline.seconds_of == pytest.approx([factor, factor])
