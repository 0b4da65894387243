"""Nothing is lost on the way to the prepared grid and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxswap.medical.data.grid import Grid, resize
from jaxswap.medical.preparing.preparing import fit_shape

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def _grid(ras_shape, start, cropped, resampled, before, shape):
    return Grid(
        path=None,
        file_affine=np.eye(4),
        file_header=None,
        ras_affine=np.diag([1.0, 2.0, 3.0, 1.0]),
        ras_shape=ras_shape,
        start=start,
        cropped=cropped,
        resampled=resampled,
        before=before,
        shape=shape,
    )


@settings(max_examples=25, deadline=None)
@given(
    shape=SHAPES,
    multiple=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_restoring_undoes_preparing(shape, multiple, seed):
    rng = np.random.default_rng(seed)
    start = tuple(int(rng.integers(0, n)) for n in shape)
    room = [n - a for a, n in zip(start, shape, strict=True)]
    cropped = tuple(int(rng.integers(1, n + 1)) for n in room)
    before = tuple(int(rng.integers(0, 3)) for _ in range(3))
    padded = fit_shape([n + 3 for n in cropped], multiple)
    grid = _grid(shape, start, cropped, cropped, before, padded)
    box = tuple(slice(a, a + n) for a, n in zip(start, cropped, strict=True))
    inside = np.zeros((*shape, 2), np.float32)
    inside[box] = rng.random((*cropped, 2))
    np.testing.assert_array_equal(grid.restore(grid.apply(inside)), inside)


def test_resampling_keeps_places_and_labels():
    ramp = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 4, 4)).astype(
        np.float32
    )
    fine = resize(ramp, (24, 4, 4))
    # Voxel i of 24 covers the left or right half of voxel i // 2 of 12.
    np.testing.assert_allclose(fine[2:22, 0, 0], np.arange(24)[2:22] / 2 - 0.25)
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 200
    coarse = resize(labels, (4, 4, 4))
    assert coarse.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(coarse), [0, 200])
    assert (coarse == 200).sum() == 8


def test_the_affine_places_prepared_voxels():
    grid = _grid((9, 9, 9), (1, 2, 3), (4, 4, 4), (4, 4, 4), (2, 1, 0), (8, 8, 8))
    # Prepared voxel (2, 1, 0) is voxel (1, 2, 3) of the file.
    np.testing.assert_allclose(grid.affine @ [2, 1, 0, 1], [1, 4, 9, 1])
    assert grid.spacing_mm == (1, 2, 3)
    half = _grid((9, 9, 9), (1, 2, 3), (4, 4, 4), (8, 8, 8), (0, 0, 0), (8, 8, 8))
    # Two prepared voxels share one of the file; their middle is its middle.
    np.testing.assert_allclose(half.affine @ [0.5, 0.5, 0.5, 1], [1, 4, 9, 1])
    assert half.spacing_mm == (0.5, 1, 1.5)


def test_probabilities_are_restored_too():
    grid = _grid((6, 6, 6), (1, 1, 1), (4, 4, 4), (8, 4, 4), (0, 2, 2), (8, 8, 8))
    whole = np.zeros((8, 8, 8, 3), np.float32)
    whole[:, 2:6, 2:6] = 0.25, 0.5, 0.75
    restored = grid.restore(whole)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored[1:5, 1:5, 1:5, 1], 0.5)
    assert restored[..., 1].sum() == pytest.approx(32)
