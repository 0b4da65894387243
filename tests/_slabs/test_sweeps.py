"""Sweeps of programs written by hand."""

import itertools
from fractions import Fraction

from slab_frames import (
    FINE,
    GRID,
    NORMALIZED,
    centred,
    convolution,
    mean,
    planned,
)

from jaxswap._slabs.frame import Axis, Frame, Kind, Step
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.levels import levels_of
from jaxswap._slabs.storing import Storage, flops_of, heavy_results
from jaxswap._slabs.sweeps import Sweep, Sweeping, sweeps_of
from jaxswap._slabs.windows import SAME, Stencil, Window


def test_what_reads_a_sum_runs_one_sweep_later() -> None:
    levels = levels_of(NORMALIZED)
    assert levels.steps == (0, 0, 1, 1, 1, 2, 2, 2, 2)
    assert levels.forward_count == 2
    assert levels.is_backward == (False,) * 6 + (True,) * 3


def test_a_cotangent_is_known_when_all_forward_sweeps_have_ended() -> None:
    # The cotangent alone tells the level of what depends on nothing else.
    alone = Step(Kind.LOCAL, (0, 7), (1,), (SAME, None))
    frame = Frame(
        (mean(0, 2), centred(0, 2, 3), mean(3, 4), alone, mean(1, 5)),
        {v: FINE for v in (0, 1, 3)},
        frozenset({4, 5}),
        frozenset({7}),
    )
    assert levels_of(frame).steps == (0, 1, 1, 2, 2)


def test_stored_values_are_written_once_and_read_by_later_sweeps() -> None:
    first, second, third = planned(NORMALIZED, frozenset({1, 4}))
    assert (first.writes, first.sums) == ((1,), (2,))
    assert (second.writes, second.reads) == ((4,), (1,))
    assert second.windows[1] == Window(-1, 5)
    assert set(third.reads) == {1, 4}
    assert third.steps == (2, 7, 8)
    assert third.sums == (10,)


def test_what_is_not_stored_is_computed_again_in_wider_windows() -> None:
    _, second, third = planned(NORMALIZED, frozenset())
    assert second.reads == third.reads == (0,)
    # Two convolutions, each of which needs one plane more at both ends.
    assert second.windows[0] == Window(-2, 6)
    assert 0 in third.steps


def test_nothing_is_stored_that_no_later_sweep_reads() -> None:
    first, *_ = planned(NORMALIZED, frozenset({1, 3, 9}))
    assert first.writes == (1,)
    assert all(9 not in sweep.writes for sweep in planned(NORMALIZED, frozenset({9})))


def test_a_value_of_a_coarser_grid_is_made_whole() -> None:
    strided = (Stencil(2, 1, 3),)
    frame = Frame(
        (Step(Kind.LOCAL, (0,), (1,), (strided,)), Step(Kind.WHOLE, (1,), (2,))),
        {0: FINE, 1: Axis(8, Fraction(1, 2), False)},
        frozenset({2}),
    )
    grid = Grid.of(16, 4, [Fraction(1), Fraction(1, 2)])
    (sweep,) = sweeps_of(frame, levels_of(frame), grid, ())
    assert sweep.writes == (1,)
    assert sweep.windows == {1: Window(0, 2), 0: Window(-1, 4)}
    assert levels_of(frame).steps == (0, 1)


def test_what_an_operation_reads_whole_is_assembled_first() -> None:
    frame = Frame(
        (convolution(0, 1), Step(Kind.WHOLE, (1,), (2,)), mean(1, 3)),
        {0: FINE, 1: FINE},
        frozenset({2, 3}),
    )
    levels = levels_of(frame)
    assert levels.assembled == {1}
    assert levels.steps == (0, 1, 0)
    (sweep,) = planned(frame, frozenset())
    assert (sweep.writes, sweep.sums) == ((1,), (3,))


def test_what_costs_least_for_its_bytes_is_computed_again_first() -> None:
    def heavy(x: int, y: int, flops: float) -> Step:
        return Step(Kind.LOCAL, (x,), (y,), (SAME,), is_heavy=True, flops=flops)

    large = Axis(16, Fraction(1), True, nbytes=100)
    frame = Frame(
        (
            heavy(0, 1, 900.0),
            heavy(0, 2, 100.0),
            mean(1, 3),
            mean(2, 4),
            Step(Kind.LOCAL, (1, 2, 3, 4), (5,), (SAME, SAME, None, None)),
            mean(5, 6),
        ),
        {0: large, 1: large, 2: large, 5: large},
        frozenset({6}),
    )
    sweeping = Sweeping(frame, levels_of(frame), GRID)
    storage = Storage(sweeping)
    stored = [storage.stored(count) for count in (3, 0, 1, 2)]
    assert stored == [set(), {1, 2}, {1}, set()]
    flops = [
        sum(flops_of(frame, GRID, sweep) for sweep in sweeping.sweeps(kept))
        for kept in stored
    ]
    assert flops == [2000, 1000, 1100, 2000]
    assert storage.sets(1) == [{1, 2}, {1}]


def test_sweeps_that_were_planned_are_found_again() -> None:
    def told(sweep: Sweep) -> tuple[object, ...]:
        windows = dict(sorted(sweep.windows.items()))
        return sweep.level, sweep.steps, windows, {*sweep.reads}, sweep.writes

    values, levels = sorted(heavy_results(NORMALIZED) | {3, 9}), levels_of(NORMALIZED)
    sweeping = Sweeping(NORMALIZED, levels, GRID)
    for count in (0, 4, 1, 3, 2):
        for kept in itertools.combinations(values, count):
            once = sweeps_of(NORMALIZED, levels, GRID, kept)
            assert [*map(told, sweeping.sweeps(kept))] == [*map(told, once)]
    first = sweeping.sweeps({1, 4})[0]
    assert first is sweeping.sweeps({1, 3})[0]


def test_two_heavy_results_are_stored_as_their_sum() -> None:
    added = Step(Kind.LOCAL, (1, 2), (3,), (SAME, SAME), is_sum_of_two=True)
    frame = Frame(
        (convolution(0, 1), convolution(0, 2), added, mean(3, 4)),
        {v: FINE for v in range(4)},
    )
    assert heavy_results(frame) == {3}
    assert heavy_results(NORMALIZED) == {1, 4}
