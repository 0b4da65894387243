"""Scoring folders: all cases or their faults, in one process or several."""

import io
import os
import re

import pytest
from evaluation_folders import case_name, tumour, write, write_case
from rich.console import Console

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.scoring.case_scoring import ScoringRules
from jaxswap.medical.scoring.evaluation import METRICS, evaluate
from jaxswap.medical.scoring.lesion_scores import LesionRules


@pytest.fixture
def folders(tmp_path):
    """Three good cases, a bad one and a missing one; a stranger among predictions."""
    data, predictions = tmp_path / "data", tmp_path / "predictions"
    for index in range(5):
        write_case(data, case_name(index), image=index < 4)
    for index in range(3):
        write(predictions / f"{case_name(index)}.nii.gz", tumour(index))
    write(predictions / f"{case_name(3)}.nii.gz", tumour()[:-1])
    write(predictions / "stranger.nii.gz", tumour())
    return predictions, data


def _evaluate(folders, **options):
    predictions, data = folders
    return evaluate(predictions, data, "brats2023", **options)


def test_every_case_is_scored_or_has_a_fault(folders):
    evaluation = _evaluate(folders)
    assert [case.case for case in evaluation.scores] == [*map(case_name, range(3))]
    assert [case.mean_dice == 1 for case in evaluation.scores] == [True, False, False]
    faults = {fault.case: fault for fault in evaluation.faults}
    assert faults.keys() == {case_name(3)}
    assert "(19, 18, 16)" in faults[case_name(3)].reasons[0]
    assert [path.name for path in evaluation.unmatched] == ["stranger.nii.gz"]


def test_a_case_of_labels_alone_counts_where_all_are_alone(tmp_path):
    for index in range(2):
        write_case(tmp_path / "data", case_name(index), image=False)
    write(tmp_path / "predictions" / f"{case_name(0)}.nii.gz", tumour())
    arguments = (tmp_path / "predictions", tmp_path / "data", "brats2023")
    evaluation = evaluate(*arguments)
    assert [fault.is_missing for fault in evaluation.faults] == [True]
    evaluation = evaluate(*arguments, only_predicted=True)
    assert evaluation.faults == ()
    assert evaluation.left_out == (case_name(1),)


def test_a_data_set_brings_its_label_map_and_images(folders):
    evaluation = evaluate(folders[0], find_dataset(folders[1]))
    assert evaluation.label_map.name == "brats2023"
    assert evaluation.scores[0].image is not None


def test_several_processes_score_the_same(folders):
    expected = _evaluate(folders)
    assert _evaluate(folders, workers=2) == expected


def test_a_process_that_dies_is_a_fault_of_its_cases(folders, monkeypatch):
    monkeypatch.setattr("jaxswap.medical.scoring.evaluation.score_case", _die)
    with pytest.raises(ValueError, match=r"process that scored it died"):
        _evaluate(folders, workers=2)


def _die(pair, label_map, rules):
    os._exit(1)


def test_statistics_are_over_cases(folders):
    evaluation = _evaluate(folders)
    summaries = evaluation.summaries("whole tumour")
    assert summaries.keys() == METRICS.keys()
    dice = [case.regions["whole tumour"].dice for case in evaluation.scores]
    assert summaries["dice"].mean == pytest.approx(sum(dice) / 3)
    assert summaries["dice"].extremes == (min(dice), 1.0)
    assert summaries["hd95_mm"].extremes == (0.0, 2.0)
    means = [case.mean_dice for case in evaluation.scores]
    assert evaluation.mean_dice().mean == pytest.approx(sum(means) / 3)


def test_rules_reach_every_case(folders):
    rules = ScoringRules(2.0, LesionRules(smallest_mm3=1e6))
    evaluation = _evaluate(folders, rules=rules)
    assert evaluation.rules == rules
    for metrics in evaluation.of_region("whole tumour"):
        assert metrics.surface_dice == 1
        assert metrics.lesions.found == 0


def test_progress_is_shown_where_it_is_wanted(folders, capsys):
    file = io.StringIO()
    _evaluate(folders, console=Console(file=file, force_terminal=True))
    assert "4/4" in file.getvalue()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_nothing_to_score_is_refused_with_every_reason(tmp_path):
    for index in range(12):
        write_case(tmp_path / "data", case_name(index), image=False)
    bad = write(tmp_path / "predictions" / f"{case_name(0)}.nii.gz", tumour()[1:])
    with pytest.raises(
        ValueError, match="none of the 12 cases can be scored"
    ) as caught:
        evaluate(tmp_path / "predictions", tmp_path / "data", "brats2023")
    message = str(caught.value)
    assert str(bad) in message
    assert len(re.findall("there is no prediction", message)) == 9
    assert message.endswith("And 2 more.")
    assert "\n" not in message


def test_predictions_of_other_cases_alone_are_refused(tmp_path):
    write_case(tmp_path / "data", case_name(0), image=False)
    write(tmp_path / "predictions" / "other.nii.gz", tumour())
    arguments = (tmp_path / "predictions", tmp_path / "data", "brats2023")
    with pytest.raises(ValueError, match=r"belong to no reference: other\.nii\.gz"):
        evaluate(*arguments)
    with pytest.raises(ValueError, match="holds no prediction of any reference"):
        evaluate(*arguments, only_predicted=True)


def test_an_ill_number_of_processes_is_refused(folders):
    with pytest.raises(ValueError, match="`workers` is 0"):
        _evaluate(folders, workers=0)
