"""Which slabs a plan tries by itself."""

import itertools

from jaxswap._slabs.settings import THICKNESS, settings_of
from jaxswap._slabs.slabs import Slabs


def test_fewer_levels_are_tried_first() -> None:
    assert [setting[0].levels for setting in settings_of(192)] == [1, 2, 3]
    assert settings_of(192)[0][0] == Slabs(24)


def test_few_thick_slabs_are_tried_beside_many() -> None:
    for setting in settings_of(192):
        assert [slabs.count for slabs in setting] == [24, 8]
        assert len({slabs.levels for slabs in setting}) == 1
    assert [slabs.count for slabs in settings_of(64)[0]] == [8]


def test_slabs_are_not_thinner_than_what_neighbours_need() -> None:
    for length in (16, 20, 64, 100, 512, 2048):
        for slabs in itertools.chain(*settings_of(length)):
            assert length // slabs.count >= THICKNESS
            assert 2 <= slabs.count <= 32


def test_a_short_axis_is_not_cut() -> None:
    assert settings_of(15) == settings_of(0) == ()


def test_slabs_are_even_in_number_and_reach_least_far_beyond_the_axis() -> None:
    assert [setting[0].count for setting in settings_of(160)] == [20, 20, 20]
    assert [setting[0].count for setting in settings_of(200)] == [20, 18, 14]
    assert settings_of(339)[0][0].count == 22  # of 16 planes; 20 have 18
