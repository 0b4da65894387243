"""How far apart two grids of one shape place their voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes

MOST_VOXELS_APART = 0.5
"""Grids that are further apart are not the same: voxels have other neighbours."""

NOTED_VOXELS_APART = 0.05
"""Grids that are closer differ by rounding."""


def distance_mm(
    affine: np.ndarray, reference: np.ndarray, shape: Sequence[int]
) -> float:
    """Return the largest distance between voxels of equal indices.

    It is that of a corner, because affines are linear.

    Args:
        affine: Maps indices of one grid to millimeters, (4, 4).
        reference: The same of the other grid.
        shape: Voxels of both grids.
    """
    last = np.array(shape) - 1
    corners = np.array([[*(last * np.array(c)), 1] for c in np.ndindex(2, 2, 2)])
    shift = (affine - reference) @ corners.T
    return float(np.linalg.norm(shift[:3], axis=0).max())


def voxels_apart(
    affine: np.ndarray, reference: np.ndarray, shape: Sequence[int]
) -> float:
    """Return `distance_mm` as a share of the shortest side of the reference's voxels.

    Args:
        affine: See `distance_mm`.
        reference: See `distance_mm`.
        shape: See `distance_mm`.
    """
    side_mm = float(voxel_sizes(reference).min())
    return distance_mm(affine, reference, shape) / side_mm
