"""The scores of one region of one case.

What to report for an empty mask is a convention. Ours is that of the BraTS challenges:

| reference | prediction | Dice | HD95                        | surface Dice |
| --------- | ---------- | ---- | --------------------------- | ------------ |
| empty     | empty      | 1    | 0                           | 1            |
| empty     | not empty  | 0    | diagonal of the image in mm | 0            |
| not empty | empty      | 0    | diagonal of the image in mm | 0            |

The diagonal of BraTS's 240 x 240 x 155 voxels of 1 mm is 373.13 mm. From 2023 on BraTS
takes 374 mm for all images. `LesionRules.penalty_mm` sets such a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxswap.medical.scoring.lesion_scores import (
    LesionRules,
    LesionScores,
    lesion_scores,
)
from jaxswap.medical.scoring.surface_distances import (
    Spacing,
    check_masks,
    hausdorff_95_mm,
    surface_dice,
    surface_distances,
)

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class RegionMetrics:
    """The scores of one region of one case.

    Attributes:
        dice: Twice the overlap over the sum of both volumes, 0..1.
        hd95_mm: Larger of the two directed 95th percentiles of surface distances.
        surface_dice: Share of both surfaces within the tolerance of the other, by area.
        reference_ml: Volume of the reference, in millilitres.
        prediction_ml: Volume of the prediction.
        lesions: Lesions found, missed and made up.
    """

    dice: float
    hd95_mm: float
    surface_dice: float
    reference_ml: float
    prediction_ml: float
    lesions: LesionScores

    @property
    def difference_ml(self) -> float:
        """Predicted volume minus reference volume, in millilitres."""
        return self.prediction_ml - self.reference_ml


def region_metrics(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing: Spacing,
    tolerance_mm: float = 1.0,
    rules: LesionRules | None = None,
) -> RegionMetrics:
    """Compute all scores of a predicted region.

    Args:
        reference: True inside the region, bool, (x, y, z).
        prediction: True inside, the same shape.
        spacing: Voxel size along each axis, in millimetres.
        tolerance_mm: Tolerance of the surface Dice.
        rules: What counts as a lesion. None takes the defaults.

    Returns:
        The scores. For empty masks see the module's text.

    Raises:
        ValueError: If the masks, the spacing or the tolerance do not fit.

    Example:
        >>> reference = np.zeros((20, 20, 20), bool)
        >>> reference[4:14, 4:14, 4:14] = True
        >>> moved = np.roll(reference, 2, 0)
        >>> scores = region_metrics(reference, moved, (1.0, 1.0, 1.0))
        >>> scores.dice, scores.hd95_mm, scores.reference_ml, scores.lesions.found
        (0.8, 2.0, 1.0, 1)
    """
    rules = rules or LesionRules()
    check_masks(reference, prediction, spacing)
    if not 0 <= tolerance_mm < np.inf:
        raise ValueError(f"`tolerance_mm` is {tolerance_mm}, not 0 or more.")
    voxel_ml = float(np.prod(spacing)) / _MM3_PER_ML
    sizes = int(reference.sum()), int(prediction.sum())
    if all(sizes):
        overlap = int((reference & prediction).sum())
        distances = surface_distances(reference, prediction, spacing)
        dice = 2 * overlap / sum(sizes)
        hd95_mm = hausdorff_95_mm(distances)
        surface = surface_dice(distances, tolerance_mm)
    elif any(sizes):
        dice, surface = 0.0, 0.0
        hd95_mm = rules.penalty_of(reference.shape, spacing)
    else:
        dice, hd95_mm, surface = 1.0, 0.0, 1.0
    return RegionMetrics(
        dice=dice,
        hd95_mm=hd95_mm,
        surface_dice=surface,
        reference_ml=sizes[0] * voxel_ml,
        prediction_ml=sizes[1] * voxel_ml,
        lesions=lesion_scores(reference, prediction, spacing, rules),
    )
