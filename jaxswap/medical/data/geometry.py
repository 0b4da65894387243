"""How far apart two grids of one shape place their voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes

MOST_VOXELS_APART = 0.5
"""Grids that are further apart are not the same: voxels have other neighbours."""

NOTED_VOXELS_APART = 0.05
"""Grids that are closer differ by rounding."""


LEAST_MM, MOST_MM = 0.1, 20.0
"""Voxels of medical images have sides in this range."""


def odd_spacing(spacing_mm: Sequence[float]) -> str:
    """Say what is odd about the size of voxels. Empty if nothing is.

    Args:
        spacing_mm: Sides of a voxel.

    Example:
        >>> odd_spacing((1, 1, 25))
        'voxels are 1 x 1 x 25 mm, not in 0.1..20 mm; is the header right?'
        >>> odd_spacing((1, 1, 5))
        ''
    """
    if min(spacing_mm) >= LEAST_MM and max(spacing_mm) <= MOST_MM:
        return ""
    sides = " x ".join(f"{size:g}" for size in spacing_mm)
    return (
        f"voxels are {sides} mm, not in {LEAST_MM:g}..{MOST_MM:g} mm; is the header "
        "right?"
    )


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
