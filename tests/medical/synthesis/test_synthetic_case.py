from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from jaxswap.medical.data.masks import sides_mm
from jaxswap.medical.synthesis.synthetic_case import (
    ORIENTATIONS,
    SyntheticCase,
    draw_case,
    draw_orientation,
    random_streams,
    stored_affine,
)
from jaxswap.medical.synthesis.synthetic_recipe import make_recipe

GRID = ((48, 48, 48), 4.0)
RECIPE = make_recipe("glioma", *GRID)


@lru_cache(maxsize=8)
def case_of(seed: int, index: int) -> SyntheticCase:
    return draw_case(RECIPE, seed, index)


def test_case_depends_on_seed_and_index_alone() -> None:
    first, again = case_of(0, 1), draw_case(RECIPE, 0, 1)
    np.testing.assert_array_equal(first.labels, again.labels)
    for name, image in first.images.items():
        np.testing.assert_array_equal(image, again.images[name])
    assert first.record == again.record
    assert first.orientation == again.orientation


@pytest.mark.parametrize(("seed", "index"), [(0, 2), (1, 1)])
def test_other_seeds_and_indices_are_other_cases(seed: int, index: int) -> None:
    first, other = case_of(0, 1), case_of(seed, index)
    assert (first.labels != other.labels).any()
    assert (first.images["t1n"] != other.images["t1n"]).mean() > 0.1


@pytest.mark.parametrize("index", [1, 3])
def test_case_has_what_a_brats_case_has(index: int) -> None:
    case = case_of(0, index)
    assert list(case.images) == ["t1n", "t1c", "t2w", "t2f"]
    assert case.labels.dtype == np.uint8
    assert set(np.unique(case.labels)) <= {0, 1, 2, 3}
    brains = []
    for image in case.images.values():
        assert image.shape == case.labels.shape == GRID[0]
        assert image.dtype == np.int16
        assert image.min() == 0
        assert np.percentile(image[image > 0], 99.5) == pytest.approx(1000, abs=2)
        brains.append(image > 0)
    for brain in brains[1:]:
        np.testing.assert_array_equal(brain, brains[0])
    assert (brains[0][case.labels > 0]).all()
    assert 0.8 < brains[0].sum() * 4**3 / 1e6 < 2.2  # litres
    assert not any(
        brains[0].take(side, axis).any() for axis in range(3) for side in (0, -1)
    )


@pytest.mark.parametrize("index", [1, 2, 3])
def test_tumours_are_about_as_long_as_asked(index: int) -> None:
    case = case_of(0, index)
    tumour = case.record["tumour"]
    assert sides_mm(case.labels > 0, 4.0) == tumour["extent_mm"]
    # Growth stops within a step of its grid; the surface is rough; voxels are 4 mm.
    assert abs(max(tumour["extent_mm"]) - tumour["asked_extent_mm"]) < 14
    low, high = (100, 135) if tumour["is_diffuse"] else (45, 100)
    assert low <= tumour["asked_extent_mm"] <= high


def test_record_counts_the_labels() -> None:
    case = case_of(0, 1)
    for label, volume in case.record["tumour"]["volume_ml"].items():
        counted = (case.labels == int(label)).sum() * 4**3 / 1000
        assert volume == pytest.approx(counted)


def test_record_gives_centers_in_the_millimeters_of_the_file() -> None:
    case = case_of(0, 1)
    assert case.record["foci"]
    for focus in case.record["foci"]:
        voxel = np.array([*focus["center_voxel_ras"], 1.0])
        center = (case.affine @ voxel)[:3]
        assert np.abs(center - focus["center_mm"]).max() <= 2.01
        assert case.tissue[tuple(focus["center_voxel_ras"])] > 0


def test_same_case_on_a_finer_grid_is_the_same_patient() -> None:
    coarse = case_of(0, 1)
    fine = draw_case(make_recipe("glioma", (64, 64, 64), 3.0), 0, 1)
    first, second = coarse.record, fine.record
    assert first["head"] == second["head"]
    assert first["tumour"]["time"] == second["tumour"]["time"]
    assert len(first["foci"]) == len(second["foci"])
    volumes = [
        sum(record["tumour"]["volume_ml"].values()) for record in (first, second)
    ]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.15)


def test_streams_do_not_influence_each_other() -> None:
    first, second = random_streams(3, 4), random_streams(3, 4)
    first["head"].random(1000)
    assert first["foci"].random() == second["foci"].random()
    draws = {stream.random() for stream in random_streams(3, 4).values()}
    assert len(draws) == len(first)


def test_affine_is_that_of_the_atlas_of_brats() -> None:
    affine = stored_affine(make_recipe("glioma", (240, 240, 240), 1.0))
    np.testing.assert_array_equal(affine[:3, 3], [-239, 0, 0])
    np.testing.assert_array_equal(np.diag(affine), 1)


def test_every_orientation_is_drawn() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_orientation(random) for _ in range(200)]
    assert set(drawn) == set(ORIENTATIONS)
    assert drawn.count("LPS") == pytest.approx(100, abs=25)


def test_volume_of_unequal_sides_is_filled() -> None:
    recipe = replace(RECIPE, shape=(40, 56, 44))
    case = draw_case(recipe, 0, 1)
    assert case.labels.shape == (40, 56, 44)
    same = case_of(0, 1)
    counts = [(c.labels > 0).sum() for c in (case, same)]
    assert counts[0] == pytest.approx(counts[1], rel=0.1)
