"""Medical volumes: reading NIfTI into one orientation, and writing labels back.

In: `.nii`, `.nii.gz` or `.mgz` files in any orientation and number format. Out: a
float32 array whose axes point right, anterior and superior (RAS+), with what is
needed to write a result in the orientation, grid and header of the input.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from jaxswap.medical.writing import whole_file

_SUFFIXES = (".nii", ".nii.gz", ".mgz")
_RAS = np.array([[0, 1], [1, 1], [2, 1]])
_READ_ERRORS = (ImageFileError, OSError, EOFError, ValueError, zlib.error)


class VolumeError(ValueError):
    """A file that cannot be used as a volume; the message names it and says why."""


@dataclass(frozen=True)
class Volume:
    """An image on a grid, in RAS+ orientation.

    Attributes:
      data: Intensities, float32, (right, anterior, superior), all finite.
      affine: Maps voxel indices of `data` to millimeters, (4, 4).
      spacing: Voxel size in millimeters along each axis.
      path: The file that it was read from, if any.
      source_affine: Affine of the file, before reorientation.
      source_header: Header of the file, for writing.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    path: Path | None = None
    source_affine: np.ndarray | None = field(default=None, repr=False)
    source_header: Any = field(default=None, repr=False)

    @classmethod
    def from_array(cls, data: np.ndarray, affine: np.ndarray) -> Volume:
        """Makes a volume of an array that is in RAS+ orientation already."""
        affine = np.asarray(affine)
        return cls(np.asarray(data, np.float32), affine, _spacing(affine))


def load_volume(path: str | os.PathLike[str]) -> Volume:
    """Reads a volume and turns it to RAS+.

    Intensities are scaled as the header says. The spacing comes from the affine, not
    from the header's zooms, which describe another transform when qform and sform
    differ. A fourth axis of length one is dropped.

    Args:
      path: File ending in `.nii`, `.nii.gz` or `.mgz`.

    Returns:
      The volume.

    Raises:
      FileNotFoundError: If there is no such file.
      VolumeError: If it is not a readable three-dimensional volume of finite numbers.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.name.lower().endswith(_SUFFIXES):
        raise VolumeError(f"{path}: expected a file ending in {', '.join(_SUFFIXES)}.")
    image, data = _read(path)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3 or 0 in data.shape:
        raise VolumeError(
            f"{path}: expected one three-dimensional volume, found shape {data.shape}."
        )
    not_finite = int(data.size - np.isfinite(data).sum())
    if not_finite:
        raise VolumeError(
            f"{path}: {not_finite} of {data.size} voxels are NaN or infinite. Replace "
            "them before use."
        )
    orientation = _orientation(path, image.affine)
    affine = image.affine @ inv_ornt_aff(orientation, data.shape)
    return Volume(
        data=np.ascontiguousarray(apply_orientation(data, orientation)),
        affine=affine,
        spacing=_spacing(affine),
        path=path,
        source_affine=image.affine,
        source_header=nib.Nifti1Header.from_header(image.header, check=False),
    )


def load_labels(path: str | os.PathLike[str], like: Volume, classes: int) -> np.ndarray:
    """Reads the labels of a volume, on the grid of `like.data`.

    Args:
      path: Label file, see `load_volume`.
      like: The image that the labels belong to.
      classes: Number of labels besides background 0.

    Returns:
      Labels 0..classes, uint8, in RAS+ orientation.

    Raises:
      FileNotFoundError: If there is no such file.
      VolumeError: If it cannot be read, lies on another grid than `like`, or holds
        values other than 0..classes.
    """
    volume = load_volume(path)
    if volume.data.shape != like.data.shape:
        raise VolumeError(
            f"{path}: the labels have shape {volume.data.shape}, the image "
            f"{like.data.shape} (both turned to RAS+)."
        )
    if not np.allclose(volume.affine, like.affine, atol=1e-2):
        raise VolumeError(f"{path}: the labels' affine differs from the image's.")
    found = np.unique(volume.data)
    unknown = found[~np.isin(found, np.arange(classes + 1))]
    if unknown.size:
        some = ", ".join(f"{value:g}" for value in unknown[:5])
        raise VolumeError(
            f"{path}: labels need to be 0..{classes}, but it also holds {some}"
            f"{' and more' if unknown.size > 5 else ''}."
        )
    return volume.data.astype(np.uint8)


def save_labels(path: str | os.PathLike[str], labels: np.ndarray, like: Volume) -> Path:
    """Writes labels in the grid, orientation and geometry of the file of `like`.

    The file appears whole or not at all: it is written beside its place and renamed.

    Args:
      path: File to write, ending in `.nii` or `.nii.gz`.
      labels: Integers 0..255 on the grid of `like.data`.
      like: The volume that was labeled.

    Returns:
      The path.

    Raises:
      ValueError: If shape, values or the suffix do not fit.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: labels are written as .nii or .nii.gz.")
    if labels.shape != like.data.shape:
        raise ValueError(
            f"`labels` has shape {labels.shape}, but the volume {like.data.shape}."
        )
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high > 255 or not np.array_equal(labels, labels.astype(np.uint8)):
        raise ValueError(
            f"labels need to be integers in 0..255; found {low}..{high} as "
            f"{labels.dtype}."
        )
    affine = like.affine if like.source_affine is None else like.source_affine
    back = ornt_transform(_RAS, io_orientation(affine))
    data = apply_orientation(labels.astype(np.uint8), back)
    image = nib.Nifti1Image(data, affine, header=like.source_header)
    image.set_data_dtype(np.uint8)
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"], image.header["cal_max"] = 0, 0
    with whole_file(path) as temporary:
        nib.save(image, temporary)
    return path


def _read(path: Path) -> tuple[Any, np.ndarray]:
    try:
        image: Any = nib.load(path)
        data = np.asarray(image.dataobj)
    except _READ_ERRORS as error:
        raise VolumeError(f"{path}: cannot be read ({error}).") from error
    if data.dtype.fields is not None or np.iscomplexobj(data):
        raise VolumeError(f"{path}: expected plain numbers, found {data.dtype}.")
    return image, data.astype(np.float32)


def _spacing(affine: np.ndarray) -> tuple[float, float, float]:
    across, along, up = (float(size) for size in voxel_sizes(affine))
    return across, along, up


def _orientation(path: Path, affine: np.ndarray) -> np.ndarray:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise VolumeError(f"{path}: its affine cannot be inverted:\n{affine}")
    return io_orientation(affine)
