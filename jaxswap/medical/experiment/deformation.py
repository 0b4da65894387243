"""Training cases made of one head: random shape, contrast and noise.

Each case is drawn from a seed and its index alone, so training cases and held-out
cases never depend on the order in which they are made.

Source of the recipe: SynthSeg's generator (Billot et al. 2023), with milder ranges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.anatomy import Case, resample_labels
from jaxswap.medical.data.volumes import Volume


@dataclass(frozen=True)
class DeformationConfig:
    """How far cases may depart from the head they are made of.

    Attributes:
        rotation_degrees: Largest rotation about each axis.
        scale: Largest relative change of size along each axis.
        displacement: Typical smooth displacement, as a share of the volume's side.
        smoothness: Length over which it varies, as a share of the volume's side.
        gamma: Largest absolute logarithm of the contrast exponent.
        bias: Typical logarithm of the smooth brightness change.
        noise: Largest standard deviation of noise, relative to the brain's.
    """

    rotation_degrees: float = 15.0
    scale: float = 0.1
    displacement: float = 0.015
    smoothness: float = 0.25
    gamma: float = 0.3
    bias: float = 0.15
    noise: float = 0.1


def deform(
    case: Case, seed: int, index: int, config: DeformationConfig | None = None
) -> Case:
    """Draws one deformed case.

    Args:
        case: The head to deform.
        seed: Seed of the experiment, not negative.
        index: Number of the case, not negative.
        config: Ranges; None for the defaults.

    Returns:
        The deformed case, on the grid of `case`.
    """
    config = config or DeformationConfig()
    random = np.random.default_rng((seed, index))
    coordinates = _coordinates(case.image.data.shape, random, config)
    data = ndimage.map_coordinates(case.image.data, coordinates, order=1)
    labels = resample_labels(
        case.labels,
        lambda share: ndimage.map_coordinates(share, coordinates, order=1),
    )
    data = _repaint(data, labels > 0, random, config)
    return Case(Volume.from_array(data, case.image.affine), labels)


def normalize_intensities(data: np.ndarray) -> np.ndarray:
    """Shifts and scales to mean 0 and deviation 1 over nonzero voxels; 0 stays 0.

    Args:
        data: Intensities, any shape. Without a zero, all voxels count.

    Returns:
        Float32 of the same shape.
    """
    inside = data != 0
    if not inside.any():
        return np.zeros_like(data, np.float32)
    values = data[inside]
    scaled = (data - values.mean()) / max(float(values.std()), 1e-6)
    return np.where(inside, scaled, 0).astype(np.float32)


def _coordinates(
    shape: tuple[int, ...], random: np.random.Generator, config: DeformationConfig
) -> np.ndarray:
    """Return where each voxel of the result is found in the source."""
    angles = np.deg2rad(random.uniform(-1, 1, 3) * config.rotation_degrees)
    matrix = np.diag(1 + random.uniform(-1, 1, 3) * config.scale)
    for axis, angle in enumerate(angles):
        matrix = matrix @ _rotation(axis, angle)
    if random.random() < 0.5:
        matrix = matrix @ np.diag([-1, 1, 1])  # the first axis runs left to right
    center = (np.array(shape) - 1) / 2
    grid = np.indices(shape, np.float32) - center.reshape(3, 1, 1, 1)
    moved = np.einsum("ij,jxyz->ixyz", matrix, grid) + center.reshape(3, 1, 1, 1)
    side = max(shape)
    for axis in range(3):
        field = _smooth_field(shape, config.smoothness * side, random)
        moved[axis] += config.displacement * side * field
    return moved


def _rotation(axis: int, angle: float) -> np.ndarray:
    matrix = np.eye(3)
    first, second = [other for other in range(3) if other != axis]
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _smooth_field(
    shape: tuple[int, ...], length: float, random: np.random.Generator
) -> np.ndarray:
    """Return smooth noise of deviation 1 that varies over `length` voxels."""
    coarse = [max(4, round(2 * side / length)) for side in shape]
    factors = [side / small for side, small in zip(shape, coarse, strict=True)]
    field = np.asarray(ndimage.zoom(random.standard_normal(coarse), factors, order=3))
    return (field / max(float(field.std()), 1e-6)).astype(np.float32)


def _repaint(
    data: np.ndarray,
    inside: np.ndarray,
    random: np.random.Generator,
    config: DeformationConfig,
) -> np.ndarray:
    """Change contrast and brightness and add noise; background becomes 0."""
    peak = max(float(data.max()), 1e-6)
    gamma = np.exp(random.uniform(-config.gamma, config.gamma))
    data = np.power(np.clip(data / peak, 0, 1), gamma)
    bias = _smooth_field(data.shape, max(data.shape) / 2, random)
    data = data * np.exp(config.bias * bias * random.random())
    deviation = float(data[inside].std()) if inside.any() else 0.0
    noise = random.standard_normal(data.shape) * deviation * config.noise
    data = data + noise * random.random()
    return np.where(inside, np.maximum(data, 1e-3), 0).astype(np.float32)
