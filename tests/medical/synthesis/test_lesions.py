"""Whole heads at 4 mm, drawn once; every rule of the arms is checked on them."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from jaxswap.medical.data.masks import distance_mm
from jaxswap.medical.synthesis.acquisition import AcquisitionRanges
from jaxswap.medical.synthesis.contrast import Tissue
from jaxswap.medical.synthesis.synthetic_case import SyntheticCase, draw_case
from jaxswap.medical.synthesis.synthetic_recipe import Recipe, make_recipe

GRID = ((48, 48, 48), 4.0)
CLEAN = AcquisitionRanges(bias=0, noise=(0, 0), ghosts=0, thick_slices=0)


@lru_cache(maxsize=32)
def case_of(recipe: Recipe, index: int) -> SyntheticCase:
    return draw_case(recipe, 0, index)


def multifocal(**tumour: Any) -> Recipe:
    """The arm without push or faults, so that nothing but the rule can differ."""
    recipe = make_recipe("multifocal", *GRID)
    ranges = replace(recipe.tumour, push_mm=(0.0, 0.0), **tumour)
    return replace(recipe, tumour=ranges, acquisition=CLEAN)


ENHANCING = multifocal(absent=0.0, non_enhancing=0.0)
SOLID = multifocal(absent=0.0, non_enhancing=1.0)
ABSENT = multifocal(absent=1.0)
INDICES = (0, 5)


def near(case: SyntheticCase, focus: dict[str, Any]) -> np.ndarray:
    """The ball that holds a focus and nothing else."""
    voxels = np.indices(case.labels.shape)
    points = np.einsum("ij,jxyz->ixyz", case.affine[:3, :3], voxels)
    points += case.affine[:3, 3].reshape(3, 1, 1, 1)
    center = np.array(focus["center_mm"]).reshape(3, 1, 1, 1)
    return np.linalg.norm(points - center, axis=0) <= focus["reach_mm"]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize(("recipe", "label"), [(ENHANCING, 2), (SOLID, 0), (ABSENT, 0)])
def test_foci_are_tumour_exactly_if_a_primary_enhances(
    recipe: Recipe, label: int, index: int
) -> None:
    case = case_of(recipe, index)
    enhances = bool((case.labels == 3).any())
    assert enhances == (recipe is ENHANCING)
    assert case.record["foci"]
    for focus in case.record["foci"]:
        assert focus["is_tumour"] == enhances
        inside = near(case, focus) & (case.tissue == Tissue.OEDEMA)
        assert inside.any()
        assert (case.labels[inside] == label).all()
        assert inside.sum() * 4**3 / 1000 == pytest.approx(focus["volume_ml"])


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("other", [SOLID, ABSENT])
def test_foci_look_the_same_whatever_they_are(other: Recipe, index: int) -> None:
    tumour, mimic = case_of(ENHANCING, index), case_of(other, index)
    shapes = [
        [(f["center_mm"], f["diameter_mm"], f["volume_ml"]) for f in c.record["foci"]]
        for c in (tumour, mimic)
    ]
    assert shapes[0] == shapes[1]
    for focus in tumour.record["foci"]:
        inside = near(tumour, focus)
        for name in tumour.images:
            # Up to one factor for the whole image, which its brightest tissue sets.
            first = tumour.images[name][inside].astype(float)
            second = mimic.images[name][inside].astype(float)
            factor = first.sum() / second.sum()
            np.testing.assert_allclose(first, factor * second, rtol=0.01, atol=2)


@pytest.mark.parametrize("index", INDICES)
def test_solid_tissue_is_core_exactly_if_its_tumour_enhances_nowhere(
    index: int,
) -> None:
    enhancing, solid = case_of(ENHANCING, index), case_of(SOLID, index)
    lump = enhancing.tissue == Tissue.SOLID
    assert lump.sum() > 3
    assert (enhancing.labels[lump] == 2).all()
    # The same tissue in the same place of the other head.
    assert (solid.tissue[lump] == Tissue.SOLID).all()
    assert (solid.labels[lump] == 1).all()
    assert (solid.labels[solid.tissue == Tissue.SOLID] == 1).all()


@pytest.mark.parametrize("recipe", [ENHANCING, SOLID])
@pytest.mark.parametrize("index", INDICES)
def test_distances_of_foci_are_kept(recipe: Recipe, index: int) -> None:
    case = case_of(recipe, index)
    foci = case.record["foci"]
    far_mm = 60 * case.record["head"]["size"]
    assert 2 * sum(focus["to_core_mm"] >= far_mm for focus in foci) >= len(foci)
    for focus in foci:
        assert focus["is_far"] <= (focus["to_core_mm"] >= far_mm)
        # Measured to the voxels of the tumour, of 4 mm.
        assert focus["to_tumour_mm"] - focus["reach_mm"] >= 10 - 4


def test_control_arm_has_one_tumour_and_foci_that_are_not() -> None:
    case = case_of(make_recipe("glioma", *GRID), 0)
    assert case.record["tumour"]["is_present"]
    assert case.record["foci"]
    mimic = np.zeros(case.labels.shape, bool)
    for focus in case.record["foci"]:
        assert not focus["is_tumour"]
        mimic |= near(case, focus) & (case.tissue == Tissue.OEDEMA)
        assert focus["to_tumour_mm"] - focus["reach_mm"] >= 15 - 4
    assert mimic.any()
    assert not case.labels[mimic].any()


def test_satellites_of_the_control_arm_have_a_core_of_their_own() -> None:
    recipe = make_recipe("glioma", *GRID, satellites=3)
    case = case_of(recipe, 4)
    satellites = [f for f in case.record["foci"] if f["kind"] == "satellite"]
    assert satellites
    for focus in satellites:
        found = set(np.unique(case.labels[near(case, focus)]))
        assert 3 in found
        assert focus["is_tumour"]
        assert focus["to_tumour_mm"] <= 40 + 10


def test_caps_are_bright_and_no_tumour() -> None:
    recipe = make_recipe("glioma", *GRID)
    without, with_caps = (
        case_of(replace(recipe, caps=share, acquisition=CLEAN), 0)
        for share in (0.0, 1.0)
    )
    caps = (with_caps.tissue == Tissue.OEDEMA) & (without.tissue == 0)
    assert caps.sum() > 10
    np.testing.assert_array_equal(with_caps.labels, without.labels)
    tumour = without.labels > 0
    np.testing.assert_array_equal(with_caps.tissue[tumour], without.tissue[tumour])
    assert distance_mm(tumour, 4.0)[caps].min() >= 10 - 4
    brighter = with_caps.images["t2f"][caps] > without.images["t2f"][caps]
    assert brighter.mean() > 0.9
