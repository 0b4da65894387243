from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from jaxswap.medical.synthesis.head_shapes import (
    HeadShape,
    ShapeRanges,
    draw_head_shape,
)
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.primary_tumour import (
    Primary,
    brain_lattice,
    deep_white_matter,
    draw_primary,
    grow_primary,
    sample_anatomy,
)
from jaxswap.medical.synthesis.synthetic_recipe import TumourRanges

STILL = ShapeRanges(rotation_degrees=0, scale=(1, 1), velocity_mm=0, mirror=0)
RANGES = TumourRanges()


@lru_cache(maxsize=1)
def head() -> tuple[HeadShape, Lattice]:
    shape = draw_head_shape(np.random.default_rng(0), STILL)
    return shape, brain_lattice(shape)


def draw(seed: int, ranges: TumourRanges = RANGES, far_mm: float = 0.0) -> Primary:
    return draw_primary(np.random.default_rng(seed), *head(), ranges, far_mm)


def test_lattice_of_growth_holds_the_brain_and_little_more() -> None:
    shape, lattice = head()
    brain = sample_anatomy(shape, lattice).brain > 0
    faces = [brain.take(side, axis) for axis in range(3) for side in (0, -1)]
    assert not any(face.any() for face in faces)
    assert brain.mean() > 0.4


def test_deep_white_matter_is_in_the_cerebrum() -> None:
    shape, lattice = head()
    anatomy = sample_anatomy(shape, lattice)
    deep = deep_white_matter(anatomy, shape, lattice, 5.0)
    assert (anatomy.white[deep] > 0.5).all()
    x, _, z = shape.to_mni(lattice)
    brain_stem = (np.abs(x) < 20) & (z < 0)
    assert (anatomy.white[brain_stem] > 0.9).any()
    assert not deep[brain_stem].any()
    assert 20 < deep.sum() * lattice.spacing_mm**3 / 1000 < 300  # mL


def test_values_fill_their_ranges() -> None:
    drawn = [draw(seed, replace(RANGES, diffuse=0.5, absent=0.5)) for seed in range(12)]
    for tumour in drawn:
        low, high = (100, 135) if tumour.is_diffuse else (45, 100)
        assert low <= tumour.extent_mm <= high
        low, high = (6, 9) if tumour.is_diffuse else (2, 4)
        assert low <= tumour.length_mm <= high
        assert 5 <= tumour.push_mm <= min(15, tumour.extent_mm / 5)
        assert 3 <= tumour.rim_mm <= 8
    assert {tumour.is_diffuse for tumour in drawn} == {True, False}
    assert {tumour.is_present for tumour in drawn} == {True, False}
    assert len({tumour.center_mm for tumour in drawn}) > 8


def test_tumour_leaves_room_for_far_foci() -> None:
    shape, lattice = head()
    deep = deep_white_matter(sample_anatomy(shape, lattice), shape, lattice, 5.0)
    points = np.array(lattice.start_mm) + lattice.spacing_mm * np.argwhere(deep)
    small = replace(RANGES, extent_mm=(45.0, 46.0), diffuse=0.0)
    for seed in range(12):
        tumour = draw(seed, small, far_mm=92.0)
        distance = np.linalg.norm(points - np.array(tumour.center_mm), axis=1)
        assert distance.max() >= 92 + tumour.extent_mm / 3


def test_what_a_tumour_is_like_does_not_depend_on_whether_it_is_there() -> None:
    present = draw(3, replace(RANGES, absent=0.0))
    absent = draw(3, replace(RANGES, absent=1.0))
    assert replace(absent, is_present=True) == present


def test_present_tumour_pushes_tissue_and_an_absent_one_does_not() -> None:
    tumour = replace(draw(3), extent_mm=45.0, push_mm=9.0)
    shape, lattice = head()
    heads = [
        grow_primary(np.random.default_rng(0), shape, lattice, primary, 0.5)
        for primary in (tumour, replace(tumour, is_present=False))
    ]
    moved = [np.abs(grown.shape.displacement_mm).max() for grown in heads]
    # The largest push is met only near its reach, and not near the skull.
    assert 4 < moved[0] <= 9.01
    assert moved[1] == 0


@pytest.mark.parametrize("extent", [45.0, 70.0])
def test_tumour_grows_to_its_extent_within_the_brain(extent: float) -> None:
    tumour = replace(draw(3), extent_mm=extent)
    random = np.random.default_rng(0)
    grown = grow_primary(random, *head(), tumour, 0.5)
    assert extent <= grown.growth.extent_mm <= extent + 5
    outside = grown.anatomy.brain == 0
    assert grown.growth.concentration[outside].max() == 0
    seed = grown.lattice.index_of(np.array(tumour.center_mm))
    assert grown.growth.concentration[seed] > 0.16
