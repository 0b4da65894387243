"""Drafts of `products`, laid out by a clock worked by hand.

Entry `i` runs equation `i`, from second `i` to `i + 1` if nothing is waited for. Value
`i + 1` has a GB; the caller holds three. Of six products the backward pass reads value
6 at entry 6, value 5 at entry 7, and so on to value 1 at entry 11.
"""

import pytest
from handmade import GB, MIB, Builder, chain, products, rates

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.entries import entries_of
from jaxswap._schedule.instructions import Barrier, Return, Swap
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.lms import LMS
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._schedule.timing import Timing
from jaxswap._simulate.draft import (
    ORDERS_KEPT,
    STALE_AFTER,
    Arranger,
    Draft,
    device_bytes_at,
    entry_of_steps,
    seconds_at,
)

ROOMY = 100 * GB


def actions_of(
    graph: Graph, away: tuple[int, ...] = (), again: tuple[int, ...] = ()
) -> list[Action]:
    actions = [Action.KEEP] * len(graph.values)
    for v in away:
        actions[v] = Action.OFFLOAD
    for v in again:
        actions[v] = Action.RECOMPUTE
    return actions


def arrange(away: tuple[int, ...], limit: int = ROOMY, *, link: float = 1e9) -> Draft:
    """Six products."""
    graph = products(6)
    arranger = Arranger(graph, rates(link=link), GB)
    return arranger.arrange(actions_of(graph, away), limit)


def gates(draft: Draft) -> dict[int, int | None]:
    return {swap.value: back.gate for swap in draft.swaps for back in swap.returns}


def test_nothing_leaves_that_is_to_stay_or_has_no_time_to_leave() -> None:
    kept = arrange(())
    assert kept.swaps == ()
    assert kept.timeline.seconds == 12
    assert kept.timeline.device_bytes == 10 * GB
    # The next entry reads value 6.
    assert arrange((6,)).schedule == kept.schedule


def test_copies_are_hidden_where_there_is_room() -> None:
    # A copy takes 4 seconds: value 1 leaves from 1 to 5 and returns from 7 to 11.
    draft = arrange((1,), link=0.25e9)
    assert draft.swaps == (Swap(1, 0, 5, (Return(7, 11),)),)
    assert draft.timeline.seconds == 12
    assert draft.timeline.device_bytes == 10 * GB


def test_copy_is_late_where_memory_is_short() -> None:
    # Entry 7 holds three GB of the caller's, values 1 to 5 and two results of the
    # backward pass. With 9 GB value 1 has to wait for entry 8, and comes at 12.
    draft = arrange((1,), 9 * GB, link=0.25e9)
    assert draft.swaps == (Swap(1, 0, 5, (Return(8, 11),)),)
    assert draft.timeline.seconds == 13
    assert draft.timeline.device_bytes == 9 * GB


ALL = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("limit", [7, 8, 10, 100])
def test_copies_that_take_as_long_as_products_follow_one_another(limit: int) -> None:
    # Each is away from the entry after next to the one before its use. Entry 7 and
    # those behind it hold two values that are back and two of the backward pass.
    draft = arrange(ALL, limit * GB)
    assert [(s.made, s.free_at) for s in draft.swaps] == [(i, i + 2) for i in range(5)]
    assert gates(draft) == {1: 10, 2: 9, 3: 8, 4: 7, 5: 6}
    assert draft.timeline.seconds == 12
    assert draft.timeline.device_bytes == 7 * GB


def test_copies_wait_for_their_use_where_one_value_alone_fits() -> None:
    # Entry 7 on: the caller's three, one value, and two of the backward pass. Only
    # value 5, which entry 6 has room for, comes in time; four seconds are waited for.
    draft = arrange(ALL, 6 * GB)
    assert gates(draft) == {1: None, 2: None, 3: None, 4: None, 5: 6}
    assert draft.timeline.seconds == 16
    assert draft.timeline.device_bytes == 6 * GB


def test_draft_below_what_is_possible_is_the_smallest() -> None:
    draft = arrange(ALL, 0)
    assert set(gates(draft).values()) == {None}
    assert draft.timeline.seconds == 17
    assert draft.timeline.device_bytes == 6 * GB


@pytest.mark.parametrize(
    ("patience", "returns"),
    [(2.0, (Return(4, 5), Return(8, 9))), (2.5, (Return(4, 5),))],
)
def test_impatient_values_stay_over_short_gaps(
    patience: float, returns: tuple[Return, ...]
) -> None:
    b = Builder()
    first = h = b.run("dot", [b.argument(GB)], GB)
    for _ in range(4):
        h = b.run("dot", [h], GB)
    h = b.run("dot", [h, first], GB)
    g = b.cotangent()
    for inputs in ([], [], [], [first]):
        g = b.run("dot", [g, *inputs], GB, is_backward=True)
    graph = b.graph([h], [g])
    # Entry 1 reads the value, and 5 and 9: gaps of 4 seconds for 2 seconds of copies.
    draft = Arranger(graph, rates(), GB).arrange(
        actions_of(graph, (first,)), ROOMY, patience=patience
    )
    assert draft.swaps == (Swap(first, 0, 2, returns),)


def test_value_of_the_backward_pass_leaves_while_it_lies_idle() -> None:
    b = Builder()
    x = b.argument(GB)
    out = b.run("dot", [x], GB)
    idle = g = b.run("dot", [b.cotangent(), x], GB, is_backward=True)
    for _ in range(4):
        g = b.run("dot", [g], GB, is_backward=True)
    g = b.run("dot", [g, idle], GB, is_backward=True)
    graph = b.graph([out], [g])
    draft = Arranger(graph, rates(), GB).arrange(actions_of(graph, (idle,)), ROOMY)
    # Made by entry 1, read by 2 and 6; copied from 2 to 3 and from 5 to 6.
    assert draft.swaps == (Swap(idle, 1, 3, (Return(5, 6),)),)
    assert draft.timeline.seconds == 7


def test_eager_copy_is_awaited_before_its_use() -> None:
    graph = products(6)
    arranger = Arranger(graph, rates(), GB)
    draft = arranger.arrange(actions_of(graph, (1,)), ROOMY, eager=(1,))
    assert draft.swaps == (Swap(1, 0, 2, (Return(9, 11, 10),)),)
    barriers = [step for step in draft.schedule.backward if isinstance(step, Barrier)]
    assert any(1 in barrier.device for barrier in barriers)
    assert draft.timeline.seconds == 12


def test_draft_says_what_it_was_made_of() -> None:
    graph = products(6)
    arranger = Arranger(graph, rates(), 2 * GB)
    actions = actions_of(graph, (1,), (3,))
    draft = arranger.arrange(actions, ROOMY)
    assert draft.actions == tuple(actions)
    assert draft.staleness == (STALE_AFTER, 2 * GB)
    assert draft.entries == entries_of(graph, actions, STALE_AFTER, 2 * GB)
    assert draft.schedule.swaps == draft.swaps
    assert draft.timeline.recompute_seconds == 1
    again = arranger.draft(draft.actions, draft.swaps, draft.staleness)
    assert again.schedule == draft.schedule


def test_orders_are_remembered_by_what_is_recomputed() -> None:
    graph = products(8)
    arranger = Arranger(graph, rates(), GB)

    def entries(away: tuple[int, ...], again: tuple[int, ...]) -> object:
        return arranger.arrange(actions_of(graph, away, again), ROOMY).entries

    first = entries((1,), (3,))
    assert entries((1, 2), (3,)) is first
    assert entries((1,), (4,)) is not first
    for number in range(ORDERS_KEPT + 9):
        again = tuple(v for v in range(1, 8) if number >> (v - 1) & 1)
        entries((8,), again)
    assert len(arranger._orders) == ORDERS_KEPT
    assert entries((), (3, 7)) == entries_of(
        graph, actions_of(graph, (), (3, 7)), STALE_AFTER, GB
    )


@pytest.mark.parametrize(
    "policy",
    [SwapHeavy(), LMS(1, 1), LMS(1, 6, 2), LMS(1, 1, sync_mode=3)],
    ids=["default", "lms", "lms-ahead", "lms-sync"],
)
def test_following_a_policy_reproduces_its_schedule(policy: SwapHeavy | LMS) -> None:
    graph = chain(8)
    decision = policy.decide(graph)
    draft = Arranger(graph, rates(), 64 * MIB).follow(decision)
    expected = schedule(graph, decision.actions, decision.timing)
    assert expected.swaps
    assert draft.swaps == expected.swaps
    assert draft.schedule == expected


def test_following_a_policy_keeps_its_staleness() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    g = b.run("mul", [b.cotangent(), fused], GB, is_backward=True)
    for _ in range(4):
        g = b.run("dot", [g], GB, is_backward=True)
    g = b.run("mul", [g, fused], GB, is_backward=True)
    graph = b.graph([made], [g])
    arranger = Arranger(graph, rates(), GB)

    def recomputations(threshold: int, min_bytes: int = GB) -> int:
        timing = Timing(swapout_threshold=threshold, min_bytes=min_bytes)
        actions = tuple(actions_of(graph, again=(fused,)))
        draft = arranger.follow(Decision(actions, timing))
        assert draft.staleness == (2 * threshold, min_bytes)
        return sum(entry.is_recomputed for entry in draft.entries)

    # Four products lie between the uses of `tanh`.
    assert [recomputations(1), recomputations(2), recomputations(1, GB + 1)] == [
        2,
        1,
        1,
    ]


def test_steps_belong_to_the_entry_that_issues_next() -> None:
    graph = products(3)
    arranger = Arranger(graph, rates(), GB)
    draft = arranger.draft(actions_of(graph), [Swap(1, 0, 2, (Return(4, 5),))])
    # Kernel, copy out; kernel; wait, kernel; kernel; copy in, kernel; kernel. A copy
    # out runs beside the entry behind the one that made the value.
    found = entry_of_steps(draft.entries, draft.timeline)
    assert found.tolist() == [0, 1, 1, 2, 2, 3, 4, 4, 5]
    assert seconds_at(draft.entries, draft.timeline) == pytest.approx([1] * 6)
    most = device_bytes_at(draft.entries, draft.timeline) / GB
    assert most == pytest.approx([4, 5, 4, 5, 7, 5])


def test_fused_entries_take_no_time_and_the_memory_of_those_before() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    view = b.run("view", [made], GB)
    product = b.run("dot", [view], 2 * GB)
    total = b.run("sum", [b.run("add", [product, fused], GB)], GB)
    graph = b.graph([total])
    draft = Arranger(graph, rates(), GB).draft(actions_of(graph), ())
    assert [len(entry.parts) for entry in draft.entries] == [1, 1, 2, 1, 1]
    found = entry_of_steps(draft.entries, draft.timeline)
    assert found.tolist() == [0, 2, 4]
    # The sum reads 3 GB and writes one.
    seconds = seconds_at(draft.entries, draft.timeline)
    assert seconds == pytest.approx([1, 0, 1, 0, 4e-3])
    most = device_bytes_at(draft.entries, draft.timeline) / GB
    assert most.tolist() == [3, 3, 5, 5, 5]
