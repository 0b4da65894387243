"""The scores of a region: each from its definition, and with empty masks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxswap.medical.scoring.lesion_scores import (
    CHALLENGES,
    LesionRules,
    LesionScores,
)
from jaxswap.medical.scoring.metrics import region_metrics

_UNIT = (1.0, 1.0, 1.0)


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(1, 5)] * 3).flatmap(
        lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 2)
    ),
    st.tuples(*[st.floats(0.3, 5.0)] * 3),
)
def test_dice_and_volumes_are_counts_of_voxels(masks, spacing):
    reference, prediction = masks
    scores = region_metrics(reference, prediction, spacing)
    first, second = ({tuple(p) for p in np.argwhere(mask).tolist()} for mask in masks)
    both = len(first) + len(second)
    assert scores.dice == (2 * len(first & second) / both if both else 1)
    voxel_ml = math.prod(spacing) / 1000
    assert scores.reference_ml == pytest.approx(len(first) * voxel_ml)
    assert scores.prediction_ml == pytest.approx(len(second) * voxel_ml)
    difference_ml = (len(second) - len(first)) * voxel_ml
    assert scores.difference_ml == pytest.approx(difference_ml, abs=1e-9)


_EMPTY = np.zeros((24, 24, 15), bool)
_FOCUS = _EMPTY.copy()
_FOCUS[4:9, 4:9, 4:9] = True
_DIAGONAL = float(np.linalg.norm([24, 24, 30]))


@pytest.mark.parametrize(
    ("reference", "prediction", "dice", "hd95_mm", "lesions"),
    [
        (_EMPTY, _EMPTY, 1, 0, LesionScores(0, 0, 0, 1.0, 0.0)),
        (_EMPTY, _FOCUS, 0, _DIAGONAL, LesionScores(0, 0, 1, 0.0, _DIAGONAL)),
        (_FOCUS, _EMPTY, 0, _DIAGONAL, LesionScores(0, 1, 0, 0.0, _DIAGONAL)),
        (_FOCUS, _FOCUS, 1, 0, LesionScores(1, 0, 0, 1.0, 0.0)),
    ],
)
def test_empty_masks_are_scored_by_the_convention(
    reference, prediction, dice, hd95_mm, lesions
):
    scores = region_metrics(reference, prediction, (1.0, 1.0, 2.0))
    assert (scores.dice, scores.surface_dice) == (dice, dice)
    assert scores.hd95_mm == pytest.approx(hd95_mm)
    assert scores.lesions == lesions


def test_the_diagonal_of_brats_is_373_mm():
    nothing = np.zeros((240, 240, 155), bool)
    something = nothing.copy()
    something[0, 0, 0] = True
    assert round(region_metrics(nothing, something, _UNIT).hd95_mm, 2) == 373.13


def test_a_challenge_has_a_penalty_of_its_own():
    rules = CHALLENGES["brats2023-met"]
    for pair in ((_EMPTY, _FOCUS), (_FOCUS, _EMPTY)):
        scores = region_metrics(*pair, _UNIT, rules=rules)
        assert scores.hd95_mm == scores.lesions.hd95_mm == 374
    assert region_metrics(_EMPTY, _EMPTY, _UNIT, rules=rules).hd95_mm == 0


def test_tolerance_and_rules_reach_the_scores():
    moved = np.roll(_FOCUS, 2, 0)
    assert region_metrics(_FOCUS, moved, _UNIT).surface_dice < 1
    assert region_metrics(_FOCUS, moved, _UNIT, tolerance_mm=2.0).surface_dice == 1
    strict = LesionRules(smallest_mm3=125.0)
    assert region_metrics(_FOCUS, moved, _UNIT, rules=strict).lesions.found == 0


@pytest.mark.parametrize("tolerance_mm", [-1.0, math.nan, math.inf])
def test_an_ill_tolerance_is_refused(tolerance_mm):
    with pytest.raises(ValueError, match="`tolerance_mm` is"):
        region_metrics(_FOCUS, _FOCUS, _UNIT, tolerance_mm)
