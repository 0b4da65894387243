"""Scores by lesion: which tumour foci were found, missed or made up.

The largest focus dominates a Dice over the whole head. So lesions are scored by the
rules of BraTS 2023. Reference voxels whose dilations touch are one lesion, so small
pieces beside a lesion are not lesions of their own. Each connected component of the
prediction (26 neighbours) belongs to every lesion whose dilation it touches.

References:
    Saluja et al. 2023, lesion-wise performance metrics of BraTS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.scoring.surface_distances import Spacing, check_masks

_TOUCHING = ndimage.generate_binary_structure(3, 3)  # 26 neighbours.
_DILATION = ndimage.generate_binary_structure(3, 2)  # 18 neighbours, as in BraTS.


@dataclass(frozen=True)
class LesionRules:
    """What counts as a lesion.

    The defaults are those of BraTS 2023 for gliomas. Metastases and meningiomas have a
    dilation of one voxel, and metastases a smallest volume of 2 mm³.

    Attributes:
        dilation_voxels: How often the reference is dilated, by one voxel each time.
        smallest_mm3: Reference lesions of this volume or less do not count. Neither
            does a prediction that touches only such lesions.
    """

    dilation_voxels: int = 3
    smallest_mm3: float = 50.0

    def __post_init__(self) -> None:
        if self.dilation_voxels < 0:
            raise ValueError(f"`dilation_voxels` is {self.dilation_voxels}, below 0.")
        if not 0 <= self.smallest_mm3 < np.inf:
            raise ValueError(f"`smallest_mm3` is {self.smallest_mm3}, not 0 or more.")


@dataclass(frozen=True)
class LesionScores:
    """How many lesions of one region were found, missed and made up.

    Attributes:
        found: Reference lesions that the prediction touches (true positives).
        missed: Reference lesions that it does not touch (false negatives).
        made_up: Components of the prediction that touch no lesion (false positives).
        dice: Sum of the Dice of all reference lesions over `found + missed + made_up`.
            So a lesion that is missed or made up counts as 0. 1 if there are none.
    """

    found: int
    missed: int
    made_up: int
    dice: float


def lesion_scores(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing: Spacing,
    rules: LesionRules | None = None,
) -> LesionScores:
    """Count the lesions of one region that were found, missed and made up.

    Args:
        reference: True inside, bool, (x, y, z).
        prediction: True inside, the same shape.
        spacing: Voxel size along each axis, in millimetres.
        rules: What counts as a lesion. None takes the defaults.

    Returns:
        The counts, and the Dice by lesion.

    Raises:
        ValueError: If the masks or the spacing do not fit. See `check_masks`.

    Example:
        >>> reference = np.zeros((40, 12, 12), bool)
        >>> reference[2:8, 2:8, 2:8] = reference[20:26, 2:8, 2:8] = True
        >>> prediction = np.zeros_like(reference)
        >>> prediction[2:8, 2:8, 2:5] = prediction[36:38, 2:4, 2:4] = True
        >>> lesion_scores(reference, prediction, (1.0, 1.0, 1.0))
        LesionScores(found=1, missed=1, made_up=1, dice=0.2222222222222222)
    """
    rules = rules or LesionRules()
    check_masks(reference, prediction, spacing)
    if not (reference.any() or prediction.any()):
        return LesionScores(0, 0, 0, 1.0)
    margin = rules.dilation_voxels
    box = bounding_box(reference | prediction, margin)
    lesions, boxes = _lesions(reference[box], margin)
    components, count = _components(prediction[box])
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    voxel_mm3 = float(np.prod(spacing))
    scores: list[float | None] = []
    touched = np.zeros(count + 1, bool)
    for label, place in enumerate(boxes, start=1):
        around = _widen(place, margin, lesions.shape)
        lesion, near = lesions[around] == label, components[around]
        touching = np.unique(near[_dilate(lesion, margin)])
        touching = touching[touching > 0]
        touched[touching] = True
        lesion_size = int(lesion.sum())
        if lesion_size * voxel_mm3 > rules.smallest_mm3:
            overlap = int(np.isin(near[lesion], touching).sum())
            total = lesion_size + int(sizes[touching].sum())
            scores.append(2 * overlap / total if len(touching) else None)
    made_up = count - int(touched[1:].sum())
    found = [score for score in scores if score is not None]
    everything = len(scores) + made_up
    dice = sum(found) / everything if everything else 1.0
    return LesionScores(len(found), len(scores) - len(found), made_up, dice)


def _lesions(
    mask: np.ndarray, dilation: int
) -> tuple[np.ndarray, list[tuple[slice, ...]]]:
    """Number the lesions from 1, and return the box around each."""
    merged, _ = _components(_dilate(mask, dilation))
    lesions = np.where(mask, merged, 0)
    return lesions, ndimage.find_objects(lesions)


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    labels = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, _TOUCHING, output=labels)
    assert isinstance(count, int)
    return labels, count


def _dilate(mask: np.ndarray, times: int) -> np.ndarray:
    if times == 0:  # SciPy would dilate until nothing changes.
        return mask
    return ndimage.binary_dilation(mask, _DILATION, iterations=times)


def _widen(
    box: tuple[slice, ...], margin: int, shape: tuple[int, ...]
) -> tuple[slice, ...]:
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, length))
        for side, length in zip(box, shape, strict=True)
    )
