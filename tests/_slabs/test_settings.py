"""Which slabs a plan tries by itself."""

from jaxswap._slabs.settings import THICKNESS, settings_of
from jaxswap._slabs.slabs import Slabs


def test_fewer_levels_are_tried_first() -> None:
    assert [slabs.levels for slabs in settings_of(192)] == [1, 2, 3]
    assert settings_of(192)[0] == Slabs(24)


def test_slabs_are_not_thinner_than_what_neighbours_need() -> None:
    for length in (16, 20, 64, 100, 512, 2048):
        for slabs in settings_of(length):
            assert length // slabs.count >= THICKNESS
            assert 2 <= slabs.count <= 32


def test_a_short_axis_is_not_cut() -> None:
    assert settings_of(15) == settings_of(0) == ()


def test_slabs_divide_the_planes_in_pairs_if_any_do() -> None:
    assert settings_of(160)[0].count == 20
    assert settings_of(200)[0].count == 20  # not 25
    assert settings_of(339)[0].count == 32  # nothing divides it
