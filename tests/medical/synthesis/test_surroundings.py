import numpy as np
import pytest

from jaxswap.medical.data.masks import depth_mm
from jaxswap.medical.synthesis.foci import FociRanges, Focus
from jaxswap.medical.synthesis.head_shapes import REGION, HeadShape
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.primary_tumour import GrownHead, sample_anatomy
from jaxswap.medical.synthesis.surroundings import (
    distance_to_ventricles_mm,
    look_around,
)
from jaxswap.medical.synthesis.tumour_growth import Growth

TUMOUR_MM = np.array([30.0, 40.0, 20.0])


@pytest.fixture(scope="module")
def grown() -> GrownHead:
    return make_head(5.0)


def make_head(spacing_mm: float) -> GrownHead:
    """The MNI head with a ball of a tumour in the right frontal lobe."""
    shape = HeadShape(
        np.eye(3), np.zeros((3, *REGION.shape), np.float32), REGION, False, 0.9
    )
    x, y, z = (round(side / spacing_mm) for side in (180, 220, 190))
    lattice = Lattice.centered((x, y, z), spacing_mm)
    distance = lattice.distance_mm(TUMOUR_MM)
    cells = (1 / (1 + np.exp((distance - 16) / 3.5))).astype(np.float32)
    return GrownHead(
        shape, lattice, sample_anatomy(shape, lattice), Growth(cells, 1.0, 40.0)
    )


def test_distances_are_from_the_tumour_and_its_core(grown: GrownHead) -> None:
    around = look_around(grown)
    center = grown.lattice.index_of(TUMOUR_MM)
    assert around.to_tumour_mm[center] == around.to_core_mm[center] == 0
    assert (around.to_core_mm >= around.to_tumour_mm).all()
    other = grown.lattice.index_of(TUMOUR_MM - [0, 90, 0])
    assert 60 < around.to_tumour_mm[other] < around.to_core_mm[other] < 90


def test_far_foci_are_farther_in_larger_heads(grown: GrownHead) -> None:
    around = look_around(grown)
    ranges = FociRanges((1, 1), (9.0, 9.0), far_mm=60.0)
    distances = []
    for seed in range(30):
        for focus in around.place(np.random.default_rng(seed), ranges):
            index = grown.lattice.index_of(np.array(focus.center_mm))
            distances.append(around.to_core_mm[index])
    assert 0.9 * 60 <= min(distances) < 60 + 5


def test_satellites_can_be_kept_near_the_tumour(grown: GrownHead) -> None:
    around = look_around(grown)
    ranges = FociRanges((3, 3), (6.0, 6.0), gap_mm=2.0, within_mm=30.0)
    foci = around.place(np.random.default_rng(0), ranges)
    assert foci
    for focus in foci:
        index = grown.lattice.index_of(np.array(focus.center_mm))
        assert around.to_tumour_mm[index] <= 30


def test_places_about_foci_can_be_taken(grown: GrownHead) -> None:
    around = look_around(grown)
    focus = Focus((-20.0, 0.0, 30.0), 5.0, (1.0, 1.0, 1.0))
    near = grown.lattice.distance_mm(np.array(focus.center_mm)) < focus.reach_mm + 15
    assert (around.allowed & near).any()
    fewer = around.without([focus], 15.0)
    assert not (fewer.allowed & near).any()
    np.testing.assert_array_equal(fewer.allowed[~near], around.allowed[~near])


def test_ventricles_are_in_the_middle_of_the_brain() -> None:
    grown = make_head(2.5)
    distance = distance_to_ventricles_mm(grown)
    x, y, z = grown.shape.to_mni(grown.lattice)
    ventricles = distance == 0
    assert 2 < ventricles.sum() * 2.5**3 / 1000 < 80  # mL
    assert np.abs(x[ventricles]).max() < 45
    assert np.abs(z[ventricles] - 10).max() < 45
    assert abs(y[ventricles].mean() + 15) < 25
    depth = depth_mm(grown.anatomy.brain > 0, 2.5)
    assert depth[ventricles].min() > 15
