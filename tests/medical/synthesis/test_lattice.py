import numpy as np
import pytest

from jaxswap.medical.synthesis.lattice import Lattice, interpolate, smooth_noise


def test_centered_lattice_has_its_middle_at_the_origin() -> None:
    lattice = Lattice.centered((3, 5, 8), 2.0)
    for axis in range(3):
        points = lattice.axis_mm(axis)
        assert points.mean() == pytest.approx(0)
        assert len(points) == lattice.shape[axis]


def test_distance_is_measured_in_millimeters() -> None:
    lattice = Lattice.centered((5, 5, 5), 2.0)
    distance = lattice.distance_mm(np.zeros(3))
    assert distance[2, 2, 2] == 0
    assert distance[0, 2, 2] == pytest.approx(4)
    assert distance[0, 0, 2] == pytest.approx(np.sqrt(32))


def test_index_of_a_point_is_that_of_the_nearest_voxel() -> None:
    lattice = Lattice.centered((5, 6, 7), 2.0)
    point = lattice.point_mm((1, 2, 3)) + 0.9
    assert lattice.index_of(point) == (1, 2, 3)
    assert lattice.index_of(np.array([99.0, -99.0, 0.0])) == (4, 0, 3)


def test_cut_lattice_keeps_its_points_where_they_are() -> None:
    lattice = Lattice.centered((9, 9, 9), 1.5)
    window = lattice.window(np.array([-2.0, -3.0, 0.0]), np.array([3.0, 3.0, 6.0]))
    part = lattice.cut(window)
    for axis in range(3):
        np.testing.assert_allclose(
            part.axis_mm(axis), lattice.axis_mm(axis)[window[axis]]
        )


@pytest.mark.parametrize("spacing", [1.7, 2.5, 4.0])
def test_coarser_lattice_covers_the_finer_one(spacing: float) -> None:
    lattice = Lattice.centered((20, 21, 5), 1.0)
    coarse = lattice.coarser(spacing)
    for axis in range(3):
        assert coarse.axis_mm(axis)[0] == lattice.axis_mm(axis)[0]
        assert coarse.axis_mm(axis)[-1] >= lattice.axis_mm(axis)[-1]


def test_resampling_a_linear_field_is_exact() -> None:
    fine = Lattice.centered((12, 9, 10), 1.0)
    coarse = fine.coarser(3.0)
    x, y, z = coarse.axes_mm()
    field = np.stack([2 * x - y + 3 * z, x + 0 * y + 0 * z])
    found = interpolate(field, coarse, fine)
    x, y, z = fine.axes_mm()
    np.testing.assert_allclose(found[0], 2 * x - y + 3 * z, atol=1e-5)
    np.testing.assert_allclose(found[1], np.broadcast_to(x, fine.shape), atol=1e-5)


def test_resampling_beyond_the_source_keeps_the_outermost_value() -> None:
    source = Lattice.centered((3, 3, 3), 1.0)
    onto = Lattice.centered((9, 3, 3), 1.0)
    field = source.axes_mm()[0] + np.zeros(source.shape, np.float32)
    found = interpolate(field, source, onto)
    assert found[0, 1, 1] == -1
    assert found[-1, 1, 1] == 1


@pytest.mark.parametrize("length", [1.0, 4.0, 12.0])
def test_smooth_noise_has_unit_deviation_and_its_length(length: float) -> None:
    lattice = Lattice.centered((64, 64, 64), 1.0)
    field = smooth_noise(np.random.default_rng(0), lattice, length)
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, abs=1e-4)
    # White noise smoothed by a Gaussian of deviation L has correlation exp(-d^2/4L^2).
    lag = round(2 * length)
    correlation = float(np.mean(field[lag:] * field[:-lag]))
    assert correlation == pytest.approx(np.exp(-1), abs=0.15)


def test_smooth_noise_depends_on_the_seed_alone() -> None:
    lattice = Lattice.centered((8, 8, 8), 1.0)
    first, again, other = (
        smooth_noise(np.random.default_rng(seed), lattice, 2.0) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
