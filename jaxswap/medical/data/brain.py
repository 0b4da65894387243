"""Which voxels of an image count.

In most data sets of brains the skull is removed, and the image is exactly 0 outside the
brain. Where no value marks the background, all voxels count. Only if asked for, Otsu's
threshold separates a bright head from the air: it would cut dark structures off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.volumes import VolumeError

MASKS = ("foreground", "brain", "none")
"""Kinds of masks, by the name they have in a config."""

_BINS = 256
_MOST_OF_BORDER = 0.5
_SMOOTHING_VOXELS = 1.0


@dataclass(frozen=True, eq=False)
class Brain:
    """The voxels that count.

    Attributes:
        mask: Bool, (x, y, z), with at least one true voxel.
        has_background: Whether one value marks the outside. If not, the mask is the
            whole image, or a guess from the intensities.
    """

    mask: np.ndarray
    has_background: bool


def brain_mask(
    image: np.ndarray, name: str = "image", kind: str = "foreground"
) -> Brain:
    """Find the voxels that count: the brain, if the skull has been removed.

    A voxel is outside if every channel has its background value there. The background
    value is 0, or the value of all eight corners, as in images that were normalized
    before. If the remaining voxels cover most of the border, there is no background
    value. Then all voxels count.

    Args:
        image: Finite intensities, (x, y, z, channel).
        name: Name of the image, for messages.
        kind: One of `MASKS`. "brain": where there is no background value, the largest
            bright region of the mean channel. "none": all voxels, in any case.

    Returns:
        The mask.

    Raises:
        VolumeError: If the image has the same value everywhere.

    References:
        Otsu 1979, A threshold selection method from gray-level histograms.
    """
    if kind == "none":
        return Brain(np.ones(image.shape[:3], bool), False)
    mask = np.zeros(image.shape[:3], bool)
    for index in range(image.shape[-1]):
        channel = image[..., index]
        mask |= channel != _background(channel)
    if not mask.any():
        raise VolumeError(f"{name}: every voxel has the same value in every channel.")
    if _share_of_border(mask) <= _MOST_OF_BORDER:
        return Brain(mask, True)
    if kind == "brain":
        return Brain(_bright_region(image, name), False)
    return Brain(np.ones(image.shape[:3], bool), False)


def otsu_threshold(values: np.ndarray) -> float:
    """Find the threshold that best separates two groups of values.

    Args:
        values: Finite numbers, any shape, not all the same.

    Returns:
        The threshold. The upper group is above it.
    """
    counts, edges = np.histogram(values, bins=_BINS)
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * centers)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * np.square(mean_above - mean_below)
    return float(edges[1:-1][np.argmax(between)])


def _background(channel: np.ndarray) -> float:
    corners = channel[:: max(channel.shape[0] - 1, 1)]
    corners = corners[:, :: max(channel.shape[1] - 1, 1)]
    corners = corners[:, :, :: max(channel.shape[2] - 1, 1)]
    return float(corners.flat[0]) if (corners == corners.flat[0]).all() else 0.0


def _share_of_border(mask: np.ndarray) -> float:
    faces = [np.take(mask, side, axis) for axis in range(3) for side in (0, -1)]
    return sum(int(face.sum()) for face in faces) / sum(face.size for face in faces)


def _bright_region(image: np.ndarray, name: str) -> np.ndarray:
    # Channels may have very different units, so each is brought to 0..1 first.
    low = np.percentile(image, 1, axis=(0, 1, 2))
    high = np.percentile(image, 99, axis=(0, 1, 2))
    scale = np.where(high > low, high - low, 1)
    mean = np.clip((image - low) / scale, 0, 1).mean(axis=-1)
    smooth = ndimage.gaussian_filter(mean, _SMOOTHING_VOXELS)
    if np.ptp(smooth) == 0:
        raise VolumeError(f"{name}: the brain cannot be found by its brightness.")
    bright = smooth > otsu_threshold(smooth)
    regions = np.zeros(bright.shape, np.int32)
    ndimage.label(bright, output=regions)
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    filled = ndimage.binary_fill_holes(regions == largest)
    assert filled is not None
    return filled
