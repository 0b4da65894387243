"""Reading all files of a case onto one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Source
from jaxswap.medical.data.geometry import (
    MOST_VOXELS_APART,
    distance_mm,
    voxels_apart,
)
from jaxswap.medical.data.volumes import Volume, VolumeError, load_channels, load_volume


@dataclass(frozen=True, eq=False)
class CaseVolumes:
    """A case in memory, turned to RAS+.

    Attributes:
        channels: Name of each channel.
        image: Intensities, float32, (x, y, z, channel), all finite.
        reference: The first channel, for geometry and header.
        labels: The labels as in the file, if there are any.
    """

    channels: tuple[str, ...]
    image: np.ndarray
    reference: Volume
    labels: Volume | None


def read_case(case: CaseFiles, channels: Sequence[str]) -> CaseVolumes:
    """Read a case, and check that its files have the same grid.

    NaN is read as 0, the background. A file with several channels is read only once.

    Args:
        case: The files.
        channels: Name of each channel.

    Returns:
        The case.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be used, or its grid differs from the first one's.
    """
    if len(case.images) != len(channels):
        raise ValueError(
            f"{case.name}: has {len(case.images)} images for {len(channels)} channels "
            f"({', '.join(channels)})."
        )
    volumes = read_images(case.images)
    for volume in volumes[1:]:
        check_grid(volume, volumes[0])
    labels = None
    if case.labels is not None:
        labels = load_volume(case.labels)
        check_grid(labels, volumes[0])
    image = np.stack([volume.data for volume in volumes], axis=-1)
    return CaseVolumes(tuple(channels), image, volumes[0], labels)


def read_images(sources: Sequence[Source]) -> list[Volume]:
    """Read channels. Several channels of one file are read together.

    Raises:
        FileNotFoundError: If a file is missing.
        VolumeError: If a file cannot be used.
    """
    wanted: dict[Path, list[int | None]] = {}
    for source in sources:
        wanted.setdefault(source.path, []).append(source.index)
    read = {
        (path, index): volume
        for path, indices in wanted.items()
        for index, volume in zip(
            indices, load_channels(path, indices, replace_nan=True), strict=True
        )
    }
    return [read[source.path, source.index] for source in sources]


def check_grid(volume: Volume, reference: Volume) -> None:
    """Check that two files of a case have the same grid.

    Raises:
        VolumeError: If shapes differ after both are turned to RAS+, or if equal voxels
            lie half a voxel or more apart.
    """
    if volume.data.shape != reference.data.shape:
        raise VolumeError(
            f"{volume.path}: has shape {volume.data.shape}, but "
            f"{reference.path} {reference.data.shape} (both turned to RAS+)."
        )
    grids = volume.affine, reference.affine, volume.data.shape
    if voxels_apart(*grids) >= MOST_VOXELS_APART:
        apart_mm = distance_mm(*grids)
        raise VolumeError(
            f"{volume.path}: its affine differs from that of {reference.path}; voxels "
            f"lie up to {apart_mm:.3g} mm apart."
        )
