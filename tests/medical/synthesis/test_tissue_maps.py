import numpy as np
import pytest

from jaxswap.medical.synthesis.head_shapes import ShapeRanges, draw_head_shape
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.tissue_maps import (
    TissueMaps,
    load_tissue_maps,
    sample_tissues,
    smoothing_for,
    to_voxels,
)

STILL = ShapeRanges(rotation_degrees=0, scale=(1, 1), velocity_mm=0, mirror=0)


@pytest.fixture(scope="module")
def maps() -> TissueMaps:
    return load_tissue_maps()


def test_shares_add_up_to_the_brain(maps: TissueMaps) -> None:
    total = maps.white + maps.grey + maps.fluid
    np.testing.assert_allclose(total, maps.brain, atol=1e-4)


def test_tissues_have_about_the_volumes_of_a_brain(maps: TissueMaps) -> None:
    litres = {n: float(getattr(maps, n).sum()) / 1e6 for n in ("white", "grey")}
    assert 0.4 < litres["white"] < 0.9
    assert 0.6 < litres["grey"] < 1.2
    assert 1.3 < maps.brain.sum() / 1e6 < 2.0


def test_ventricles_are_fluid_and_the_centrum_semiovale_is_white(
    maps: TissueMaps,
) -> None:
    points = np.array([[8.0, 25.0], [5.0, -20.0], [20.0, 30.0]])  # two columns
    x, y, z = np.rint(to_voxels(points, maps.affine)).astype(int)
    assert maps.white[x[1], y[1], z[1]] > 0.9
    near = maps.fluid[x[0] - 3 : x[0] + 4, y[0] - 3 : y[0] + 4, z[0] - 3 : z[0] + 4]
    assert near.max() > 0.9


def test_sampling_the_unchanged_head_gives_the_maps_themselves(
    maps: TissueMaps,
) -> None:
    head = draw_head_shape(np.random.default_rng(0), STILL)
    lattice = Lattice((0.0, 0.0, 0.0), 1.0, (20, 20, 20))  # 0 is at (0, -17, 5) mm
    sampled = sample_tissues(maps, head, lattice)
    x, y, z = np.rint(to_voxels(np.array([0.0, -17.0, 5.0]), maps.affine)).astype(int)
    window = (slice(x, x + 20), slice(y, y + 20), slice(z, z + 20))
    np.testing.assert_allclose(sampled.white, maps.white[window], atol=1e-4)
    np.testing.assert_allclose(sampled.fluid, maps.fluid[window], atol=1e-4)


def test_sampled_shares_add_up_and_are_nothing_outside(maps: TissueMaps) -> None:
    head = draw_head_shape(np.random.default_rng(1), ShapeRanges())
    sampled = sample_tissues(maps, head, Lattice.centered((48, 48, 48), 4.0))
    total = sampled.white + sampled.grey + sampled.fluid
    inside = sampled.brain > 0
    np.testing.assert_allclose(total[inside], 1, atol=1e-4)
    assert not total[~inside].any()
    assert not inside[0].any()


def test_surface_of_the_brain_is_not_taken_for_fluid() -> None:
    brain = np.zeros((20, 20, 20), np.float32)
    brain[:, :, 10:] = 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [-10, -27, -5]  # voxel 10 is at the center of the MNI brain
    nothing = np.zeros_like(brain)
    white = TissueMaps(brain, nothing, nothing, brain, affine)
    head = draw_head_shape(np.random.default_rng(0), STILL)
    lattice = Lattice((0.0, 0.0, -0.25), 1.0, (3, 3, 3))  # a quarter voxel outside
    sampled = sample_tissues(white, head, lattice)
    np.testing.assert_allclose(sampled.white, 1, atol=1e-4)
    np.testing.assert_allclose(sampled.fluid, 0, atol=1e-4)


def test_cut_maps_keep_their_millimeters(maps: TissueMaps) -> None:
    part = maps.cut((slice(10, 20), slice(30, 50), slice(5, 9)))
    assert part.white.shape == (10, 20, 4)
    here = part.affine @ np.array([0, 0, 0, 1])
    np.testing.assert_allclose(here, maps.affine @ np.array([10, 30, 5, 1]))


def test_maps_are_smoothed_for_coarser_grids_only() -> None:
    assert smoothing_for(0.5) == smoothing_for(1.0) == 0
    assert smoothing_for(2.5) == pytest.approx(0.75)
    soft, sharp = load_tissue_maps(1.5), load_tissue_maps()
    assert np.abs(np.diff(soft.white)).max() < 0.5 * np.abs(np.diff(sharp.white)).max()
