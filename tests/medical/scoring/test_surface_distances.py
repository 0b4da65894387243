"""Distances between surfaces: against all pairs, closed forms and another package."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.scoring import surface_distances as module
from jaxswap.medical.scoring.surface_distances import (
    hausdorff_95_mm,
    surface_dice,
    surface_distances,
)
from jaxswap.medical.scoring.surface_elements import surface_elements

_UNIT = (1.0, 1.0, 1.0)
_TWO_MASKS = st.tuples(*[st.integers(1, 6)] * 3).flatmap(
    lambda shape: st.tuples(*[arrays(np.bool_, shape).filter(np.any)] * 2)
)
_SPACINGS = st.tuples(*[st.floats(0.3, 5.0)] * 3)


def _areas_mm2(mask, spacing):
    """The area at every point, 0 where there is no surface."""
    points, areas_mm2 = surface_elements(mask, spacing)
    everywhere = np.zeros(points.shape)
    everywhere[points] = areas_mm2
    return everywhere


def _all_pairs(reference, prediction, spacing):
    """HD95 and a function for the surface Dice, from every pair of elements."""
    surfaces = []
    for mask in (reference, prediction):
        areas = _areas_mm2(mask, spacing)
        points = [tuple(point) for point in np.ndindex(areas.shape) if areas[point]]
        surfaces.append([(point, areas[point]) for point in points])
    nearest = []
    for own, other in (surfaces, surfaces[::-1]):
        nearest.append(
            sorted(
                (min(_distance_mm(point, there, spacing) for there, _ in other), area)
                for point, area in own
            )
        )
    percentiles = []
    for pairs in nearest:
        total, passed = sum(area for _, area in pairs), 0.0
        for distance, area in pairs:
            passed += area
            if passed >= 0.95 * total:
                percentiles.append(distance)
                break

    def dice(tolerance_mm):
        within = sum(a for pairs in nearest for d, a in pairs if d <= tolerance_mm)
        return within / sum(area for pairs in nearest for _, area in pairs)

    return max(percentiles), dice


def _distance_mm(first, second, spacing):
    steps = zip(first, second, spacing, strict=True)
    return math.sqrt(sum(((a - b) * size) ** 2 for a, b, size in steps))


@pytest.mark.parametrize("tree_below", [0.0, 2.0], ids=["transform", "tree"])
def test_both_ways_agree_with_all_pairs(monkeypatch, tree_below):
    monkeypatch.setattr(module, "_TREE_BELOW", tree_below)

    @settings(max_examples=40, deadline=None)
    @given(_TWO_MASKS, _SPACINGS, st.floats(0.3, 6.0))
    def check(masks, spacing, tolerance_mm):
        reference, prediction = masks
        distances = surface_distances(reference, prediction, spacing)
        hd95_mm, dice = _all_pairs(reference, prediction, spacing)
        assert hausdorff_95_mm(distances) == pytest.approx(hd95_mm, abs=1e-4)
        found = surface_dice(distances, tolerance_mm)
        low, high = dice(tolerance_mm), dice(tolerance_mm + 0.002)
        assert low - 1e-9 <= found <= high + 1e-9

    check()


def _ball(center, radius, spacing=_UNIT, shape=(40, 40, 40)):
    grid = [
        np.arange(n) * s - c for n, s, c in zip(shape, spacing, center, strict=True)
    ]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    return x**2 + y**2 + z**2 <= radius**2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_as_far_as_its_shift(axis):
    box = np.zeros((20, 20, 20), bool)
    box[4:12, 4:12, 4:12] = True
    spacing = (1.0, 2.0, 0.7)
    distances = surface_distances(box, np.roll(box, 3, axis), spacing)
    assert hausdorff_95_mm(distances) == pytest.approx(3 * spacing[axis])
    assert surface_dice(distances, 3 * spacing[axis]) == 1
    assert surface_dice(distances, 3 * spacing[axis] - 0.1) < 1


def test_surface_dice_of_a_grown_box_in_closed_form():
    """One of six faces moved by 2 mm: it and its neighbours' rims are too far."""
    box = np.zeros((14, 14, 20), bool)
    box[2:12, 2:12, 2:12] = True
    grown = box.copy()
    grown[2:12, 2:12, 12:14] = True
    distances = surface_distances(box, grown, _UNIT)
    end = 9 * 9 + 4 * 9 * math.sqrt(0.5) + 4 * math.sqrt(3) / 8
    # Of the box's end face only what is farther than 1 mm from the sides is too far.
    inner = 7 * 7
    total = distances.reference_mm2.sum() + distances.prediction_mm2.sum()
    assert surface_dice(distances, 1.0) == pytest.approx(1 - (end + inner) / total)


def test_concentric_balls_are_their_radii_apart():
    spacing = (0.5, 0.5, 0.8)
    center = (9.75, 9.75, 15.6)
    inner, outer = (_ball(center, radius, spacing) for radius in (5.0, 8.0))
    distances = surface_distances(inner, outer, spacing)
    assert hausdorff_95_mm(distances) == pytest.approx(3.0, abs=0.5)
    assert surface_dice(distances, 2.0) == 0
    assert surface_dice(distances, 4.0) == 1


@pytest.mark.parametrize(
    ("spacing", "hd95_mm", "dice_1mm", "dice_2mm"),
    [(_UNIT, 2.0, 0.7568, 0.9528), ((0.9, 0.9, 3.0), 3.6125, 0.6610, 0.8155)],
)
def test_numbers_of_another_package(spacing, hd95_mm, dice_1mm, dice_2mm):
    """What `surface-distance` 0.1 (Nikolov et al.) gives for the same masks.

    Its table has other areas for some patterns in which surfaces touch at a point.
    """
    grid = np.indices((40, 36, 20))

    def ellipsoid(center, radii):
        columns = (3, 1, 1, 1)
        offset = (grid - np.reshape(center, columns)) / np.reshape(radii, columns)
        return np.square(offset).sum(0) < 1

    reference = ellipsoid((19.3, 17.2, 9.1), (14, 11, 6))
    prediction = ellipsoid((20.6, 16.4, 9.9), (12, 12, 7))
    prediction[2:5, 30:33, 2:4] = True
    distances = surface_distances(reference, prediction, spacing)
    assert hausdorff_95_mm(distances) == pytest.approx(hd95_mm, abs=1e-4)
    assert surface_dice(distances, 1.0) == pytest.approx(dice_1mm, abs=0.002)
    assert surface_dice(distances, 2.0) == pytest.approx(dice_2mm, abs=0.002)


@settings(max_examples=30, deadline=None)
@given(_TWO_MASKS, _SPACINGS)
def test_exchanging_the_masks_changes_nothing(masks, spacing):
    there = surface_distances(masks[0], masks[1], spacing)
    back = surface_distances(masks[1], masks[0], spacing)
    assert hausdorff_95_mm(there) == pytest.approx(hausdorff_95_mm(back))
    assert surface_dice(there, 1.0) == pytest.approx(surface_dice(back, 1.0))


def test_a_spacing_rounded_in_single_precision_is_still_within_the_tolerance():
    side_mm = float(np.float32(1) + np.float32(2e-7))
    spacing = (side_mm, side_mm, side_mm)
    box = np.zeros((8, 8, 8), bool)
    box[2:5, 2:5, 2:5] = True
    distances = surface_distances(box, np.roll(box, 1, 0), spacing)
    assert surface_dice(distances, 1.0) == 1


def test_the_edge_of_the_image_is_a_surface():
    full = np.ones((4, 4, 4), bool)
    assert hausdorff_95_mm(surface_distances(full, full, _UNIT)) == 0
    half = full.copy()
    half[2:] = False
    assert hausdorff_95_mm(surface_distances(full, half, _UNIT)) == 2


_GOOD = np.ones((3, 3, 3), bool)


@pytest.mark.parametrize(
    ("reference", "prediction", "spacing", "message"),
    [
        (_GOOD, ~_GOOD, _UNIT, "two masks that are not empty"),
        (_GOOD, np.ones((3, 3, 4), bool), _UNIT, "differ in shape"),
        (_GOOD, np.ones((3, 3, 3)), _UNIT, "`prediction` has .* type float64"),
        (np.ones((3, 3), bool), _GOOD, _UNIT, r"`reference` has shape \(3, 3\)"),
        (_GOOD, _GOOD, (1.0, 0.0, 1.0), r"`spacing` is \(1.0, 0.0, 1.0\)"),
        (_GOOD, _GOOD, (1.0, math.nan, 1.0), "three positive numbers"),
        (_GOOD, _GOOD, (1.0, 1.0), "three positive numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference, prediction, spacing, message):
    with pytest.raises(ValueError, match=message):
        surface_distances(reference, prediction, spacing)


def test_a_box_ends_with_the_array():
    mask = np.zeros((6, 7, 8), bool)
    mask[1:3, 5, 0] = True
    assert bounding_box(mask) == (slice(1, 3), slice(5, 6), slice(0, 1))
    assert bounding_box(mask, 3) == (slice(0, 6), slice(2, 7), slice(0, 4))
