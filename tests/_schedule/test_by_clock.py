"""Copies laid out by a clock on which every entry takes a second.

Entry `i` runs from second `i` to `i + 1` and makes value `i`; values take 100 bytes.
"""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
import pytest
from handmade import order_over

from jaxswap._schedule.by_clock import (
    Absence,
    Clock,
    absences,
    place,
    tight,
)
from jaxswap._schedule.entries import Entry
from jaxswap._schedule.instructions import Return, Swap
from jaxswap._schedule.order import Order
from jaxswap._schedule.timing import COPIES_IN_FLIGHT

LIMIT = 1000
COUNT = 12


def line(
    uses: Mapping[int, Collection[int]],
    *,
    light: Collection[int] = (),
    count: int = COUNT,
) -> Order:
    """Heavy entries, but for the `light` ones; `uses` says which read which value."""
    return order_over(
        [
            Entry(
                parts=((i, False),),
                reads=tuple(v for v in uses if i in uses[v]),
                makes=(i,),
                flops=1e12,
                is_heavy=i not in light,
                is_backward=i > count // 2,
            )
            for i in range(count)
        ]
    )


def clock(
    out: Mapping[int, float],
    back: Mapping[int, float],
    used: Mapping[int, int] | None = None,
    nbytes: Mapping[int, int] | None = None,
) -> Clock:
    starts = np.arange(float(COUNT))
    device_bytes = np.zeros(COUNT, np.int64)
    for at, total in (used or {}).items():
        device_bytes[at] = total
    sizes = dict.fromkeys(out, 100) | dict(nbytes or {})
    return Clock(starts, starts + 1, device_bytes, out, back, sizes)


def placed(
    uses: Mapping[int, Collection[int]],
    *,
    out: Mapping[int, float] | float = 0.5,
    back: Mapping[int, float] | float = 0.5,
    used: Mapping[int, int] | None = None,
    nbytes: Mapping[int, int] | None = None,
    light: Collection[int] = (),
    eager: Collection[int] = (),
) -> dict[int, Swap]:
    """Every value away in each of its gaps."""
    order = line(uses, light=light)
    gaps = absences(order, uses, np.arange(float(COUNT)), dict.fromkeys(uses, 0.0))
    outs = dict.fromkeys(uses, out) if isinstance(out, float | int) else out
    backs = dict.fromkeys(uses, back) if isinstance(back, float | int) else back
    swaps = place(order, gaps, clock(outs, backs, used, nbytes), LIMIT, eager)
    return {swap.value: swap for swap in swaps}


def gate(swap: Swap) -> int | None:
    """The gate of a swap with one return."""
    (back,) = swap.returns
    return back.gate


def gaps_of(
    uses: Collection[int], seconds: float, patience: float = 1.0
) -> list[tuple[int, int, bool]]:
    found = absences(
        line({0: uses}), [0], np.arange(float(COUNT)), {0: seconds}, patience
    )
    return [(gap.left, gap.use, gap.is_first) for gap in found]


def test_gap_is_taken_if_both_copies_fit_into_it() -> None:
    assert gaps_of([3, 10], 3.0) == [(0, 3, True), (3, 10, False)]
    assert gaps_of([3, 10], 3.5) == [(3, 10, True)]
    assert gaps_of([3, 10], 2.0, patience=1.5) == [(0, 3, True), (3, 10, False)]
    assert gaps_of([3, 10], 2.0, patience=1.6) == [(3, 10, True)]


def test_longest_gap_is_taken_though_nothing_fits_into_it() -> None:
    assert gaps_of([3, 10], 100.0) == [(3, 10, True)]


def test_stretch_in_which_nothing_heavy_runs_is_no_gap() -> None:
    order = line({0: [1, 3, 6]}, light=[2])
    assert order.gaps(0) == [(3, 6)]
    assert absences(line({0: [1]}), [0], np.arange(float(COUNT)), {0: 0.0}) == []
    assert order.gaps(COUNT) == []  # never made


def test_tight_swaps_are_away_for_as_long_as_can_be() -> None:
    order = line({0: [4, 9]}, light=[1, 8])
    gaps = [Absence(0, 0, 4, is_first=True), Absence(0, 4, 9, is_first=False)]
    returns = (Return(3, 4), Return(7, 9))
    assert tight(order, gaps) == (Swap(0, 0, 2, returns),)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, 10), (1.0, 10), (1.5, 9), (2.5, 8), (99.0, 2)]
)
def test_copy_back_starts_as_late_as_hides_it(seconds: float, expected: int) -> None:
    # Needed at second 11. The longest begins as soon as the value is on the host,
    # which entry 2 waits for: made at 1, it is copied until 1.5.
    (swap,) = placed({0: [11]}, back=seconds).values()
    assert swap == Swap(0, 0, 2, (Return(expected, 11),))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, 2), (1.0, 2), (1.5, 3), (5.0, 6), (99.0, 10)]
)
def test_copy_out_is_awaited_by_what_begins_after_it(
    seconds: float, expected: int
) -> None:
    # It begins at 1, when the value is made. The last heavy entry before the use
    # waits for it in any case.
    (swap,) = placed({0: [11]}, out=seconds).values()
    assert swap.free_at == expected


def test_copies_back_queue_from_the_last_to_the_first() -> None:
    swaps = placed({0: [11], 1: [10], 2: [9]}, back=2)
    # The last takes 9 to 11. The one before, due at 10, has to be done by 9 and takes
    # 7 to 9, the first one 5 to 7.
    assert [gate(swaps[v]) for v in (0, 1, 2)] == [9, 7, 5]


def test_copies_back_that_do_not_meet_do_not_wait_for_each_other() -> None:
    swaps = placed({0: [11], 1: [8]}, back=2)
    assert [gate(swaps[v]) for v in (0, 1)] == [9, 6]


def test_copies_out_queue_in_the_order_of_making() -> None:
    swaps = placed({0: [11], 1: [10], 5: [9]}, out=2)
    # From 1 to 3, from 3 (made at 2) to 5, from 6 to 8.
    assert [swaps[v].free_at for v in (0, 1, 5)] == [3, 5, 8]


def test_full_memory_delays_the_copy_back() -> None:
    hidden = placed({0: [11]}, back=3, used={8: 900})
    assert gate(hidden[0]) == 8
    late = placed({0: [11]}, back=3, used={8: 901})
    assert gate(late[0]) == 9
    # At the entry before the use the value is there anyhow.
    assert gate(placed({0: [11]}, back=3, used={9: 901, 10: 1000})[0]) == 10


def test_late_copy_back_holds_up_those_before_it_the_less() -> None:
    # The last takes 8 to 11, so the one before, due at 10, 7 to 8. Where memory puts
    # off the last until 9, the one before may take 8 to 9.
    uses, back = {0: [11], 1: [10]}, {0: 3, 1: 1}
    hidden = placed(uses, back=back)
    assert [gate(hidden[v]) for v in (0, 1)] == [8, 7]
    late = placed(uses, back=back, used={8: 930}, nbytes={1: 50})
    assert [gate(late[v]) for v in (0, 1)] == [9, 8]


def test_copy_back_that_nothing_makes_room_for_starts_when_needed() -> None:
    swaps = placed({0: [11]}, used={10: 1001})
    assert swaps[0].returns == (Return(None, 11),)
    swaps = placed({0: [11]}, back=3, used={9: 901, 10: 1001})
    assert swaps[0].returns == (Return(None, 11),)
    # The entries up to its use no longer hold it: the next one has the room.
    swaps = placed({0: [11], 1: [11]}, used={9: 901, 10: 1001})
    assert [gate(swaps[v]) for v in (0, 1)] == [None, 10]


def test_copies_back_fill_memory_for_each_other() -> None:
    # Both take 2 seconds. Of the last, from 9 on, entry 9 holds 900 + 100 bytes; the
    # other, of 7 to 9, does not fit beside it and comes at entry 10.
    swaps = placed({0: [11], 1: [11]}, back=2, used={9: 900})
    assert [gate(swaps[v]) for v in (0, 1)] == [9, 10]
    swaps = placed({0: [11], 1: [11]}, back=2, used={9: 800})
    assert [gate(swaps[v]) for v in (0, 1)] == [9, 7]


def test_full_memory_makes_computation_wait_for_the_copy_out() -> None:
    hidden = placed({0: [11]}, out=5, used={4: 900})
    assert hidden[0].free_at == 6
    awaited = placed({0: [11]}, out=5, used={4: 901})
    assert awaited[0].free_at == 4
    at_once = placed({0: [11]}, out=5, used={1: 901})
    assert at_once[0].free_at == 1


def test_waiting_for_a_copy_out_puts_off_all_that_follows() -> None:
    # The copy of 0 takes 1 to 6, that of 1 6 to 7. If entry 4 waits for the first it
    # begins at 6, so entry 5 at 7.
    uses, out = {0: [11], 1: [10]}, {0: 5, 1: 1}
    hidden = placed(uses, out=out)
    assert [hidden[v].free_at for v in (0, 1)] == [6, 7]
    awaited = placed(uses, out=out, used={4: 930}, nbytes={1: 50})
    assert [awaited[v].free_at for v in (0, 1)] == [4, 5]


def test_values_on_their_way_out_fill_memory_for_each_other() -> None:
    # Entry 4 holds the first, which leaves until 6, and has no room for the second.
    swaps = placed({0: [11], 1: [10]}, out={0: 5, 1: 1}, used={4: 801})
    assert [swaps[v].free_at for v in (0, 1)] == [6, 4]


def test_only_so_many_copies_back_start_at_one_entry() -> None:
    values = range(COPIES_IN_FLIGHT + 1)
    swaps = placed(dict.fromkeys(values, (11,)), back=0.25)
    assert [gate(swaps[v]) for v in values] == [10] * COPIES_IN_FLIGHT + [9]


def test_value_read_time_and_again_returns_each_time() -> None:
    (swap,) = placed({0: [4, 8, 11]}, back=1.5).values()
    assert swap.returns == (Return(2, 4), Return(6, 8), Return(9, 11))
    # One heavy entry in each gap: no copy starts before the use that the value is
    # there for.
    (swap,) = placed({0: [4, 6, 8]}, back=9.0).values()
    assert swap.returns == (Return(2, 4), Return(4, 6), Return(6, 8))


def test_eager_copy_is_done_one_heavy_entry_before_its_use() -> None:
    uses = {0: [11]}
    assert placed(uses, back=1.5)[0].returns == (Return(9, 11),)
    assert placed(uses, back=1.5, eager=[0])[0].returns == (Return(8, 11, 10),)
    assert placed(uses, back=1.5, light=[10], eager=[0])[0].returns == (
        Return(7, 11, 9),
    )
    # Where it cannot start before that entry, there is nothing to wait for.
    full = placed(uses, back=1.5, used={8: 901, 9: 901}, eager=[0])
    assert full[0].returns == (Return(10, 11),)


def test_only_heavy_entries_hold_up_copies() -> None:
    (swap,) = placed({0: [11]}, out=1.5, back=2.5, light=[3, 8, 10]).values()
    # The copy out is done at 2.5: not entry 3, but 4. Nor does a copy back of 8.5 to
    # 11 start at 8, but at 7.
    assert swap == Swap(0, 0, 4, (Return(7, 11),))


def test_value_without_a_heavy_entry_to_wait_for_it_returns_when_needed() -> None:
    order = line({0: [COUNT - 1]}, light=range(1, COUNT))
    gap = Absence(0, 0, COUNT - 1, is_first=True)
    (swap,) = place(order, [gap], clock({0: 1.0}, {0: 1.0}), LIMIT)
    assert swap == Swap(0, 0, None, (Return(None, COUNT - 1),))


def test_placing_leaves_the_clock_as_it_was() -> None:
    order = line({0: [11]})
    gaps = [Absence(0, 0, 11, is_first=True)]
    given = clock({0: 5.0}, {0: 3.0}, {4: 901})
    before = dataclasses.replace(
        given, starts=given.starts.copy(), device_bytes=given.device_bytes.copy()
    )
    place(order, gaps, given, LIMIT)
    assert given.starts.tolist() == before.starts.tolist()
    assert given.device_bytes.tolist() == before.device_bytes.tolist()
