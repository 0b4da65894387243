from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.synthesis import parcellation
from jaxswap.medical.synthesis.acquisition import AcquisitionRanges
from jaxswap.medical.synthesis.half_millimetre import Atlas
from jaxswap.medical.synthesis.head_shapes import ShapeRanges
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.parcellation import draw_parcellation
from jaxswap.medical.synthesis.synthetic_case import SyntheticCase
from jaxswap.medical.synthesis.synthetic_recipe import Recipe, make_recipe

RECIPE = make_recipe("parcellation", (48, 48, 48), 4.0)
CLEAN = AcquisitionRanges(bias=0, noise=(0, 0), ghosts=0, thick_slices=0)
STILL = ShapeRanges(rotation_degrees=0, scale=(1, 1), velocity_mm=0, mirror=0)
NAMES = {"Left Brain": 1, "Right Brain": 2, "Right Nucleus": 3, "Left Nucleus": 4}


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """An ellipsoid of 120 x 150 x 130 mm about the center of MNI152's brain.

    It has a bright nucleus on each side; the right one is larger.
    """
    lattice = Lattice.centered((40, 48, 42), 4.0)
    x, y, z = lattice.axes_mm()
    brain = (x / 60) ** 2 + (y / 75) ** 2 + (z / 65) ** 2 < 1
    data = np.where(brain, 100.0, 0.0).astype(np.float32)
    labels = np.where(brain, np.where(x + 0 * brain < 0, 1, 2), 0).astype(np.uint8)
    for center, radius, value in ((30.0, 22.0, 3), (-30.0, 16.0, 4)):
        inside = lattice.distance_mm(np.array([center, 10.0, 0.0])) < radius
        data[inside], labels[inside] = 160, value
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = np.add(lattice.start_mm, (0, -17, 5))
    return Atlas(
        Volume.from_array(data, affine), labels, make_label_map("sides", NAMES)
    )


def draw(index: int, recipe: Recipe = RECIPE, seed: int = 0) -> SyntheticCase:
    return draw_parcellation(recipe, atlas(), seed, index)


def middle(case: SyntheticCase, *names: str) -> np.ndarray:
    values = [NAMES[name] for name in names]
    return np.argwhere(np.isin(case.labels, values)).mean(0)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_left_is_on_the_left_of_the_array_also_in_mirrored_heads(
    mirror: float,
) -> None:
    recipe = replace(RECIPE, head=replace(RECIPE.head, mirror=mirror))
    for index in range(4):
        case = draw(index, recipe)
        assert case.record["head"]["is_mirrored"] == bool(mirror)
        left = middle(case, "Left Brain", "Left Nucleus")
        right = middle(case, "Right Brain", "Right Nucleus")
        assert right[0] - left[0] > 8  # of 48 voxels to the right


def test_mirroring_moves_anatomy_to_the_other_side_and_renames_it() -> None:
    counts = []
    for mirror in (0.0, 1.0):
        recipe = replace(RECIPE, head=replace(STILL, mirror=mirror))
        labels = draw(0, recipe).labels
        counts.append(
            [
                int((labels == NAMES[f"{side} Nucleus"]).sum())
                for side in ("Left", "Right")
            ]
        )
    (left, right), mirrored = counts
    assert right > 1.5 * left
    # The larger nucleus is on the left now, and so it is a left one.
    assert mirrored == pytest.approx([right, left], rel=0.1)


def test_still_head_is_the_atlas_itself() -> None:
    recipe = replace(RECIPE, head=STILL, acquisition=CLEAN)
    case = draw(0, recipe)
    offset = (np.array(case.labels.shape) - atlas().labels.shape) // 2
    window = tuple(
        slice(low, low + side)
        for low, side in zip(offset, atlas().labels.shape, strict=True)
    )
    agree = case.labels[window] == atlas().labels
    assert agree.mean() > 0.99
    assert not case.labels[0].any()


def test_image_and_labels_belong_together() -> None:
    case = draw(1, replace(RECIPE, acquisition=CLEAN))
    image = case.images["t1n"]
    assert list(case.images) == ["t1n"]
    assert image.dtype == np.int16
    assert case.labels.dtype == np.uint8
    np.testing.assert_array_equal(image > 0, case.labels > 0)
    nuclei = np.isin(case.labels, (3, 4))
    others = np.isin(case.labels, (1, 2))
    assert image[nuclei].mean() > 1.2 * image[others].mean()


def test_cases_depend_on_seed_and_index_alone() -> None:
    first, again = draw(2), draw(2)
    np.testing.assert_array_equal(first.images["t1n"], again.images["t1n"])
    np.testing.assert_array_equal(first.labels, again.labels)
    for other in (draw(3), draw(2, seed=1)):
        assert (first.labels != other.labels).mean() > 0.01


def test_record_has_the_volume_of_each_structure() -> None:
    case = draw(0)
    for name, volume in case.record["volume_ml"].items():
        counted = (case.labels == NAMES[name]).sum() * 4**3 / 1000
        assert volume == pytest.approx(counted)


@pytest.mark.parametrize(("spacing", "expected"), [(0.5, "fine"), (1.0, "coarse")])
def test_fine_grids_use_the_finer_head(
    spacing: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcellation, "load_templates", lambda folder: "fine")
    monkeypatch.setattr(parcellation, "label_image", lambda image, folder: "coarse")
    parcellation.load_atlas.cache_clear()
    assert parcellation.load_atlas(Path("nowhere"), spacing) == expected
    parcellation.load_atlas.cache_clear()
