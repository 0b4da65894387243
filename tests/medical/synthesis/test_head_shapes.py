import numpy as np
import pytest

from jaxswap.medical.synthesis.head_shapes import (
    REGION,
    HeadShape,
    ShapeRanges,
    draw_head_shape,
    flow,
    push_aside,
)
from jaxswap.medical.synthesis.lattice import Lattice, smooth_noise

SMALL = Lattice.centered((24, 24, 24), 4.0)
STILL = ShapeRanges(rotation_degrees=0, scale=(1, 1), velocity_mm=0, mirror=0)


def jacobians(points: np.ndarray, spacing: float) -> np.ndarray:
    gradient = np.stack(
        [np.stack(np.gradient(part, spacing), axis=-1) for part in points], axis=-2
    )
    return np.linalg.det(gradient)


def identity(lattice: Lattice) -> HeadShape:
    return HeadShape(
        np.eye(3), np.zeros((3, *lattice.shape), np.float32), lattice, False, 1.0
    )


def test_head_without_any_change_is_the_mni_head() -> None:
    head = draw_head_shape(np.random.default_rng(0), STILL)
    lattice = Lattice.centered((3, 3, 3), 10.0)
    points = head.to_mni(lattice)
    x, y, z = lattice.axes_mm()
    np.testing.assert_allclose(points[0], np.broadcast_to(x, (3, 3, 3)), atol=1e-4)
    np.testing.assert_allclose(points[1], np.broadcast_to(y - 17, (3, 3, 3)), atol=1e-4)
    np.testing.assert_allclose(points[2], np.broadcast_to(z + 5, (3, 3, 3)), atol=1e-4)


def test_larger_head_is_found_in_a_smaller_part_of_mni() -> None:
    ranges = ShapeRanges(rotation_degrees=0, scale=(2, 2), velocity_mm=0, mirror=0)
    head = draw_head_shape(np.random.default_rng(0), ranges)
    points = head.to_mni(Lattice.centered((3, 3, 3), 10.0))
    assert points[0, 2, 1, 1] == pytest.approx(5)
    assert head.size == 2


def test_mirrored_head_has_left_and_right_exchanged() -> None:
    ranges = ShapeRanges(rotation_degrees=0, scale=(1, 1), velocity_mm=0, mirror=1)
    head = draw_head_shape(np.random.default_rng(0), ranges)
    points = head.to_mni(Lattice.centered((3, 3, 3), 10.0))
    assert head.is_mirrored
    assert points[0, 2, 1, 1] == pytest.approx(-10)
    assert points[2, 1, 1, 2] == pytest.approx(15)


def test_rotations_stay_within_their_range() -> None:
    ranges = ShapeRanges(rotation_degrees=30, scale=(1, 1), velocity_mm=0, mirror=0)
    largest = 0.0
    for seed in range(6):
        matrix = draw_head_shape(np.random.default_rng(seed), ranges).matrix
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
        # The third axis is turned by the angles about the first two.
        angle = np.rad2deg(np.arccos(matrix[2, 2]))
        largest = max(largest, angle)
        assert angle <= 45
    assert largest > 15


@pytest.mark.parametrize("seed", range(3))
def test_tissue_is_never_folded(seed: int) -> None:
    ranges = ShapeRanges(velocity_mm=6.0, mirror=0)
    head = draw_head_shape(np.random.default_rng(seed), ranges)
    assert np.abs(head.displacement_mm).max() > 1
    assert jacobians(head.to_mni(REGION), REGION.spacing_mm).min() > 0


def test_flow_is_undone_by_the_opposite_velocity() -> None:
    random = np.random.default_rng(0)
    velocity = np.stack([4 * smooth_noise(random, SMALL, 16.0) for _ in range(3)])
    # Still at the edge, beyond which nothing is known.
    x, y, z = (np.cos(np.pi * axis / 100) for axis in SMALL.axes_mm())
    velocity *= np.maximum(x * y * z, 0)
    there, back = flow(velocity, SMALL), flow(-velocity, SMALL)
    head = HeadShape(np.eye(3), there, SMALL, False, 1.0)
    moved = push_along(back, head)
    assert np.abs(there).max() > 3
    assert np.abs(moved).max() < 0.1 * np.abs(there).max()


def push_along(back: np.ndarray, head: HeadShape) -> np.ndarray:
    """Displacement of going `back` and then along the head's displacement."""
    from scipy import ndimage

    indices = np.indices(SMALL.shape) + back / SMALL.spacing_mm
    there = [
        ndimage.map_coordinates(part, indices, order=1, mode="nearest")
        for part in head.displacement_mm
    ]
    return back + np.stack(there)


def test_push_moves_tissue_outwards_and_is_largest_at_its_reach() -> None:
    deep = np.full(SMALL.shape, 100, np.float32)
    head = push_aside(identity(SMALL), np.zeros(3), 8.0, 20.0, deep)
    x = SMALL.axis_mm(0)
    # Tissue now at x was nearer to the center before.
    along = head.displacement_mm[0][:, 12, 12]
    assert (along[x > 4] < 0).all()
    assert (along[x < -4] > 0).all()
    assert abs(x[np.argmin(along)]) == pytest.approx(20, abs=4)
    assert -along.min() == pytest.approx(8, abs=0.3)


def test_push_fades_at_the_skull() -> None:
    x, y, z = SMALL.axes_mm()
    depth = np.clip(30 - np.sqrt(x**2 + y**2 + z**2), 0, None)
    head = push_aside(identity(SMALL), np.zeros(3), 8.0, 20.0, depth)
    assert np.abs(head.displacement_mm[:, depth == 0]).max() == 0
    assert np.abs(head.displacement_mm).max() > 2


@pytest.mark.parametrize(("push", "reach"), [(5.0, 15.0), (15.0, 15.0), (15.0, 33.0)])
def test_push_never_folds_tissue(push: float, reach: float) -> None:
    x, y, z = SMALL.axes_mm()
    depth = np.clip(45 - np.sqrt((x + 9) ** 2 + y**2 + z**2), 0, None)
    head = push_aside(identity(SMALL), np.array([9.0, 0, 0]), push, reach, depth)
    assert jacobians(head.to_mni(SMALL), SMALL.spacing_mm).min() > 0
