"""What a scanner adds to an ideal image: shading, motion, thick slices and noise.

An image of signals becomes one of int16 intensities as in a BraTS file, with a
background of exactly 0. The faults are those of skull-stripped, resampled clinical
images, in the ranges of the BrainWeb phantom and of TorchIO's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.synthesis.lattice import Lattice, smooth_noise

_BRIGHT = 1000  # Intensity of the 99.5th percentile of the brain.
_BIAS_LENGTH_MM = 45.0


@dataclass(frozen=True)
class AcquisitionRanges:
    """How strong the faults of images may be.

    Attributes:
        bias: Largest typical logarithm of the smooth shading.
        noise: Smallest and largest standard deviation of the noise, relative to bright
            tissue.
        ghosts: Share of images with a ghost by periodic motion.
        ghost_strength: Smallest and largest strength of a ghost.
        thick_slices: Share of images that were acquired in thick slices.
        slice_mm: Smallest and largest thickness of such slices.
    """

    bias: float = 0.3
    noise: tuple[float, float] = (0.01, 0.05)
    ghosts: float = 0.06
    ghost_strength: tuple[float, float] = (0.04, 0.12)
    thick_slices: float = 0.12
    slice_mm: tuple[float, float] = (3.0, 5.0)


@dataclass(frozen=True)
class Acquisition:
    """How one image was acquired.

    Attributes:
        bias: Typical logarithm of the shading.
        noise: Standard deviation of the noise, relative to bright tissue.
        ghost: Strength of the ghost. 0 for no ghost.
        ghost_period: The motion repeats after this many lines of k-space.
        slice_mm: Thickness of the slices. 0 if they are as thin as the voxels.
        slice_axis: Axis across the slices.
    """

    bias: float
    noise: float
    ghost: float
    ghost_period: int
    slice_mm: float
    slice_axis: int


def draw_acquisition(
    random: np.random.Generator, ranges: AcquisitionRanges
) -> Acquisition:
    """Draw how one image is acquired."""
    has_ghost = random.random() < ranges.ghosts
    ghost = float(random.uniform(*ranges.ghost_strength))
    is_thick = random.random() < ranges.thick_slices
    thickness = float(random.uniform(*ranges.slice_mm))
    return Acquisition(
        bias=float(ranges.bias * random.random()),
        noise=float(random.uniform(*ranges.noise)),
        ghost=ghost if has_ghost else 0.0,
        ghost_period=int(random.integers(2, 6)),
        slice_mm=thickness if is_thick else 0.0,
        slice_axis=int(random.choice([2, 2, 2, 1, 0])),  # Mostly axial.
    )


def acquire(
    image: np.ndarray,
    brain: np.ndarray,
    lattice: Lattice,
    acquisition: Acquisition,
    random: np.random.Generator,
) -> np.ndarray:
    """Acquire an image, with the faults of an acquisition.

    Args:
        image: Signals, float32, (x, y, z).
        brain: Voxels to keep, bool, same shape.
        lattice: The lattice of the voxels.
        acquisition: How the image is acquired.
        random: Source of shading and noise.

    Returns:
        Intensities, int16. At least 1 inside the brain, where the 99.5th percentile is
        1000. 0 outside.
    """
    field = smooth_noise(random, lattice, _BIAS_LENGTH_MM)
    image = image * np.exp(np.float32(acquisition.bias) * field)
    if acquisition.ghost:
        image = add_ghost(image, acquisition.ghost, acquisition.ghost_period)
    if acquisition.slice_mm > lattice.spacing_mm:
        thickness = acquisition.slice_mm / lattice.spacing_mm
        image = thicken_slices(image, brain, thickness, acquisition.slice_axis)
    values = image[brain]
    deviation = acquisition.noise * float(np.percentile(values, 99.5))
    values = add_rician_noise(values, deviation, random)
    values *= _BRIGHT / max(float(np.percentile(values, 99.5)), 1e-6)
    result = np.zeros(image.shape, np.int16)
    result[brain] = np.clip(np.rint(values), 1, np.iinfo(np.int16).max)
    return result


def add_rician_noise(
    values: np.ndarray, deviation: float, random: np.random.Generator
) -> np.ndarray:
    """Add complex Gaussian noise and take the magnitude.

    Args:
        values: Signals without noise, float32, any shape.
        deviation: Standard deviation of the noise in the real and the imaginary part.
        random: Source of the noise.

    Returns:
        Signals with noise, float32, same shape. Never negative.
    """
    real = values + deviation * random.standard_normal(values.shape, dtype=np.float32)
    other = deviation * random.standard_normal(values.shape, dtype=np.float32)
    return np.hypot(real, other)


def add_ghost(image: np.ndarray, strength: float, period: int) -> np.ndarray:
    """Add the ghosts that periodic motion leaves along the second axis.

    If every `period`-th line of k-space is stronger or weaker, copies of the image
    appear, moved by a `period`-th of its side.

    Args:
        image: The image, (x, y, z).
        strength: Strength of each copy, relative to the image.
        period: The motion repeats after this many lines.

    Returns:
        The image with its ghosts, same shape.
    """
    shift = max(1, image.shape[1] // period)
    ghosts = np.roll(image, shift, axis=1) + np.roll(image, -shift, axis=1)
    return image + np.float32(strength) * ghosts


def thicken_slices(
    image: np.ndarray, brain: np.ndarray, thickness: float, axis: int
) -> np.ndarray:
    """Acquire an image in thick slices and interpolate it back to thin ones.

    Args:
        image: The image, float32, (x, y, z).
        brain: The brain, bool, same shape. Voxels outside do not darken slices that are
            partly inside.
        thickness: Thickness of the slices in voxels, at least 1.
        axis: Axis across the slices.

    Returns:
        The image, float32, same shape.
    """
    count = image.shape[axis]
    acquired = max(2, round(count / thickness))
    width = max(1, round(thickness))

    def through_slices(values: np.ndarray) -> np.ndarray:
        mean = ndimage.uniform_filter1d(values, width, axis, mode="nearest")
        centers = (np.arange(acquired) + 0.5) * count / acquired - 0.5
        kept = np.take(mean, np.rint(centers).astype(int), axis)
        at = np.interp(np.arange(count), centers, np.arange(acquired))
        low = np.minimum(at.astype(int), acquired - 2)
        share = (at - low).astype(np.float32).reshape(-1, *(1,) * (2 - axis))
        return np.take(kept, low, axis) * (1 - share) + (
            np.take(kept, low + 1, axis) * share
        )

    inside = brain.astype(np.float32)
    weight = through_slices(inside)
    blurred = through_slices(image * inside)
    return np.where(brain, blurred / np.maximum(weight, 0.05), 0).astype(np.float32)
