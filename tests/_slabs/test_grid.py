"""Slabs cover an axis, and each plane of a value belongs to one of them."""

from fractions import Fraction

import pytest

from jaxswap._slabs.grid import Grid, Line

HALF, ONE, TWICE = Fraction(1, 2), Fraction(1), Fraction(2)


@pytest.mark.parametrize("length", [12, 13, 155])
@pytest.mark.parametrize("count", [1, 3, 5, 12, 1000])
def test_slabs_cover_the_axis(length: int, count: int) -> None:
    grid = Grid.of(length, count, [ONE, HALF])
    assert grid.unit == 2
    assert grid.count <= count
    covered = set()
    for index in range(grid.count):
        first = min(index * grid.thickness, grid.last(ONE))
        covered |= set(range(first, first + grid.thickness))
    assert covered == set(range(grid.whole))


@pytest.mark.parametrize("planes", [20, 24, 27])
def test_windows_that_are_summed_and_written_hold_every_plane(planes: int) -> None:
    grid = Grid.of(12, 5, [ONE, TWICE])
    for window in (grid.summed(TWICE, planes), grid.written(TWICE, planes)):
        held = set()
        for index in range(grid.count):
            first = min(index * grid.pitch(TWICE), grid.last(TWICE))
            held |= set(range(first + window.start, first + window.stop))
        assert set(range(planes)) <= held


def test_a_window_leaves_a_value_at_its_ends() -> None:
    grid = Grid.of(12, 4, [ONE])
    summed = grid.summed(ONE, 12)
    assert not grid.leaves(ONE, 12, summed)
    assert grid.leaves(ONE, 11, summed)
    assert grid.leaves(ONE, 12, grid.written(ONE, 11))


def test_planes_repeat_where_slabs_overlap_or_are_longer_than_the_value() -> None:
    even = Grid.of(12, 4, [ONE])
    assert not even.repeats(ONE, 12)
    assert even.repeats(ONE, 11)
    assert Grid.of(13, 4, [ONE]).repeats(ONE, 13)


def test_an_axis_moves_and_becomes_finer() -> None:
    assert Line(1, HALF).at(3, 4) == Line(3, TWICE)
