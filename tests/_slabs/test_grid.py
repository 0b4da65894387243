"""Slabs cover an axis, and each plane of a value belongs to one of them."""

from fractions import Fraction

import pytest

from jaxswap._slabs.grid import Grid, Line
from jaxswap._slabs.windows import Window

HALF, ONE, TWICE = Fraction(1, 2), Fraction(1), Fraction(2)


@pytest.mark.parametrize("in_pairs", [False, True])
@pytest.mark.parametrize("length", [12, 13, 155])
@pytest.mark.parametrize("count", [1, 3, 5, 12, 1000])
def test_slabs_cover_the_axis(length: int, count: int, in_pairs: bool) -> None:
    grid = Grid.of(length, count, [ONE, HALF], in_pairs=in_pairs)
    assert grid.thickness % 2 == 0
    assert grid.count <= count + in_pairs
    assert grid.count * grid.thickness >= length
    assert not in_pairs or grid.count == 1 or grid.count % 2 == 0
    beyond = (grid.count - 1 - (in_pairs and grid.count > 1)) * grid.thickness
    assert beyond < length + length % 2


@pytest.mark.parametrize("planes", [20, 24, 27])
def test_the_windows_of_all_slabs_hold_every_plane(planes: int) -> None:
    grid = Grid.of(12, 5, [ONE, TWICE])
    window = grid.held(TWICE, planes)
    held = set()
    for index in range(grid.count):
        first = index * grid.pitch(TWICE)
        held |= set(range(first + window.start, first + window.stop))
    assert set(range(planes)) <= held


def test_a_window_leaves_a_value_at_its_ends() -> None:
    grid = Grid.of(12, 4, [ONE])
    held = grid.held(ONE, 12)
    assert not grid.leaves(ONE, 12, held)
    assert grid.leaves(ONE, 11, held)
    assert grid.leaves(ONE, 12, Window(-1, held.stop))


def test_slabs_reach_beyond_what_they_do_not_divide() -> None:
    even, uneven = Grid.of(12, 4, [ONE]), Grid.of(13, 4, [ONE])
    assert [even.surplus(ONE, planes) for planes in (11, 12, 13)] == [-1, 0, 1]
    assert uneven.surplus(ONE, 13) == -3


def test_an_axis_moves_and_becomes_finer() -> None:
    assert Line(1, HALF).at(3, 4) == Line(3, TWICE)
