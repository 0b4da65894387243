"""The geometry of sets of voxels: how large, how deep, how far, in how many pieces."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def bounding_window(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Returns the slices of the smallest box that holds all of a mask.

    Args:
      mask: Bool, (x, y, z), not all False.
      margin: Voxels to add on each side, as far as the array reaches.

    Returns:
      A slice for each axis.
    """
    window = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        low, high = int(inside[0]) - margin, int(inside[-1]) + margin + 1
        window.append(slice(max(low, 0), min(high, mask.shape[axis])))
    return tuple(window)


def sides_mm(mask: np.ndarray, spacing_mm: float) -> tuple[float, ...]:
    """Returns the sides of the box around a mask; zeros if it is empty.

    Example:
      >>> mask = np.zeros((5, 5, 5), bool)
      >>> mask[1:3, 2, 0:4] = True
      >>> sides_mm(mask, 2.0)
      (4.0, 2.0, 8.0)
    """
    if not mask.any():
        return (0.0, 0.0, 0.0)
    window = bounding_window(mask)
    return tuple((part.stop - part.start) * spacing_mm for part in window)


def depth_mm(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Returns how far each voxel of a mask is from the nearest one outside it.

    Args:
      mask: Bool, (x, y, z).
      spacing_mm: Distance between voxels.

    Returns:
      Millimeters between centers, float32, (x, y, z); 0 outside the mask, and infinite
      if there is no voxel outside.
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    steps = np.asarray(ndimage.distance_transform_edt(mask), np.float32)
    return np.float32(spacing_mm) * steps


def distance_mm(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Returns how far each voxel is from a mask; infinite if it is empty."""
    return depth_mm(~mask, spacing_mm)


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Returns the largest part of a mask whose voxels share faces, bool, (x, y, z)."""
    pieces = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, output=pieces)
    if count == 0:
        return mask
    sizes = np.bincount(np.ravel(pieces))
    sizes[0] = 0
    return pieces == int(sizes.argmax())
