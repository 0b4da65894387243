"""Checks of all files of one case. All faults are listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from jaxswap.medical.data.brain import Brain, brain_mask
from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.faults import Fault, Severity
from jaxswap.medical.data.geometry import (
    NOTED_VOXELS_APART,
    distance_mm,
    odd_spacing,
    voxels_apart,
)
from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.label_values import describe_fault, read_values
from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.data.reading import check_grid
from jaxswap.medical.data.volumes import (
    Volume,
    VolumeError,
    check_suffix,
    load_channels,
)

_MOST_ANISOTROPIC = 2.0  # Longest over shortest side of a voxel.
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class CaseReport:
    """What is known about a case after all of its files were checked.

    Attributes:
        name: Name of the case.
        faults: All of its faults.
        shape: Voxels, turned to RAS+. None if no image could be read.
        spacing_mm: Voxel size, turned to RAS+.
        axes: The directions of the file's axes, such as "LPS".
        brain_shape: Voxels of the box around the brain.
        label_counts: Voxels of each value in the label file, background included.
        volumes_ml: Volume of each region of the label map.
    """

    name: str
    faults: tuple[Fault, ...]
    shape: Shape | None = None
    spacing_mm: tuple[float, float, float] | None = None
    axes: str | None = None
    brain_shape: Shape | None = None
    label_counts: Mapping[int, int] | None = None
    volumes_ml: Mapping[str, float] | None = None


class _Faults:
    """Collects the faults of one case."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.found: list[Fault] = []

    def error(
        self, kind: str, file: Path | None, message: str, extent: float = 0.0
    ) -> None:
        self._add(kind, file, message, "error", extent)

    def warning(
        self, kind: str, file: Path | None, message: str, extent: float = 0.0
    ) -> None:
        self._add(kind, file, message, "warning", extent)

    def _add(
        self,
        kind: str,
        file: Path | None,
        message: str,
        severity: Severity,
        extent: float,
    ) -> None:
        # Messages of errors begin with the file, which here has its own column.
        message = message.removeprefix(f"{file}: ")
        fault = Fault(self.case, file, kind, message, severity, extent)
        if fault not in self.found:
            self.found.append(fault)


def inspect_case(case: CaseFiles, dataset: Dataset) -> CaseReport:
    """Read every file of a case and list all faults. Raise no error for them.

    Args:
        case: The case.
        dataset: The data set it belongs to.

    Returns:
        Faults and statistics.
    """
    faults = _Faults(case.name)
    images = _read_images(case, dataset.channels, faults)
    labels = _read_labels(case, faults)
    volumes = list(images.values())
    if not volumes:
        return CaseReport(case.name, tuple(faults.found))
    reference = _most_common_grid(volumes)
    on_grid = [v for v in volumes if _is_on_grid(v, reference, faults)]
    _check_spacing(reference, faults)
    brain = _find_brain(on_grid, case.name, faults)
    counts, kept = None, None if brain is None else brain.mask
    if labels is not None:
        is_on_grid = _is_on_grid(labels, reference, faults)
        counts = _check_labels(labels, dataset.label_map, faults)
        if is_on_grid and brain is not None:
            _check_place(labels, brain.mask, faults)
            kept = brain.mask | (labels.data != 0)
    return CaseReport(
        name=case.name,
        faults=tuple(faults.found),
        shape=_shape(reference),
        spacing_mm=reference.spacing,
        axes="".join(nib.aff2axcodes(reference.source_affine)),
        brain_shape=None if kept is None else kept[bounding_box(kept)].shape,
        label_counts=counts,
        volumes_ml=_volumes_ml(counts, labels, dataset.label_map),
    )


def _read_images(
    case: CaseFiles, channels: Sequence[str], faults: _Faults
) -> dict[str, Volume]:
    """Read the channels that can be read."""
    read: dict[str, Volume] = {}
    by_path: dict[Path, dict[str, int | None]] = {}
    for channel, source in zip(channels, case.images, strict=True):
        by_path.setdefault(source.path, {})[channel] = source.index
    for path, wanted in by_path.items():
        names = ", ".join(wanted)
        try:
            volumes = load_channels(path, list(wanted.values()), replace_nan=True)
        except FileNotFoundError:
            faults.error("missing modality", path, f"the file of {names} is missing.")
            continue
        except VolumeError as error:
            faults.error(_kind_of(path), path, str(error))
            continue
        for channel, volume in zip(wanted, volumes, strict=True):
            read[channel] = volume
            _check_image(channel, volume, faults)
        _check_transforms(path, faults)
    return read


def _read_labels(case: CaseFiles, faults: _Faults) -> Volume | None:
    if case.labels is None:
        return None
    try:
        (labels,) = load_channels(case.labels, [None])
        _check_transforms(case.labels, faults)
        return labels
    except FileNotFoundError:
        faults.error("missing labels", case.labels, "the label file is missing.")
    except VolumeError as error:
        faults.error(_kind_of(case.labels), case.labels, str(error))
    return None


def _kind_of(path: Path) -> str:
    try:
        check_suffix(path)
    except VolumeError:
        return "unsupported format"
    return "unusable file"


def _check_image(channel: str, volume: Volume, faults: _Faults) -> None:
    if volume.nan_voxels:
        share = volume.nan_voxels / volume.data.size
        faults.warning(
            "not a number",
            volume.path,
            f"{volume.nan_voxels} voxels ({share:.1%}) of {channel} are NaN; they are "
            "read as 0, the background.",
            extent=share,
        )
    if volume.data.min() == volume.data.max():
        faults.error(
            "constant channel",
            volume.path,
            f"{channel} is {float(volume.data.flat[0]):g} in every voxel.",
        )


def _check_transforms(path: Path, faults: _Faults) -> None:
    image: Any = nib.load(path)
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        return  # Only NIfTI has two transforms.
    try:
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
    except (ValueError, HeaderDataError) as error:  # The quaternion is not valid.
        faults.warning("qform and sform", path, f"its qform is damaged ({error}).")
        return
    if not (sform_code and qform_code) or qform is None or sform is None:
        return
    if voxels_apart(qform, sform, image.shape[:3]) >= NOTED_VOXELS_APART:
        faults.warning(
            "qform and sform",
            path,
            "qform and sform place the image differently; the sform is used.",
        )


def _most_common_grid(volumes: Sequence[Volume]) -> Volume:
    """Return a volume on the grid that most share, so only the others are faults."""
    grids = [(v.data.shape, (np.round(v.affine, 2) + 0.0).tobytes()) for v in volumes]
    return volumes[grids.index(Counter(grids).most_common(1)[0][0])]


def _is_on_grid(volume: Volume, reference: Volume, faults: _Faults) -> bool:
    grids = volume.affine, reference.affine, volume.data.shape
    try:
        check_grid(volume, reference)
    except VolumeError as error:
        is_shape = volume.data.shape != reference.data.shape
        extent = 0.0 if is_shape else voxels_apart(*grids)
        kind = "shape" if is_shape else "affine"
        faults.error(kind, volume.path, str(error), extent)
        return False
    apart = voxels_apart(*grids)
    if apart >= NOTED_VOXELS_APART:
        faults.warning(
            "affine",
            volume.path,
            f"voxels lie up to {distance_mm(*grids):.3g} mm ({apart:.2g} voxels) "
            "from those of the other files; they are used as if they did not.",
            extent=apart,
        )
    return True


def _check_spacing(volume: Volume, faults: _Faults) -> None:
    sizes = " x ".join(f"{size:.3g}" for size in volume.spacing)
    if max(volume.spacing) > _MOST_ANISOTROPIC * min(volume.spacing):
        faults.warning(
            "anisotropic voxels",
            volume.path,
            f"voxels are {sizes} mm. They are kept; `spacing_mm` resamples them.",
            extent=max(volume.spacing) / min(volume.spacing),
        )
    odd = odd_spacing(volume.spacing)
    if odd:
        faults.warning("voxel size", volume.path, odd)


def _find_brain(volumes: Sequence[Volume], name: str, faults: _Faults) -> Brain | None:
    image = np.stack([volume.data for volume in volumes], axis=-1)
    try:
        brain = brain_mask(image, name)
    except VolumeError:
        return None  # Constant channels have been listed before.
    if not brain.has_background:
        faults.warning(
            "no background",
            volumes[0].path,
            "no value marks the background, so the whole image is used. `mask: brain` "
            "takes a bright head alone.",
        )
    return brain


def _check_labels(
    labels: Volume, label_map: LabelMap | None, faults: _Faults
) -> dict[int, int]:
    found = read_values(labels.data)
    fault = describe_fault(found, label_map)
    if fault:
        faults.error("label values", labels.path, fault)
    if found.note:
        faults.warning("labels not whole", labels.path, f"{found.note}.")
    if not found.data.any():
        faults.warning("empty labels", labels.path, "every voxel is background.")
    return found.count_in(label_map)


def _check_place(labels: Volume, mask: np.ndarray, faults: _Faults) -> None:
    outside = int(np.count_nonzero(labels.data[~mask]))
    if outside:
        share = outside / int(np.count_nonzero(labels.data))
        faults.warning(
            "labels on background",
            labels.path,
            f"{outside} labeled voxels ({share:.2%}) lie where every channel is "
            "background.",
            extent=share,
        )


def _volumes_ml(
    counts: Mapping[int, int] | None, labels: Volume | None, label_map: LabelMap | None
) -> dict[str, float] | None:
    if counts is None or labels is None or label_map is None:
        return None
    voxel_ml = abs(float(np.linalg.det(labels.affine[:3, :3]))) / _MM3_PER_ML
    return {
        region: sum(counts.get(value, 0) for value in values) * voxel_ml
        for region, values in label_map.regions.items()
    }


def _shape(volume: Volume) -> Shape:
    x, y, z = volume.data.shape
    return x, y, z
