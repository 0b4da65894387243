"""When swapped values leave and come back."""

import dataclasses

import pytest
from handmade import MIB, chain, order_over, results_of

from jaxswap._graph.graph import Graph
from jaxswap._schedule.by_distance import ByDistance
from jaxswap._schedule.entries import Entry, backward_entries, forward_entries
from jaxswap._schedule.instructions import Swap
from jaxswap._schedule.timing import Distance, Timing


def entry(
    makes: int,
    reads: tuple[int, ...] = (),
    *,
    is_heavy: bool = False,
    back: bool = False,
) -> Entry:
    flops = 1e12 if is_heavy else 1.0
    return Entry(((makes, False),), reads, (makes,), flops, is_heavy, back)


def heavy_line(count: int, value: int, reads_at: tuple[int, ...]) -> list[Entry]:
    """Value made first, then `count` heavy entries, some of which read the value."""
    line = [entry(value, is_heavy=True)]
    for i in range(1, count + 1):
        reads = (value,) if i in reads_at else ()
        line.append(entry(value + i, reads, is_heavy=True, back=i > count // 2))
    return line


def swap(entries: list[Entry], **timing: object) -> Swap | None:
    layout = ByDistance(order_over(entries), Timing(**timing))  # type: ignore[arg-type]
    return layout.swap_of(0, 64 * MIB)


def test_value_used_soon_stays() -> None:
    assert swap(heavy_line(10, 0, (1, 2))) is None


def test_value_used_late_leaves_behind_one_heavy_entry_and_returns_behind_one() -> None:
    found = swap(heavy_line(10, 0, (9,)))
    assert found is not None
    assert (found.made, found.free_at) == (0, 2)
    assert [(r.gate, r.use) for r in found.returns] == [(8, 9)]


def test_value_leaves_only_after_its_near_uses() -> None:
    found = swap(heavy_line(12, 0, (1, 3, 11)))
    assert found is not None
    assert found.free_at == 4


def test_uses_far_apart_get_a_copy_each_and_near_ones_share() -> None:
    found = swap(heavy_line(30, 0, (9, 11, 25)), swapin_groupby=2)
    assert found is not None
    assert [r.use for r in found.returns] == [9, 25]


def test_swapping_in_farther_ahead_moves_the_gate() -> None:
    found = swap(heavy_line(12, 0, (11,)), swapin_ahead=3)
    assert found is not None
    assert found.returns[0].gate == 8


def test_synchronous_copies_wait_at_once_and_start_when_needed() -> None:
    found = swap(heavy_line(10, 0, (9,)), sync_swapout=True, sync_swapin=True)
    assert found is not None
    assert found.free_at == 1
    assert [(r.gate, r.use) for r in found.returns] == [(None, 9)]


def test_short_heavy_entries_do_not_count_as_cover() -> None:
    line = heavy_line(10, 0, (9,))
    line[8] = dataclasses.replace(line[8], flops=1.0)
    line[1] = dataclasses.replace(line[1], flops=1.0)
    found = swap(line)
    assert found is not None
    assert found.free_at == 3
    assert found.returns[0].gate == 7


def test_forced_swap_happens_even_where_nothing_hides_it() -> None:
    line = [entry(0), entry(1, (0,), back=True)]
    assert swap(line) is None
    found = swap(line, is_forced=True)
    assert found is not None
    assert found.free_at is None
    assert [(r.gate, r.use) for r in found.returns] == [(None, 1)]


def chained(graph: Graph) -> list[Entry]:
    stored = results_of(graph, "dot")
    return [*forward_entries(graph, stored), *backward_entries(graph, stored, 9, MIB)]


@pytest.mark.parametrize("threshold", [1, 10, 1000])
def test_lms_threshold_counts_levels_from_the_producer(threshold: int) -> None:
    graph = chain(8)
    layout = ByDistance(
        order_over(chained(graph)),
        Timing(distance=Distance.LEVEL, swapout_threshold=threshold),
    )
    swapped = [
        v for v in results_of(graph, "dot") if layout.swap_of(v, 64 * MIB) is not None
    ]
    expected = {1: 6, 10: 6, 1000: 0}[threshold]
    assert len(swapped) <= expected + 1
    assert (len(swapped) > 0) == (threshold < 1000)


def test_lms_swaps_in_that_many_levels_ahead() -> None:
    graph = chain(8)
    entries = chained(graph)
    first = results_of(graph, "dot")[0]

    def lead(ahead: int) -> int:
        timing = Timing(
            distance=Distance.LEVEL, swapout_threshold=1, swapin_ahead=ahead
        )
        layout = ByDistance(order_over(entries), timing)
        found = layout.swap_of(first, 64 * MIB)
        assert found is not None
        back = found.returns[-1]
        assert back.gate is not None
        return layout.levels[back.use] - layout.levels[back.gate]

    assert lead(1) >= 1
    assert lead(6) >= 6
    assert lead(6) > lead(1)


def test_no_more_copies_start_at_one_gate_than_run_at_once() -> None:
    line = [entry(v, is_heavy=True) for v in range(20)]
    line.append(entry(20, (0, 1, 2), is_heavy=True, back=True))
    layout = ByDistance(order_over(line), Timing(copies_in_flight=2))
    nbytes = {0: 64 * MIB, 1: 32 * MIB, 2: 64 * MIB}
    swaps = [layout.swap_of(v, nbytes[v]) for v in nbytes]
    spread = layout.spread([s for s in swaps if s is not None], nbytes)
    gates = {s.value: s.returns[0].gate for s in spread}
    assert gates == {0: 19, 1: 18, 2: 19}
    moved = next(s for s in spread if s.value == 1)
    assert moved.returns[0].done_at == 19
