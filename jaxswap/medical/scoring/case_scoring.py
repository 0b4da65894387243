"""Scoring one case: both files are read and checked, and each region is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxswap.medical.data.case_files import Source
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.label_values import to_map
from jaxswap.medical.data.reading import check_grid
from jaxswap.medical.data.volumes import Volume, VolumeError, load_volume
from jaxswap.medical.scoring.lesion_scores import LesionRules
from jaxswap.medical.scoring.metrics import RegionMetrics, region_metrics
from jaxswap.medical.scoring.prediction_pairs import Pair

_FAULTS = (ValueError, OSError, MemoryError)


@dataclass(frozen=True)
class ScoringRules:
    """What the scores depend on besides the files.

    Attributes:
        tolerance_mm: Tolerance of the surface Dice.
        lesions: What counts as a lesion.
    """

    tolerance_mm: float = 1.0
    lesions: LesionRules = field(default_factory=LesionRules)

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance_mm < np.inf:
            raise ValueError(f"`tolerance_mm` is {self.tolerance_mm}, not 0 or more.")


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Attributes:
        case: Its name.
        reference: File of the reference.
        prediction: File of the prediction.
        image: The image to draw the outlines on, if it is known.
        regions: Scores of each region, in the order of the label map.
        notes: What was odd in the files, and how it was read, one sentence each.
    """

    case: str
    reference: Path
    prediction: Path
    image: Source | None
    regions: Mapping[str, RegionMetrics]
    notes: tuple[str, ...] = ()

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the regions."""
        return sum(r.dice for r in self.regions.values()) / len(self.regions)


@dataclass(frozen=True)
class CaseFault:
    """A case that could not be scored.

    Attributes:
        case: Its name.
        is_missing: Whether there is no prediction.
        reasons: Everything that is wrong with the case, one sentence each.
    """

    case: str
    is_missing: bool
    reasons: tuple[str, ...]


def score_case(
    pair: Pair, label_map: LabelMap, rules: ScoringRules
) -> CaseScores | CaseFault:
    """Score one case.

    Args:
        pair: Its files.
        label_map: What labels mean.
        rules: What the scores depend on.

    Returns:
        The scores. If they cannot be computed, all reasons. Both files are turned to
        RAS+. After that they must have the same grid.
    """
    if len(pair.predictions) != 1:
        files = " and ".join(str(path) for path in pair.predictions)
        reason = f"there is no prediction for {pair.reference}."
        if files:
            reason = f"has several predictions: {files}."
        return CaseFault(pair.case, not files, (reason,))
    (prediction,) = pair.predictions
    try:
        read = read_labels(pair.reference, prediction, label_map)
        if not isinstance(read, LabelPair):
            return CaseFault(pair.case, False, read)
        regions = {
            name: region_metrics(
                np.isin(read.reference, values),
                np.isin(read.prediction, values),
                read.grid.spacing,
                rules.tolerance_mm,
                rules.lesions,
            )
            for name, values in label_map.regions.items()
        }
    except MemoryError as error:
        return CaseFault(pair.case, False, (f"not enough memory ({error}).",))
    return CaseScores(
        pair.case, pair.reference, prediction, pair.image, regions, read.notes
    )


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Reference and prediction in memory, turned to RAS+.

    Attributes:
        reference: Labels, uint8, (x, y, z).
        prediction: Labels, uint8, (x, y, z).
        grid: The volume of the reference, for its geometry.
        notes: What was rounded in them, one sentence for each file.
    """

    reference: np.ndarray
    prediction: np.ndarray
    grid: Volume
    notes: tuple[str, ...] = ()


def read_labels(
    reference: Path, prediction: Path, label_map: LabelMap
) -> LabelPair | tuple[str, ...]:
    """Read a reference and its prediction.

    Args:
        reference: Label file.
        prediction: Label file.
        label_map: What labels mean.

    Returns:
        Both. If they cannot be used, all reasons, one sentence each.
    """
    volumes, reasons = [], []
    for path in (reference, prediction):
        try:
            volumes.append(load_volume(path))
        except _FAULTS as error:
            reasons.append(_named(path, error))
    if len(volumes) == 2:
        try:
            check_grid(volumes[1], volumes[0])
        except ValueError as error:
            reasons.append(str(error))
    labels, notes = [], []
    for volume in volumes:
        try:
            found, note = to_map(volume, label_map)
            labels.append(found)
            notes += [f"{volume.path}: {note}."] if note else []
        except VolumeError as error:
            reasons.append(str(error))
    if reasons:
        return tuple(reasons)
    return LabelPair(labels[0], labels[1], volumes[0], tuple(notes))


def _named(path: Path, error: BaseException) -> str:
    """Return the message of an error, with the file's name if it is not in there."""
    message = str(error) or type(error).__name__
    return message if str(path) in message else f"{path}: cannot be read ({message})."
