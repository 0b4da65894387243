"""Two models compared case by case."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.scoring.case_scoring import CaseScores, ScoringRules
from jaxswap.medical.scoring.evaluation import Evaluation
from jaxswap.medical.scoring.lesion_scores import LesionScores
from jaxswap.medical.scoring.metrics import RegionMetrics
from jaxswap.medical.scoring.paired_comparison import COMPARED, compare, to_csv

_MAP = make_label_map("own", {"core": 1})
_HARD = np.linspace(0.1, 0.9, 8)  # How well any model can do, case by case.


def _evaluation(dice, hd95_mm=1.0, prediction_ml=1.0):
    scores = []
    for index, value in enumerate(dice):
        lesions = LesionScores(1, 0, 0, value, hd95_mm)
        metrics = RegionMetrics(value, hd95_mm, value, 1.0, prediction_ml, lesions)
        file = Path(f"c{index}")
        scores.append(CaseScores(f"c{index}", file, file, None, {"core": metrics}))
    return Evaluation(_MAP, ScoringRules(), tuple(scores), ())


def _of(comparison, metric):
    return next(one for one in comparison.differences if one.metric == metric)


def test_a_small_gain_in_every_case_is_sure_although_cases_differ_widely():
    gain = 0.02 + 0.001 * np.arange(8)
    comparison = compare(_evaluation(_HARD + gain), _evaluation(_HARD))
    dice = _of(comparison, "dice")
    assert dice.difference == pytest.approx(gain.mean())
    assert dice.confidence_95 is not None
    assert 0.02 < dice.confidence_95[0] < dice.confidence_95[1] < 0.03
    assert (dice.better, dice.worse) == (8, 0)
    assert dice.p_value == pytest.approx(2 / 2**8)  # All signs are the same.
    assert {one.metric for one in comparison.differences} == set(COMPARED)


def test_less_is_better_for_distances_and_volumes_whatever_their_sign():
    closer = _evaluation(_HARD, hd95_mm=2.0, prediction_ml=0.9)
    farther = _evaluation(_HARD, hd95_mm=3.0, prediction_ml=1.5)
    comparison = compare(closer, farther)
    for metric in ("hd95_mm", "lesion_hd95_mm", "difference_ml"):
        one = _of(comparison, metric)
        assert one.difference < 0
        assert (one.better, one.worse) == (8, 0)
    equal = _of(comparison, "dice")
    assert (equal.better, equal.worse, equal.p_value) == (0, 0, 1.0)


def test_cases_that_one_alone_was_scored_on_are_left_out():
    comparison = compare(_evaluation(_HARD), _evaluation(_HARD[:5]))
    assert comparison.cases == ("c0", "c1", "c2", "c3", "c4")
    assert comparison.left_out == ("c5", "c6", "c7")
    single = compare(_evaluation(_HARD[:1]), _evaluation(_HARD))
    assert _of(single, "dice").confidence_95 is None


def test_what_cannot_be_compared_is_refused():
    first = _evaluation(_HARD)
    with pytest.raises(ValueError, match="other labels or rules"):
        compare(first, replace(first, rules=ScoringRules(2.0)))
    with pytest.raises(ValueError, match="no case that both"):
        compare(first, replace(first, scores=()))


def test_the_table_holds_every_difference():
    comparison = compare(_evaluation(_HARD), _evaluation(_HARD / 2))
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert len(rows) == len(COMPARED)
    dice = _of(comparison, "dice")
    assert float(rows[0]["difference"]) == dice.difference
    assert (float(rows[0]["low_95"]), float(rows[0]["high_95"])) == dice.confidence_95
    assert rows[0]["cases"] == "8"
