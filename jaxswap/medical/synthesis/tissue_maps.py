"""How much of each voxel of a head is white matter, grey matter and fluid.

The MNI152 maps of grey and white matter come with the nilearn package. The rest of the
brain is fluid. Averaging 152 heads has blurred the maps, so they are sharpened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.anatomy import MNI152_FILE, nilearn_data_folder
from jaxswap.medical.data.volumes import load_volume
from jaxswap.medical.synthesis.head_shapes import HeadShape
from jaxswap.medical.synthesis.lattice import Lattice

_SHARPNESS = 2.0  # Exponent of the shares. 1 leaves them as they are.


@dataclass(frozen=True)
class TissueMaps:
    """Shares of tissue in each voxel, on one grid.

    Attributes:
        white: Share of white matter, float32 in 0..1, (x, y, z).
        grey: Share of grey matter, same shape.
        fluid: Share of fluid, same shape. The sum of the three is `brain`.
        brain: Share of the brain, same shape.
        affine: Maps voxel indices to millimeters of the MNI space, (4, 4).
    """

    white: np.ndarray
    grey: np.ndarray
    fluid: np.ndarray
    brain: np.ndarray
    affine: np.ndarray

    def cut(self, window: tuple[slice, ...]) -> TissueMaps:
        """Return the part of the maps that the slices pick."""
        affine = self.affine.copy()
        start = [part.start for part in window]
        affine[:3, 3] += affine[:3, :3] @ np.array(start, float)
        return TissueMaps(
            self.white[window],
            self.grey[window],
            self.fluid[window],
            self.brain[window],
            affine,
        )


@lru_cache(maxsize=4)
def load_tissue_maps(smoothing_mm: float = 0.0) -> TissueMaps:
    """Read the MNI152 maps: 197x233x189 voxels of 1 mm, right, anterior, superior.

    Args:
        smoothing_mm: Standard deviation of the Gaussian to smooth them with, so that
            detail does not alias on a coarser grid.

    Returns:
        The maps. The arrays are shared between calls. Do not write to them.

    Raises:
        ModuleNotFoundError: If nilearn is not installed.
    """
    if smoothing_mm > 0:
        sharp = load_tissue_maps()
        maps = (sharp.white, sharp.grey, sharp.fluid, sharp.brain)
        soft = [ndimage.gaussian_filter(m, smoothing_mm, truncate=3.0) for m in maps]
        w, g, f, b = (np.asarray(m, np.float32) for m in soft)
        return TissueMaps(w, g, f, b, sharp.affine)
    folder = nilearn_data_folder()
    image, grey, white = (
        load_volume(folder / MNI152_FILE.format(kind)) for kind in ("t1", "gm", "wm")
    )
    brain = (image.data > 0).astype(np.float32)
    powers = [
        np.power(np.clip(share, 0, 1) * brain, _SHARPNESS)
        for share in (
            white.data / 255,
            grey.data / 255,
            1 - (grey.data + white.data) / 255,
        )
    ]
    total = np.maximum(sum(powers), 1e-6)
    w, g, f = (np.asarray(power / total, np.float32) for power in powers)
    return TissueMaps(w, g, f, brain, image.affine)


def smoothing_for(spacing_mm: float) -> float:
    """Return how far to smooth the maps for a grid of this spacing."""
    return max(spacing_mm - 1.0, 0.0) / 2


def sample_tissues(maps: TissueMaps, head: HeadShape, onto: Lattice) -> TissueMaps:
    """Draw the maps of a head of another shape.

    Args:
        maps: Maps of the MNI152 head.
        head: The other head's shape.
        onto: Lattice to sample on, in the millimeters of the other head.

    Returns:
        Maps on `onto`. Outside the brain all shares are 0. The affine maps voxels to
        the other head's millimeters.
    """
    coordinates = to_voxels(head.to_mni(onto), maps.affine)
    white, grey, brain = (
        ndimage.map_coordinates(share, coordinates, order=1, output=np.float32)
        for share in (maps.white, maps.grey, maps.brain)
    )
    inside = brain > 0.5
    white = np.where(inside, white / np.maximum(brain, 0.5), 0)
    grey = np.where(inside, grey / np.maximum(brain, 0.5), 0)
    fluid = np.where(inside, np.maximum(1 - white - grey, 0), 0)
    affine = np.diag([onto.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = onto.start_mm
    return TissueMaps(white, grey, fluid, inside.astype(np.float32), affine)


def to_voxels(points_mm: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turn millimeters into voxel indices of a grid without shear or rotation.

    Args:
        points_mm: Points, (3, ...).
        affine: The grid's affine, (4, 4). Only its diagonal and offset are used.

    Returns:
        Indices, float32, (3, ...), in the memory of `points_mm`.
    """
    for axis in range(3):
        points_mm[axis] -= np.float32(affine[axis, 3])
        points_mm[axis] /= np.float32(affine[axis, axis])
    return points_mm
