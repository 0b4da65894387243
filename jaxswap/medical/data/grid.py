"""The way from a file's voxels to those that a network sees, and back.

A file is turned to RAS+, cropped to the brain, resampled if wanted, and padded. Each
step is stored, so that labels can return to the voxels that they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.anatomy import resample_labels
from jaxswap.medical.data.volumes import Volume, save_labels

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Grid:
    """A prepared grid, and its position in the file.

    Attributes:
        path: The file that was prepared.
        file_affine: Affine of the file as it is stored, (4, 4).
        file_header: NIfTI header of the file, for writing.
        ras_affine: Affine of the file turned to RAS+, (4, 4).
        ras_shape: Voxels of the file turned to RAS+.
        start: First voxel of the crop, on the RAS+ grid of the file.
        cropped: Voxels of the crop, on the RAS+ grid of the file.
        resampled: Voxels of the crop after resampling. `cropped` without resampling.
        before: Voxels of padding before the crop.
        shape: Voxels of the prepared grid.
    """

    path: Path | None
    file_affine: np.ndarray
    file_header: Any = field(repr=False)
    ras_affine: np.ndarray
    ras_shape: Shape
    start: Shape
    cropped: Shape
    resampled: Shape
    before: Shape
    shape: Shape

    @property
    def is_resampled(self) -> bool:
        """Whether the prepared voxels have another size than the file's."""
        return self.resampled != self.cropped

    @property
    def affine(self) -> np.ndarray:
        """Affine from indices of prepared voxels to millimeters, (4, 4)."""
        step = np.array(self.cropped) / np.array(self.resampled)
        # Both grids cover the same box, so their first voxels share a corner.
        first = np.array(self.start) + step / 2 - 0.5 - step * np.array(self.before)
        inside = np.eye(4)
        inside[:3, :3] = np.diag(step)
        inside[:3, 3] = first
        return self.ras_affine @ inside

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a prepared voxel along each axis."""
        x, y, z = (float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    @property
    def like(self) -> Volume:
        """A volume of zeros with the geometry of the file, for `save_labels`."""
        # One zero seen from everywhere takes no memory.
        zeros = np.broadcast_to(np.float32(0), self.ras_shape)
        x, y, z = (float(s) for s in np.linalg.norm(self.ras_affine[:3, :3], axis=0))
        return Volume(
            zeros,
            self.ras_affine,
            (x, y, z),
            self.path,
            self.file_affine,
            self.file_header,
        )

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Transfer an array from the file's RAS+ grid to the prepared grid.

        Args:
            array: (x, y, z, ...) on the file's grid turned to RAS+. Integers and bools
                count as labels, floats as intensities.

        Returns:
            The array on the prepared grid, same dtype, padded with 0.

        Raises:
            ValueError: If the shape is not that of the file.
        """
        if array.shape[:3] != self.ras_shape:
            raise ValueError(
                f"`array` has shape {array.shape}, but the file (turned to RAS+) "
                f"{self.ras_shape}."
            )
        inside = array[_box(self.start, self.cropped)]
        inside = resize(inside, self.resampled)
        prepared = np.zeros((*self.shape, *array.shape[3:]), array.dtype)
        prepared[_box(self.before, self.resampled)] = inside
        return prepared

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Transfer an array from the prepared grid to the file's grid, in RAS+.

        Without resampling, every voxel of the crop returns exactly to its position.

        Args:
            array: (x, y, z, ...) on the prepared grid, such as labels or probabilities.
                Integers and bools count as labels, floats as intensities.

        Returns:
            The array on the grid of `like`, same dtype. 0 outside of the crop.

        Raises:
            ValueError: If the shape is not that of the prepared grid.
        """
        if array.shape[:3] != self.shape:
            raise ValueError(
                f"`array` has shape {array.shape}, but the prepared grid {self.shape}."
            )
        inside = resize(array[_box(self.before, self.resampled)], self.cropped)
        restored = np.zeros((*self.ras_shape, *array.shape[3:]), array.dtype)
        restored[_box(self.start, self.cropped)] = inside
        return restored

    def save_labels(self, path: Path | str, labels: np.ndarray) -> Path:
        """Write labels of the prepared grid as a file that overlays the input file.

        Args:
            path: File to write, ending in `.nii` or `.nii.gz`.
            labels: Integers 0..255 on the prepared grid.

        Returns:
            The path.

        Raises:
            ValueError: If shape, values or the suffix do not fit.
        """
        return save_labels(path, self.restore(labels), self.like)


def resize(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize an array to other voxels that cover the same box.

    Args:
        array: (x, y, z, ...). Integers and bools are labels: each voxel gets the one
            with the largest share. Floats are interpolated linearly. If voxels become
            larger, they are smoothed before.
        shape: Voxels wanted.

    Returns:
        The array, `(*shape, ...)`, same dtype.
    """
    if array.shape[:3] == shape:
        return array
    if array.ndim > 3:
        inner = [
            resize(array[(..., *index)], shape) for index in np.ndindex(array.shape[3:])
        ]
        return np.stack(inner, axis=-1).reshape(*shape, *array.shape[3:])
    if array.dtype.kind in "biu":
        labels = resample_labels(array.astype(np.uint8), lambda a: _linear(a, shape))
        return labels.astype(array.dtype)
    return _linear(array.astype(np.float32), shape).astype(array.dtype)


def _linear(array: np.ndarray, shape: Shape) -> np.ndarray:
    step = np.array(array.shape) / np.array(shape)
    smooth = ndimage.gaussian_filter(array, np.maximum(step - 1, 0) / 2, mode="nearest")
    offset: Any = step / 2 - 0.5  # The type stubs allow only one number.
    return ndimage.affine_transform(
        smooth, step, offset, output_shape=shape, order=1, mode="nearest"
    )


def _box(start: Shape, size: Shape) -> tuple[slice, slice, slice]:
    x, y, z = (slice(a, a + n) for a, n in zip(start, size, strict=True))
    return x, y, z
