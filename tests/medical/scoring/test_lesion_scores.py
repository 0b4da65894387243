"""Counting lesions: against the rules followed voxel by voxel, and by hand."""

import itertools
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxswap.medical.scoring.lesion_scores import (
    CHALLENGES,
    LesionRules,
    LesionScores,
    lesion_scores,
)
from jaxswap.medical.scoring.surface_distances import (
    hausdorff_95_mm,
    surface_distances,
)

_UNIT = (1.0, 1.0, 1.0)
_STEPS = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]
_DILATION_STEPS = [step for step in _STEPS if sum(map(abs, step)) <= 2]


def _neighbours(point, shape, steps):
    for step in steps:
        there = tuple(a + b for a, b in zip(point, step, strict=True))
        if all(0 <= a < n for a, n in zip(there, shape, strict=True)):
            yield there


def _grow(points, shape, times):
    for _ in range(times):
        points = points | {
            there for p in points for there in _neighbours(p, shape, _DILATION_STEPS)
        }
    return points


def _pieces(points, shape):
    left, pieces = set(points), []
    while left:
        piece, waiting = set(), deque([left.pop()])
        while waiting:
            point = waiting.popleft()
            piece.add(point)
            for there in _neighbours(point, shape, _STEPS):
                if there in left:
                    left.remove(there)
                    waiting.append(there)
        pieces.append(piece)
    return pieces


def _mask(points, shape):
    mask = np.zeros(shape, bool)
    mask[tuple(zip(*points, strict=True))] = True
    return mask


def _by_hand(reference, prediction, spacing, rules):
    """The rules of BraTS 2023 with sets of voxels."""
    shape, times = reference.shape, rules.dilation_voxels
    voxel_mm3 = np.prod(spacing)
    penalty_mm = rules.penalty_mm or np.linalg.norm(np.multiply(shape, spacing))
    inside = {tuple(point) for point in np.argwhere(reference).tolist()}
    grown = _pieces(_grow(inside, shape, times), shape)
    lesions = [piece & inside for piece in grown]
    predicted = _pieces({tuple(p) for p in np.argwhere(prediction).tolist()}, shape)
    touched, scores, apart_mm, found = set(), [], [], 0
    for lesion in lesions:
        near = _grow(lesion, shape, times)
        mine = [i for i, piece in enumerate(predicted) if piece & near]
        touched |= set(mine)
        if len(lesion) * voxel_mm3 > rules.smallest_mm3:
            union = set().union(*(predicted[i] for i in mine))
            scores.append(2 * len(union & lesion) / (len(union) + len(lesion)))
            found += bool(mine)
            apart_mm.append(penalty_mm)
            if mine:
                pair = _mask(lesion, shape), _mask(union, shape)
                distances = surface_distances(*pair, spacing)
                apart_mm[-1] = hausdorff_95_mm(distances)
    made_up = len(predicted) - len(touched)
    count = len(scores) + made_up
    dice = sum(scores) / count if count else 1.0
    hd95_mm = (sum(apart_mm) + made_up * penalty_mm) / count if count else 0.0
    return LesionScores(found, len(scores) - found, made_up, dice, float(hd95_mm))


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3).flatmap(
        lambda shape: st.tuples(
            *[arrays(np.bool_, shape, elements=st.booleans(), fill=st.just(False))] * 2
        )
    ),
    st.sampled_from([_UNIT, (0.5, 1.0, 3.0)]),
    st.builds(
        LesionRules,
        st.integers(0, 2),
        st.sampled_from([0.0, 1.0, 3.0]),
        st.sampled_from([None, 374.0]),
    ),
)
def test_counts_follow_the_rules_voxel_by_voxel(masks, spacing, rules):
    reference, prediction = masks
    expected = _by_hand(reference, prediction, spacing, rules)
    found = lesion_scores(reference, prediction, spacing, rules)
    assert found == replace(expected, dice=found.dice, hd95_mm=found.hd95_mm)
    assert found.dice == pytest.approx(expected.dice)
    assert found.hd95_mm == pytest.approx(expected.hd95_mm)


def _boxes(*corners, side=4, shape=(60, 16, 16)):
    mask = np.zeros(shape, bool)
    for x, y, z in corners:
        mask[x : x + side, y : y + side, z : z + side] = True
    return mask


def test_pieces_whose_dilations_touch_are_one_lesion():
    prediction = _boxes((2, 2, 2))
    for gap, lesions in ((6, 1), (8, 2)):
        reference = _boxes((2, 2, 2), (2 + 4 + gap, 2, 2))
        scores = lesion_scores(reference, prediction, _UNIT)
        assert scores.found + scores.missed == lesions


def test_a_prediction_beside_a_lesion_belongs_to_it():
    reference = _boxes((2, 2, 2))
    for gap, found in ((2, 1), (3, 0)):
        scores = lesion_scores(reference, _boxes((2 + 4 + gap, 2, 2)), _UNIT)
        assert (scores.found, scores.missed, scores.made_up) == (
            found,
            1 - found,
            1 - found,
        )
        assert scores.dice == 0


@pytest.mark.parametrize(("corner", "found"), [((6, 6, 4), 1), ((6, 6, 6), 0)])
def test_dilation_reaches_over_edges_but_not_over_corners(corner, found):
    rules = LesionRules(dilation_voxels=1)
    scores = lesion_scores(_boxes((2, 2, 2)), _boxes(corner), _UNIT, rules)
    assert (scores.found, scores.made_up) == (found, 1 - found)


def test_a_prediction_across_two_lesions_counts_for_both():
    reference = _boxes((2, 2, 2), (30, 2, 2))
    prediction = np.zeros_like(reference)
    prediction[2:34, 2:6, 2:6] = True
    scores = lesion_scores(reference, prediction, _UNIT)
    assert (scores.found, scores.missed, scores.made_up) == (2, 0, 0)
    assert scores.dice == pytest.approx(2 * 64 / (64 + 512))


def test_small_lesions_count_neither_as_missed_nor_as_made_up():
    small = _boxes((2, 2, 2), side=3)
    assert lesion_scores(small, small, _UNIT) == LesionScores(0, 0, 0, 1.0, 0.0)
    nothing = np.zeros_like(small)
    assert lesion_scores(small, nothing, _UNIT) == LesionScores(0, 0, 0, 1.0, 0.0)
    brats = CHALLENGES["brats2023-gli"]
    made_up = lesion_scores(nothing, small, _UNIT, brats)
    assert made_up == LesionScores(0, 0, 1, 0.0, 374.0)
    found = lesion_scores(small, small, (2.0, 1.0, 1.0))
    assert found == LesionScores(1, 0, 0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LesionRules(-1), "`dilation_voxels` is -1"),
        (lambda: LesionRules(1, -2.0), "`smallest_mm3` is -2.0"),
        (lambda: LesionRules(1, float("nan")), "`smallest_mm3` is nan"),
        (lambda: LesionRules(penalty_mm=float("inf")), "`penalty_mm` is inf"),
        (lambda: lesion_scores(_boxes(), _boxes(shape=(2, 2, 2)), _UNIT), "differ"),
    ],
)
def test_ill_rules_and_masks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
