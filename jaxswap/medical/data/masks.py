"""The geometry of sets of voxels: size, depth, distance, pieces."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Find the smallest box around a mask that has a true voxel.

    Args:
        mask: True inside, bool, any number of axes.
        margin: Voxels to add on every side, as far as the array goes.

    Returns:
        One slice for each axis.
    """
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(others))
        low, high = int(occupied[0]) - margin, int(occupied[-1]) + 1 + margin
        box.append(slice(max(low, 0), min(high, mask.shape[axis])))
    return tuple(box)


def sides_mm(mask: np.ndarray, spacing_mm: float) -> tuple[float, ...]:
    """Return the sides of the box around a mask. Zeros if the mask is empty.

    Example:
        >>> mask = np.zeros((5, 5, 5), bool)
        >>> mask[1:3, 2, 0:4] = True
        >>> sides_mm(mask, 2.0)
        (4.0, 2.0, 8.0)
    """
    if not mask.any():
        return (0.0, 0.0, 0.0)
    window = bounding_box(mask)
    return tuple((part.stop - part.start) * spacing_mm for part in window)


def depth_mm(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return the distance of each voxel of a mask to the nearest voxel outside.

    Args:
        mask: Bool, (x, y, z).
        spacing_mm: Distance between voxels.

    Returns:
        Millimeters between centers, float32, (x, y, z). 0 outside the mask. Infinite
        if no voxel is outside.
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    steps = np.asarray(ndimage.distance_transform_edt(mask), np.float32)
    return np.float32(spacing_mm) * steps


def distance_mm(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return the distance of each voxel to a mask. Infinite if the mask is empty."""
    return depth_mm(~mask, spacing_mm)


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest part of a mask that is connected by faces, (x, y, z)."""
    pieces = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, output=pieces)
    if count == 0:
        return mask
    sizes = np.bincount(np.ravel(pieces))
    sizes[0] = 0
    return pieces == int(sizes.argmax())
