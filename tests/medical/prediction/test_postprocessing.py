"""Pieces and small regions are removed from labels, where that helps."""

from pathlib import Path

import numpy as np
import pytest

from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.prediction.postprocessing import (
    CANDIDATES,
    Postprocessing,
    RegionOutcome,
    RegionRule,
    choose,
    common_rules,
    compare_regions,
    load_postprocessing,
)

TISSUE = make_label_map("tissue", {"grey": 1, "white": 3})
TUMOUR = LABEL_MAPS["brats2021"]


def _pieces() -> np.ndarray:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[0:5, 0:5, 0:5] = 1
    labels[5, 5, 5] = 1  # It touches by a corner.
    labels[9:11, 9:11, 9:11] = 1
    labels[0:3, 8:11, 0:3] = 3
    return labels


def test_only_the_largest_piece_of_a_region_is_kept() -> None:
    labels = _pieces()
    rules = Postprocessing({"grey": RegionRule(is_largest_kept=True)})
    found = rules.apply(labels, TISSUE, 1.0)
    expected = labels.copy()
    expected[9:11, 9:11, 9:11] = 0
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


@pytest.mark.parametrize(("voxel_mm3", "count"), [(1.0, 0), (10.0, 27)])
def test_a_region_that_is_too_small_is_removed(voxel_mm3: float, count: int) -> None:
    rules = Postprocessing({"white": RegionRule(smallest_ml=0.1)})
    found = rules.apply(_pieces(), TISSUE, voxel_mm3)
    assert np.count_nonzero(found == 3) == count
    assert np.count_nonzero(found == 1) == np.count_nonzero(_pieces() == 1)


def test_what_is_inside_a_removed_piece_goes_and_what_is_around_stays() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[0:6, 0:6, 0:6] = 2
    labels[1:4, 1:4, 1:4] = 1
    labels[2, 2, 2] = 4
    labels[9:11, 9:11, 9:11] = 2
    labels[9, 9, 9] = 4
    rule = {"whole tumour": RegionRule(is_largest_kept=True)}
    found = Postprocessing(rule).apply(labels, TUMOUR, 1.0)
    np.testing.assert_array_equal(found[:6], labels[:6])
    assert not found[9:].any()
    rule = {"enhancing tumour": RegionRule(smallest_ml=1.0)}
    found = Postprocessing(rule).apply(labels, TUMOUR, 1.0)
    np.testing.assert_array_equal(found, np.where(labels == 4, 1, labels))


def test_the_dice_of_each_rule_is_that_of_the_labels_it_leaves() -> None:
    rng = np.random.default_rng(0)
    predicted = (rng.random((8, 8, 8)) < 0.1).astype(np.uint8) * 3
    reference = np.zeros_like(predicted)
    reference[2:6, 2:6, 2:6] = 3
    outcome = compare_regions(predicted, reference, TISSUE, 2.0)["white"]
    for rule in CANDIDATES:
        left = Postprocessing({"white": rule}).apply(predicted, TISSUE, 2.0)
        after = compare_regions(left, reference, TISSUE, 2.0)["white"]
        assert outcome.dice_with(rule) == after.dice


def test_rules_are_chosen_where_they_raise_the_dice() -> None:
    predicted = _pieces()
    truth = predicted.copy()
    truth[9:, 9:, 9:] = 0  # The second piece of grey is false.
    cases = {
        name: compare_regions(predicted, truth, TISSUE, 1.0) for name in ("a", "b")
    }
    chosen = choose(cases)
    assert dict(chosen.rules) == {"grey": RegionRule(is_largest_kept=True)}
    before, after = chosen.dice["grey"]
    assert before < after == 1
    assert chosen.cases == ("a", "b")
    (line,) = chosen.describe()
    assert line.startswith("grey: removed all but its largest piece; Dice 0.969, then")
    assert choose({}).rules == {}


def test_a_gain_that_may_be_chance_is_no_reason() -> None:
    speck, none = (
        {"grey": RegionOutcome(2.0, 2.0, 0.9, 0.9 + gain, 0.0)} for gain in (1e-3, 0)
    )
    assert choose({"a": speck}).rules == {"grey": RegionRule(is_largest_kept=True)}
    assert choose({"a": speck, "b": none}).rules == {}


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "postprocessing.json"
    assert load_postprocessing(path) is None
    made = Postprocessing(
        {"grey": RegionRule(True, 0.5)}, {"grey": (0.5, 0.75)}, ("a",)
    )
    made.save(path)
    assert load_postprocessing(path) == made
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"postprocessing\.json: is damaged"):
        load_postprocessing(path)


def test_several_runs_use_what_they_agree_on() -> None:
    dice = {"grey": (0.0, 1.0), "white": (0.0, 1.0)}
    one = Postprocessing({"grey": RegionRule(True, 0.5)}, dice)
    other = Postprocessing(
        {"grey": RegionRule(False, 0.2), "white": RegionRule(True)}, dice
    )
    both = common_rules([one, other])
    assert dict(both.rules) == {"grey": RegionRule(False, 0.2)}
    assert both.describe() == ["grey: removed if it has less than 0.2 mL"]
    assert common_rules([one]) == one
    assert common_rules([one, None]).rules == {}
