from dataclasses import replace

import numpy as np
import pytest

from jaxswap.medical.synthesis.foci import (
    FociRanges,
    Focus,
    draw_caps,
    draw_focus,
    place_foci,
)
from jaxswap.medical.synthesis.lattice import Lattice

LATTICE = Lattice.centered((80, 80, 80), 2.5)
CORE = np.array([-60.0, 0.0, 0.0])
TO_CORE = LATTICE.distance_mm(CORE) - 10
TO_TUMOUR = TO_CORE - 15
ALLOWED = LATTICE.distance_mm(np.zeros(3)) < 75
RANGES = FociRanges((1, 4), (9.0, 18.0), gap_mm=10.0, far_mm=60.0)


def place(seed: int, ranges: FociRanges = RANGES) -> list[Focus]:
    random = np.random.default_rng(seed)
    return place_foci(random, ALLOWED, TO_TUMOUR, TO_CORE, LATTICE, ranges)


def to_core_mm(focus: Focus) -> float:
    return float(np.linalg.norm(np.array(focus.center_mm) - CORE)) - 10


@pytest.fixture(scope="module")
def many() -> list[list[Focus]]:
    return [place(seed) for seed in range(30)]


def test_there_are_one_to_four_foci_each_as_often(many: list[list[Focus]]) -> None:
    counts = np.bincount([len(foci) for foci in many], minlength=5)
    assert counts[0] == 0
    assert (counts[1:5] >= 3).all()
    assert len(counts) == 5


def test_at_least_half_of_the_foci_are_far_from_the_core(
    many: list[list[Focus]],
) -> None:
    for foci in many:
        far = [to_core_mm(focus) >= 60 for focus in foci]
        assert sum(far) * 2 >= len(far)
        assert far == [focus.is_far for focus in foci]
    assert any(not focus.is_far for foci in many for focus in foci)


def test_foci_keep_away_from_the_tumour_and_each_other(
    many: list[list[Focus]],
) -> None:
    for foci in many:
        for i, focus in enumerate(foci):
            assert to_core_mm(focus) - 15 >= 10 + focus.reach_mm - 1e-3
            for other in foci[:i]:
                apart = np.subtract(focus.center_mm, other.center_mm)
                assert np.linalg.norm(apart) >= 10 + focus.reach_mm + other.reach_mm


def test_diameters_fill_their_range(many: list[list[Focus]]) -> None:
    diameters = [2 * focus.radius_mm for foci in many for focus in foci]
    assert 9 <= min(diameters) < 11
    assert 16 < max(diameters) <= 18


def test_no_far_focus_is_exchanged_for_a_nearer_one() -> None:
    assert place(0, replace(RANGES, far_mm=500.0, count=(1, 1))) == []


def test_focus_has_about_the_volume_of_its_ball() -> None:
    focus = Focus((1.0, 2.0, 3.0), 8.0, (1.0, 1.25, 0.8))
    lattice = Lattice.centered((48, 48, 48), 1.0)
    volumes = []
    for seed in range(10):
        _, share = draw_focus(np.random.default_rng(seed), focus, lattice)
        volumes.append(share.sum())
    assert np.mean(volumes) == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.15)
    assert np.std(volumes) > 10


def test_focus_lies_in_the_ball_of_its_reach() -> None:
    focus = Focus((1.0, 2.0, 3.0), 8.0, (1.0, 1.25, 0.8))
    lattice = Lattice.centered((64, 64, 64), 1.0)
    window, share = draw_focus(np.random.default_rng(1), focus, lattice)
    whole = np.zeros(lattice.shape)
    whole[window] = share
    distance = lattice.distance_mm(np.array(focus.center_mm))
    assert distance[whole > 0].max() <= focus.reach_mm
    assert distance[whole > 0.5].max() > focus.radius_mm
    assert share.shape == tuple(part.stop - part.start for part in window)


def test_smallest_focus_is_there_also_on_the_coarsest_grid() -> None:
    focus = Focus((0.3, 0.9, -1.1), 2.0, (1.0, 1.0, 1.0))
    lattice = Lattice.centered((24, 24, 24), 5.0)
    for seed in range(10):
        _, share = draw_focus(np.random.default_rng(seed), focus, lattice)
        assert (share > 0.5).any()


def test_caps_lie_in_white_matter_at_the_ventricles() -> None:
    lattice = Lattice.centered((40, 40, 40), 1.0)
    distance = lattice.distance_mm(np.zeros(3))
    white = (distance > 8).astype(np.float32)
    caps = draw_caps(
        np.random.default_rng(0), np.maximum(distance - 8, 0), white, lattice, 4.0
    )
    assert caps[distance <= 8].max() == 0
    assert 0.05 < (caps[(distance > 8) & (distance < 10)] > 0.5).mean() < 0.95
    assert caps[distance > 24].max() == 0
