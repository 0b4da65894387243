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
from jaxswap.medical.scoring.surface_distances import (
    Spacing,
    check_masks,
    hausdorff_95_mm,
    surface_distances,
)

_TOUCHING = ndimage.generate_binary_structure(3, 3)  # 26 neighbours.
_DILATION = ndimage.generate_binary_structure(3, 2)  # 18 neighbours, as in BraTS.


@dataclass(frozen=True)
class LesionRules:
    """What counts as a lesion.

    The default dilation and volume are those of BraTS 2023 for gliomas. `CHALLENGES`
    has the rules of each of its challenges.

    Attributes:
        dilation_voxels: How often the reference is dilated, by one voxel each time.
        smallest_mm3: Reference lesions of this volume or less do not count. Neither
            does a prediction that touches only such lesions.
        penalty_mm: HD95 of a lesion that is missed or made up, and of a whole region
            that only one of both has. None takes the diagonal of the image.
    """

    dilation_voxels: int = 3
    smallest_mm3: float = 50.0
    penalty_mm: float | None = None

    def __post_init__(self) -> None:
        if self.dilation_voxels < 0:
            raise ValueError(f"`dilation_voxels` is {self.dilation_voxels}, below 0.")
        if not 0 <= self.smallest_mm3 < np.inf:
            raise ValueError(f"`smallest_mm3` is {self.smallest_mm3}, not 0 or more.")
        if self.penalty_mm is not None and not 0 <= self.penalty_mm < np.inf:
            raise ValueError(f"`penalty_mm` is {self.penalty_mm}, not 0 or more.")

    def penalty_of(self, shape: tuple[int, ...], spacing: Spacing) -> float:
        """Return the HD95 of what only one of both has, in an image of this size."""
        if self.penalty_mm is not None:
            return self.penalty_mm
        return float(np.linalg.norm(np.multiply(shape, spacing)))


CHALLENGES: dict[str, LesionRules] = {
    "brats2023-gli": LesionRules(3, 50.0, 374.0),
    "brats2023-ssa": LesionRules(3, 50.0, 374.0),
    "brats2023-ped": LesionRules(3, 50.0, 374.0),
    "brats2023-men": LesionRules(1, 50.0, 374.0),
    "brats2023-met": LesionRules(1, 2.0, 374.0),
}
"""The rules of the challenges of BraTS 2023, by name."""


@dataclass(frozen=True)
class LesionScores:
    """How many lesions of one region were found, missed and made up.

    Attributes:
        found: Reference lesions that the prediction touches (true positives).
        missed: Reference lesions that it does not touch (false negatives).
        made_up: Components of the prediction that touch no lesion (false positives).
        dice: Sum of the Dice of all reference lesions over `found + missed + made_up`.
            So a lesion that is missed or made up counts as 0. 1 if there are none.
        hd95_mm: Mean HD95 of the same lesions. One that is missed or made up counts as
            the penalty. 0 if there are none.
    """

    found: int
    missed: int
    made_up: int
    dice: float
    hd95_mm: float


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
        The counts, and Dice and HD95 by lesion.

    Raises:
        ValueError: If the masks or the spacing do not fit. See `check_masks`.

    Example:
        >>> reference = np.zeros((40, 12, 12), bool)
        >>> reference[2:8, 2:8, 2:8] = reference[20:26, 2:8, 2:8] = True
        >>> prediction = np.zeros_like(reference)
        >>> prediction[2:8, 2:8, 2:5] = prediction[36:38, 2:4, 2:4] = True
        >>> rules = LesionRules(penalty_mm=374.0)
        >>> lesion_scores(reference, prediction, (1.0, 1.0, 1.0), rules)
        LesionScores(found=1, missed=1, made_up=1, dice=0.2222..., hd95_mm=250.3333...)
    """
    rules = rules or LesionRules()
    check_masks(reference, prediction, spacing)
    if not (reference.any() or prediction.any()):
        return LesionScores(0, 0, 0, 1.0, 0.0)
    margin = rules.dilation_voxels
    box = bounding_box(reference | prediction, margin)
    lesions, boxes = _lesions(reference[box], margin)
    components, count = _components(prediction[box])
    places = ndimage.find_objects(components)
    smallest = rules.smallest_mm3 / float(np.prod(spacing))
    found, missed = [], 0
    touched = np.zeros(count + 1, bool)
    for label, place in enumerate(boxes, start=1):
        around = _widen(place, margin, lesions.shape)
        near = _dilate(lesions[around] == label, margin)
        touching = np.unique(components[around][near])
        touching = touching[touching > 0]
        touched[touching] = True
        if np.count_nonzero(lesions[place] == label) <= smallest:
            continue
        if len(touching):
            whole = _join([place, *(places[index - 1] for index in touching)])
            mine = lesions[whole] == label, np.isin(components[whole], touching)
            found.append(_dice_and_hd95_mm(*mine, spacing))
        else:
            missed += 1
    made_up = count - int(touched[1:].sum())
    everything = len(found) + missed + made_up
    if not everything:
        return LesionScores(0, 0, 0, 1.0, 0.0)
    dice, hd95_mm = np.sum(found, axis=0) if found else (0.0, 0.0)
    hd95_mm += (missed + made_up) * rules.penalty_of(reference.shape, spacing)
    dice, hd95_mm = float(dice / everything), float(hd95_mm / everything)
    return LesionScores(len(found), missed, made_up, dice, hd95_mm)


def _dice_and_hd95_mm(
    lesion: np.ndarray, found: np.ndarray, spacing: Spacing
) -> tuple[float, float]:
    overlap = np.count_nonzero(lesion & found)
    dice = 2 * overlap / (np.count_nonzero(lesion) + np.count_nonzero(found))
    return dice, hausdorff_95_mm(surface_distances(lesion, found, spacing))


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


def _join(boxes: list[tuple[slice, ...]]) -> tuple[slice, ...]:
    """Return the smallest box around all boxes."""
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
