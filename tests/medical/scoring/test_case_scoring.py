"""Scoring one case: geometry, and every fault by name, all at once."""

import re
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from evaluation_folders import SHAPE, tumour, write

from jaxswap.medical.data.label_maps import LABEL_MAPS
from jaxswap.medical.scoring.case_scoring import (
    CaseFault,
    CaseScores,
    ScoringRules,
    score_case,
)
from jaxswap.medical.scoring.lesion_scores import LesionRules
from jaxswap.medical.scoring.metrics import region_metrics
from jaxswap.medical.scoring.prediction_pairs import Pair

_MAP = LABEL_MAPS["brats2023"]


def _score(reference, *predictions, rules=None) -> Any:
    pair = Pair("case", reference, predictions)
    return score_case(pair, _MAP, rules or ScoringRules())


def test_regions_are_scored_by_their_labels(tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    reference = write(tmp_path / "reference.nii.gz", tumour(), affine)
    prediction = write(tmp_path / "prediction.nii.gz", tumour(1), affine)
    rules = ScoringRules(0.5, LesionRules(1, 10.0))
    scores = _score(reference, prediction, rules=rules)
    assert isinstance(scores, CaseScores)
    assert list(scores.regions) == ["whole tumour", "tumour core", "enhancing tumour"]
    for region, values in _MAP.regions.items():
        expected = region_metrics(
            np.isin(tumour(), values),
            np.isin(tumour(1), values),
            (1.0, 1.0, 2.0),
            0.5,
            rules.lesions,
        )
        assert scores.regions[region] == expected
    dice = [metrics.dice for metrics in scores.regions.values()]
    assert scores.mean_dice == pytest.approx(np.mean(dice))


def test_orientation_does_not_matter(tmp_path):
    reference = write(tmp_path / "reference.nii.gz", tumour(2))
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirrored[0, 3] = SHAPE[0] - 1
    prediction = write(tmp_path / "prediction.nii.gz", tumour(2)[::-1], mirrored)
    assert _score(reference, prediction).mean_dice == 1


def test_labels_in_floating_point_files_are_labels(tmp_path):
    reference = write(tmp_path / "reference.nii", tumour())
    prediction = write(tmp_path / "prediction.nii", tumour().astype(np.float32))
    assert _score(reference, prediction).mean_dice == 1


def _with(value, dtype: Any = np.float32):
    labels = tumour().astype(dtype)
    labels[0, 0, :2] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (_with(4), None, "holds 4, but labels of brats2023 are 0, 1, 2, 3"),
        (_with(0.5), None, "integers, but it holds 0.5"),
        (_with(-1), None, "holds -1, but"),
        (_with(1000), None, "holds 1000, but"),
        (_with([4, 300]), None, "holds 4, 300, but"),
        (_with(np.nan), None, "2 of 5760 voxels are NaN"),
        (np.arange(5760).reshape(SHAPE).astype(np.float32), None, "4, 5, .* and more"),
        (tumour()[:-1], None, r"has shape \(19, 18, 16\), but .*reference.nii"),
        (tumour()[..., None].repeat(2, -1), None, r"found shape \(20, 18, 16, 2\)"),
        (tumour(), np.diag([1.0, 1.0, 1.1, 1.0]), "up to 1.5 mm apart"),
    ],
)
def test_what_does_not_fit_is_a_fault_that_names_the_file(
    tmp_path, labels, affine, message
):
    reference = write(tmp_path / "reference.nii", tumour())
    prediction = write(tmp_path / "prediction.nii", labels, affine)
    fault = _score(reference, prediction)
    assert isinstance(fault, CaseFault)
    assert not fault.is_missing
    (reason,) = fault.reasons
    assert str(prediction) in reason
    assert re.search(message, reason), reason


def test_all_faults_of_a_case_are_reported_together(tmp_path):
    reference = write(tmp_path / "reference.nii", _with(7))
    prediction = write(tmp_path / "prediction.nii", _with(9)[:-1])
    reasons = _score(reference, prediction).reasons
    assert len(reasons) == 3
    assert "has shape" in reasons[0]
    assert "reference.nii: holds 7" in reasons[1]
    assert "prediction.nii: holds 9" in reasons[2]
    (tmp_path / "prediction.nii").write_text("nothing")
    reasons = _score(reference, prediction).reasons
    assert ["cannot be read" in reason for reason in reasons] == [True, False]


def test_files_of_an_unknown_type_of_number_are_a_fault(tmp_path):
    reference = write(tmp_path / "reference.nii", tumour())
    prediction = write(tmp_path / "prediction.nii", tumour())
    content = bytearray(prediction.read_bytes())
    content[70:72] = np.int16(1234).tobytes()
    prediction.write_bytes(content)
    (reason,) = _score(reference, prediction).reasons
    assert str(prediction) in reason
    assert "cannot be read" in reason


def test_a_missing_reference_prediction_or_choice_is_a_fault(tmp_path):
    reference = write(tmp_path / "reference.nii", tumour())
    fault = _score(reference)
    assert fault.is_missing
    assert fault.reasons == (f"there is no prediction for {reference}.",)
    fault = _score(reference, reference, tmp_path / "b.nii")
    assert not fault.is_missing
    assert "has several predictions" in fault.reasons[0]
    fault = _score(tmp_path / "gone.nii", reference)
    assert "gone.nii: no such file" in fault.reasons[0]


def test_too_little_memory_is_a_fault(tmp_path, monkeypatch):
    reference = write(tmp_path / "reference.nii", tumour())

    def fail(*arguments):
        raise MemoryError("640 GiB")

    monkeypatch.setattr("jaxswap.medical.scoring.case_scoring.region_metrics", fail)
    fault = _score(reference, reference)
    assert fault.reasons == ("not enough memory (640 GiB).",)


def test_an_ill_tolerance_is_refused():
    with pytest.raises(ValueError, match=r"`tolerance_mm` is -1\.0"):
        ScoringRules(-1.0)


def test_scaled_labels_are_read_as_the_header_says(tmp_path):
    reference = write(tmp_path / "reference.nii", tumour())
    image = nib.Nifti1Image(tumour(), np.eye(4))
    nib.save(image, tmp_path / "prediction.nii")
    content = bytearray((tmp_path / "prediction.nii").read_bytes())
    content[112:120] = np.array([2.0, 0.0], "<f4").tobytes()
    (tmp_path / "prediction.nii").write_bytes(content)
    fault = _score(reference, tmp_path / "prediction.nii")
    assert "holds 4, 6, but" in fault.reasons[0]
