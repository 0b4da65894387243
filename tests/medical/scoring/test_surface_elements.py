"""Areas between eight voxels: closed forms, symmetry, planes and balls."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxswap.medical.scoring.surface_elements import surface_elements

_UNIT = (1.0, 1.0, 1.0)
_masks = arrays(np.bool_, st.tuples(*[st.integers(1, 5)] * 3))
_spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)


def _areas_mm2(mask, spacing):
    """The area at every point, 0 where there is no surface."""
    points, areas_mm2 = surface_elements(mask, spacing)
    assert (areas_mm2 > 0).all()
    everywhere = np.zeros(points.shape)
    everywhere[points] = areas_mm2
    return everywhere


def _eight(*corners):
    """The area at the middle of 2 x 2 x 2 voxels of which these are inside."""
    mask = np.zeros((2, 2, 2), bool)
    for corner in corners:
        mask[corner] = True
    return _areas_mm2(mask, _UNIT)[1, 1, 1]


@pytest.mark.parametrize(
    ("corners", "area"),
    [
        ([], 0),
        ([(0, 0, 0)], math.sqrt(3) / 8),
        ([(0, 0, 0), (0, 0, 1)], math.sqrt(2) / 2),
        ([(0, 0, 0), (1, 1, 1)], math.sqrt(3) / 4),
        ([(0, 0, 0), (0, 1, 1)], math.sqrt(3) / 4),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)], 1),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)], 3 * math.sqrt(3) / 4),
        ([(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)], math.sqrt(2)),
        (list(itertools.product((0, 1), repeat=3)), 0),
    ],
)
def test_areas_of_known_patterns(corners, area):
    assert _eight(*corners) == pytest.approx(area)


@settings(deadline=None)
@given(_masks, _spacings, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_turning_and_mirroring_turn_and_mirror_the_areas(mask, spacing, order, flips):
    axes = tuple(axis for axis in range(3) if flips[axis])
    areas = np.flip(_areas_mm2(mask, spacing), axes).transpose(order)
    turned = np.flip(mask, axes).transpose(order)
    there = (spacing[order[0]], spacing[order[1]], spacing[order[2]])
    np.testing.assert_allclose(_areas_mm2(turned, there), areas, rtol=1e-9)


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 3), _spacings)
def test_a_box_has_its_faces_bevelled_edges_and_corners(sides, spacing):
    face = {
        pair: math.prod(spacing[a] for a in pair) for pair in ((0, 1), (0, 2), (1, 2))
    }
    expected = 8 * math.hypot(*face.values()) / 8
    for axis in range(3):
        first, second = [other for other in range(3) if other != axis]
        flat = (sides[first] - 1) * (sides[second] - 1)
        expected += 2 * flat * face[first, second]
        bevel_mm = math.hypot(spacing[first], spacing[second]) / 2
        expected += 4 * (sides[axis] - 1) * spacing[axis] * bevel_mm
    areas = _areas_mm2(np.ones(sides, bool), spacing)
    assert areas.sum() == pytest.approx(expected)


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 1), (1, 1, 1), (1, -1, 0)])
@pytest.mark.parametrize("spacing", [_UNIT, (0.5, 2.0, 3.0)])
def test_planes_along_axes_and_diagonals_are_exact(normal, spacing):
    mask = np.tensordot(normal, np.indices((14, 14, 14)) - 7, 1) <= 0
    axis = int(np.flatnonzero(normal)[0])
    middle = [slice(6, 9)] * 3
    middle[axis] = slice(1, -1)
    areas = _areas_mm2(mask, spacing)[tuple(middle)].sum(axis)
    normal_mm = np.divide(normal, spacing)
    face_mm2 = math.prod(spacing) / spacing[axis]
    expected = face_mm2 * np.linalg.norm(normal_mm) / abs(normal_mm[axis])
    np.testing.assert_allclose(areas, expected)


def test_a_ball_is_rough_but_never_by_more_than_13_percent():
    grid = np.indices((50, 50, 50)) - 24.5
    areas = _areas_mm2((np.square(grid).sum(0) < 22**2), _UNIT)
    assert 1.0 < areas.sum() / (4 * math.pi * 22**2) < 1.13
