"""From the files of a case to the arrays that a network sees.

Channels are found by name, turned to RAS+, cropped to the brain, normalized inside it,
and padded to a shape that the network takes. Voxels are resized only on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxswap.medical.data.brain import MASKS, Brain, brain_mask
from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.geometry import odd_spacing
from jaxswap.medical.data.grid import Grid, Shape, resize
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.label_values import to_map
from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.data.memory import require_memory
from jaxswap.medical.data.reading import CaseVolumes, read_case
from jaxswap.medical.data.volumes import Volume, VolumeError
from jaxswap.medical.preparing.normalization import Normalization, normalize


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case in the form that a network sees.

    Attributes:
        name: Name of the case.
        image: Normalized intensities, (x, y, z, channel), 0 outside the mask. float32,
            or in the number format of the cache for cases of `prepared_cache`.
        labels: Values of the data set's label map, uint8, (x, y, z), if there are any.
        grid: The position of this grid in the files.
        notes: What was odd in the files, and how it was read, one sentence each.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrepareConfig:
    """How cases are prepared.

    Attributes:
        multiple: Each axis of the prepared grid is a multiple of this.
        shape: Prepared grid, the same for every case. None: as small as the brain and
            `multiple` allow.
        spacing_mm: Voxel size to resample to. None leaves voxels as they are.
        mask: Which voxels count: one of `MASKS`, see `brain_mask`.
        normalizations: How each channel is brought to scale. Empty for "zscore" in all.

    Raises:
        ValueError: If a value is not positive, if `shape` is not a multiple, or if
            there is no such mask.
    """

    multiple: int = 16
    shape: Shape | None = None
    spacing_mm: tuple[float, float, float] | None = None
    mask: str = "foreground"
    normalizations: tuple[Normalization, ...] = ()

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise ValueError(
                f"`mask` is {self.mask!r}; choose one of {', '.join(MASKS)}."
            )
        if self.multiple < 1:
            raise ValueError(f"`multiple` is {self.multiple}, not 1 or more.")
        if self.shape is not None:
            _check_shape(self.shape, self.multiple)
        if self.spacing_mm is not None and not (
            len(self.spacing_mm) == 3 and all(size > 0 for size in self.spacing_mm)
        ):
            raise ValueError(
                f"`spacing_mm` is {self.spacing_mm}; it needs three positive numbers."
            )


def prepare(
    case: CaseFiles,
    dataset: Dataset,
    *,
    multiple: int = 16,
    shape: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    mask: str = "foreground",
) -> Prepared:
    """Read a case and turn it into what a network sees.

    Args:
        case: Files of the case.
        dataset: The data set it belongs to, for channels and label map.
        multiple: Each axis of the result is a multiple of this: 2 to the number of
            times that the network halves its grid.
        shape: Prepared grid, so that all cases have one shape. None: as small as the
            brain and `multiple` allow.
        spacing_mm: Voxel size to resample to. None leaves voxels as they are.
        mask: Which voxels count: "foreground", "brain" or "none", see `brain_mask`.

    Returns:
        The prepared case.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be used, if files of the case do not belong
            together, if labels are not in the map, or if the brain does not fit
            `shape`, or if labels would be blanked. The message names file or case.
    """
    config = PrepareConfig(
        multiple,
        None if shape is None else _three_ints(shape),
        None if spacing_mm is None else _three_floats(spacing_mm),
        mask,
    )
    return prepare_as(case, dataset, config)


def prepare_as(case: CaseFiles, dataset: Dataset, config: PrepareConfig) -> Prepared:
    """Prepare a case as `config` says. See `prepare`.

    Args:
        case: The files of the case.
        dataset: The data set that it belongs to: its channels and label map.
        config: How to prepare.
    """
    return prepare_volumes(
        read_case(case, dataset.channels), dataset.label_map, config, case.name
    )


def prepare_volumes(
    volumes: CaseVolumes, label_map: LabelMap | None, config: PrepareConfig, name: str
) -> Prepared:
    """Prepare volumes that are already in memory. See `prepare`.

    Args:
        volumes: Images, and labels if there are any, on one grid.
        label_map: What the labels mean. None if there are none.
        config: How to prepare.
        name: Name of the case, for messages.
    """
    labels, rounded = None, ""
    if volumes.labels is not None:
        labels, rounded = _numbered(volumes.labels, label_map)
        rounded = rounded and f"in its labels, {rounded}."
    brain = brain_mask(volumes.image, name, config.mask)
    kept, stray = brain.mask, ""
    if labels is not None:
        stray = _outside(labels, brain, name)
        kept = kept | (labels > 0)  # So that no label is cropped.
    grid = plan_grid(volumes, kept, config, name)
    box = tuple(slice(a, a + n) for a, n in zip(grid.start, grid.cropped, strict=True))
    image = normalize(
        volumes.image[box],
        brain.mask[box],
        volumes.channels,
        config.normalizations,
        name,
    )
    outside_is_zero = not any(n.scheme != "zscore" for n in config.normalizations)
    inside = brain.mask[box] if outside_is_zero else None
    return Prepared(
        name,
        _pad(_resized(image, inside, grid), grid),
        None if labels is None else grid.apply(labels),
        grid,
        tuple(filter(None, (odd_spacing(volumes.reference.spacing), rounded, stray))),
    )


def plan_grid(
    volumes: CaseVolumes, mask: np.ndarray, config: PrepareConfig, name: str
) -> Grid:
    """Place the prepared grid around the brain.

    Args:
        volumes: The case.
        mask: The brain, bool, (x, y, z).
        config: Shape, multiple and voxel size wanted.
        name: Name of the case, for messages.

    Returns:
        The grid, with the brain in its middle.

    Raises:
        ValueError: If the brain does not fit the wanted shape.
    """
    reference = volumes.reference
    x, y, z = bounding_box(mask)
    start = x.start, y.start, z.start
    cropped = mask[x, y, z].shape
    resampled = cropped
    if config.spacing_mm is not None:
        sizes_mm = np.array(cropped) * np.array(reference.spacing)
        sizes = np.maximum(np.round(sizes_mm / np.array(config.spacing_mm)), 1)
        _require_memory(volumes, sizes.tolist(), "spacing_mm", name)
        x, y, z = sizes
        resampled = int(x), int(y), int(z)
    shape = fit_shape(resampled, config.multiple)
    if config.shape is not None:
        if any(n > m for n, m in zip(resampled, config.shape, strict=True)):
            raise ValueError(
                f"{name}: the brain has {_by(resampled)} voxels and does not fit "
                f"`shape` {_by(config.shape)}; {_by(shape)} would do."
            )
        shape = config.shape
        _require_memory(volumes, shape, "shape", name)
    before = tuple((m - n) // 2 for n, m in zip(resampled, shape, strict=True))
    stored = reference.source_affine
    return Grid(
        path=reference.path,
        file_affine=reference.affine if stored is None else stored,
        file_header=reference.source_header,
        ras_affine=reference.affine,
        ras_shape=_three_ints(reference.data.shape),
        start=start,
        cropped=cropped,
        resampled=resampled,
        before=_three_ints(before),
        shape=shape,
    )


def _require_memory(
    volumes: CaseVolumes, shape: Sequence[float], setting: str, name: str
) -> None:
    """Refuse a grid that this machine cannot hold, resampled and then padded."""
    with np.errstate(over="ignore"):
        voxels = float(np.prod(np.asarray(shape, float)))
    sides = "x".join(f"{side:.0f}" for side in shape)
    what = f"{name}: `{setting}` makes {sides} voxels, which"
    require_memory(2 * 4 * len(volumes.channels) * voxels, what)


def fit_shape(size: Sequence[int], multiple: int) -> Shape:
    """Round each axis up to a multiple.

    Args:
        size: Voxels along each axis.
        multiple: The number by which the result is divisible.

    Example:
        >>> fit_shape((138, 170, 138), 16)
        (144, 176, 144)
    """
    return _three_ints([-(-n // multiple) * multiple for n in size])


def _outside(labels: np.ndarray, brain: Brain, name: str) -> str:
    """Say how many labels lie where the image is background.

    Raises:
        VolumeError: If the image would be blanked there.
    """
    count = int(np.count_nonzero(labels[~brain.mask]))
    if not count:
        return ""
    share = f"{count} labeled voxels ({count / np.count_nonzero(labels):.2%})"
    if brain.has_background:
        return f"{share} lie where every channel is background."
    raise VolumeError(
        f"{name}: {share} lie outside of the mask by brightness, where images would be "
        "set to 0. Give `mask: foreground`, which then takes the whole image."
    )


def _resized(image: np.ndarray, mask: np.ndarray | None, grid: Grid) -> np.ndarray:
    if not grid.is_resampled:
        return image
    resized = resize(image, grid.resampled)
    return (
        resized if mask is None else resized * resize(mask, grid.resampled)[..., None]
    )


def _pad(image: np.ndarray, grid: Grid) -> np.ndarray:
    padded = np.zeros((*grid.shape, image.shape[-1]), np.float32)
    inside = zip(grid.before, grid.resampled, strict=True)
    padded[tuple(slice(a, a + n) for a, n in inside)] = image
    return padded


def _numbered(labels: Volume, label_map: LabelMap | None) -> tuple[np.ndarray, str]:
    if label_map is None:
        raise ValueError(
            f"{labels.path}: what its values mean is not known; give `edition`, or "
            "name the labels in the data set's JSON file."
        )
    return to_map(labels, label_map)


def _check_shape(shape: Sequence[int], multiple: int) -> None:
    if len(shape) != 3 or any(n < 1 for n in shape):
        raise ValueError(f"`shape` is {tuple(shape)}; it needs three positive numbers.")
    if any(n % multiple for n in shape):
        raise ValueError(
            f"`shape` is {_by(shape)}, but each axis has to be a multiple of "
            f"{multiple}; {_by(fit_shape(shape, multiple))} would do."
        )


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _three_ints(values: Sequence[int]) -> Shape:
    if len(values) != 3:
        raise ValueError(
            f"`shape` is {tuple(values)}; it needs three positive numbers."
        )
    x, y, z = (int(value) for value in values)
    return x, y, z


def _three_floats(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ValueError(
            f"`spacing_mm` is {tuple(values)}; it needs three positive numbers."
        )
    x, y, z = (float(value) for value in values)
    return x, y, z
