"""Medical volumes: read NIfTI in one orientation, and write labels back.

Files are `.nii`, `.nii.gz` or `.mgz` in any orientation and number format. A volume is
a float32 array whose axes point right, anterior and superior (RAS+). It also holds what
is needed to write a result in the orientation, grid and header of the file.
"""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import SpatialImage

from jaxswap.medical.data.memory import require_memory
from jaxswap.medical.data.writing import whole_file

SUFFIXES = (".nii", ".nii.gz", ".mgz")
"""Endings of files that can be read."""

_BY_NIBABEL = 'nibabel.save(nibabel.load("{name}"), "{stem}.nii.gz")'
_BY_SIMPLE_ITK = 'SimpleITK.WriteImage(SimpleITK.ReadImage("{name}"), "{stem}.nii.gz")'
_CONVERSIONS = {
    ".hdr": _BY_NIBABEL,
    ".img": _BY_NIBABEL,
    ".img.gz": _BY_NIBABEL,
    ".mgh": _BY_NIBABEL,
    ".mnc": "mnc2nii {name} {stem}.nii",
    ".nrrd": _BY_SIMPLE_ITK,
    ".nhdr": _BY_SIMPLE_ITK,
    ".mha": _BY_SIMPLE_ITK,
    ".mhd": _BY_SIMPLE_ITK,
    ".head": _BY_NIBABEL,
    ".brik": _BY_NIBABEL,
    ".brik.gz": _BY_NIBABEL,
    ".par": "parrec2nii {name}",
    ".rec": "parrec2nii {stem}.PAR",
    ".mif": "mrconvert {name} {stem}.nii.gz",
    ".mif.gz": "mrconvert {name} {stem}.nii.gz",
    ".dcm": "dcm2niix FOLDER",
}
_MOST_COMPRESSION = 1100  # Deflate reaches 1032.
_CHUNK_BYTES = 2**20
_MOST_SURPLUS_BYTES = 2**26
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


class VolumeError(ValueError):
    """A file cannot be used as a volume. The message names it and says why."""


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
        nan_voxels: How many voxels were NaN in the file and are 0 here.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    path: Path | None = None
    source_affine: np.ndarray | None = field(default=None, repr=False)
    source_header: Any = field(default=None, repr=False)
    nan_voxels: int = 0

    @classmethod
    def from_array(cls, data: np.ndarray, affine: np.ndarray) -> Volume:
        """Make a volume from an array that is already in RAS+ orientation."""
        affine = np.asarray(affine)
        return cls(np.asarray(data, np.float32), affine, _spacing(affine))


def load_volume(path: str | os.PathLike[str], *, channel: int | None = None) -> Volume:
    """Read a volume and turn it to RAS+.

    Intensities are scaled as the header says. The spacing comes from the affine. The
    header's zooms would be wrong if qform and sform differ, since they belong to only
    one of them. Axes of length one after the third are removed.

    Args:
        path: File ending in `.nii`, `.nii.gz` or `.mgz`.
        channel: Position along the fourth axis of a file that has several channels.

    Returns:
        The volume.

    Raises:
        FileNotFoundError: If there is no such file.
        VolumeError: If it is not a readable three-dimensional volume of finite numbers,
            or if the checksum of a compressed file is wrong.
    """
    return load_channels(path, [channel])[0]


def load_channels(
    path: str | os.PathLike[str],
    channels: Sequence[int | None],
    *,
    replace_nan: bool = False,
) -> list[Volume]:
    """Read several channels of one file, reading the file once.

    Args:
        path: See `load_volume`.
        channels: Positions along the fourth axis. None if the file has no such axis.
        replace_nan: Whether NaN is read as 0. Otherwise it is refused. Infinite values
            are always refused.

    Returns:
        One volume for each entry of `channels`.

    Raises:
        FileNotFoundError: If there is no such file.
        VolumeError: See `load_volume`. Also if there is no such channel.
    """
    path = Path(path)
    check_suffix(path)
    image, data, header = _read(path)
    orientation = _orientation(path, image.affine)
    volumes = []
    for channel in channels:
        chosen = _choose(path, data, channel)
        nan_voxels = int(np.isnan(chosen).sum()) if replace_nan else 0
        chosen = _finite(path, chosen, replace_nan)
        affine = image.affine @ inv_ornt_aff(orientation, chosen.shape)
        volumes.append(
            Volume(
                data=np.ascontiguousarray(apply_orientation(chosen, orientation)),
                affine=affine,
                spacing=_spacing(affine),
                path=path,
                source_affine=image.affine,
                source_header=header,
                nan_voxels=nan_voxels,
            )
        )
    return volumes


def check_suffix(path: Path) -> None:
    """Check that a file exists and is of a kind that can be read.

    Raises:
        FileNotFoundError: If there is no such file.
        VolumeError: If it is of another kind. The message says how to convert it.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.is_file():  # To open a pipe would wait without end.
        raise VolumeError(f"{path}: is no file.")
    name = path.name
    if name.lower().endswith(SUFFIXES):
        return
    for suffix, conversion in _CONVERSIONS.items():
        if name.lower().endswith(suffix):
            how = conversion.format(name=name, stem=name[: -len(suffix)])
            raise VolumeError(
                f"{path}: {suffix} files are not read. Convert it first: {how}"
            )
    raise VolumeError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}.")


def save_labels(path: str | os.PathLike[str], labels: np.ndarray, like: Volume) -> Path:
    """Write labels in the grid, orientation and geometry of the file of `like`.

    The file is complete or absent: it is written beside its place and then renamed.

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


def _read(path: Path) -> tuple[Any, np.ndarray, nib.Nifti1Header]:
    try:
        # Numbers of a damaged header overflow. The results are checked later.
        with np.errstate(all="ignore"):
            image: Any = nib.load(path)
            if not isinstance(image, SpatialImage):
                raise VolumeError(f"it holds a {type(image).__name__}, not voxels")
            _check_promise(path, image)
            data = _voxels(path, image)
            header: Any = nib.Nifti1Header.from_header(image.header, check=False)
    except Exception as error:  # With damaged files nibabel raises almost anything.
        what = " ".join(str(error).split()) or type(error).__name__
        raise VolumeError(f"{path}: cannot be read ({what}).") from error
    if data.dtype.kind not in "biuf":
        raise VolumeError(f"{path}: expected plain numbers, found {data.dtype}.")
    with np.errstate(over="ignore"):  # Infinite values are refused later, by name.
        return image, data.astype(np.float32), header


def _voxels(path: Path, image: Any) -> np.ndarray:
    """Read the voxels, and a compressed file to its end, where its checksum is."""
    if not path.name.lower().endswith((".gz", ".mgz")):
        return np.asarray(image.dataobj)
    with gzip.open(path) as stream:
        data = np.asarray(type(image).from_stream(stream).dataobj)
        surplus = 0
        while chunk := stream.read(_CHUNK_BYTES):  # A wrong checksum raises at the end.
            surplus += len(chunk)
            if surplus > _MOST_SURPLUS_BYTES:
                raise VolumeError("more follows than its header says")
    return data


def _check_promise(path: Path, image: SpatialImage) -> None:
    """Refuse a header that asks for more memory than the file can fill."""
    voxels = math.prod(int(length) for length in image.shape)
    promised = voxels * image.get_data_dtype().itemsize
    most = path.stat().st_size * _MOST_COMPRESSION
    if promised > most:
        raise VolumeError(
            f"its header promises {promised} bytes, it has {most} at most"
        )
    # Read as they are, then as float32.
    require_memory(promised + 4 * voxels, "its voxels")


def _choose(path: Path, data: np.ndarray, channel: int | None) -> np.ndarray:
    while data.ndim > 4 and 1 in data.shape[3:]:
        data = np.squeeze(data, axis=3 + data.shape[3:].index(1))
    if data.ndim == 4 and channel is None and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim == 3 and channel in (None, 0) and 0 not in data.shape:
        return data
    if data.ndim == 4 and channel is not None and 0 not in data.shape:
        if not 0 <= channel < data.shape[3]:
            raise VolumeError(
                f"{path}: has {data.shape[3]} channels; there is no channel {channel}."
            )
        return data[..., channel]
    wanted = "one three-dimensional volume" if channel is None else "channels"
    way = ""
    if data.ndim == 4 and channel is None:
        way = " Write each volume that is a channel into a file: nibabel.four_to_three."
    raise VolumeError(f"{path}: expected {wanted}, found shape {data.shape}.{way}")


def _finite(path: Path, data: np.ndarray, replace_nan: bool) -> np.ndarray:
    finite = np.isfinite(data)
    if finite.all():
        return data
    if replace_nan:
        data = np.where(np.isnan(data), np.float32(0), data)
        finite = np.isfinite(data)
    not_finite = int(data.size - finite.sum())
    if not_finite:
        raise VolumeError(
            f"{path}: {not_finite} of {data.size} voxels are NaN or infinite. Replace "
            "them before use."
        )
    return data


def _spacing(affine: np.ndarray) -> tuple[float, float, float]:
    across, along, up = (float(size) for size in voxel_sizes(affine))
    return across, along, up


def _orientation(path: Path, affine: np.ndarray) -> np.ndarray:
    if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) >= 1e-9:
        orientation = io_orientation(affine)
        if np.isfinite(orientation).all():  # NaN marks an axis without a direction.
            return orientation
    told = np.array2string(affine, separator=", ").replace("\n", "")
    raise VolumeError(f"{path}: its affine cannot be inverted: {told}")
