"""Table, summary and page: what they hold, and that nothing is half written."""

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_folders import SHAPE, case_name, tumour, write, write_case

from jaxswap.medical.scoring import evaluation_files
from jaxswap.medical.scoring.evaluation import METRICS, evaluate
from jaxswap.medical.scoring.evaluation_files import (
    to_csv,
    to_summary,
    write_evaluation,
)


@pytest.fixture
def evaluation(tmp_path):
    data, predictions = tmp_path / "data", tmp_path / "predictions"
    for index in range(6):
        write_case(data, case_name(index))
    for index in range(4):
        write(predictions / f"{case_name(index)}.nii.gz", tumour(index))
    write(predictions / f"{case_name(4)}.nii.gz", np.full(SHAPE, 9, np.uint8))
    return evaluate(predictions, data)


def test_the_table_has_a_row_for_each_region_and_fault(evaluation):
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    assert len(rows) == 4 * 3 + 2
    first, last = rows[0], rows[-1]
    metrics = evaluation.scores[0].regions["whole tumour"]
    assert (first["case"], first["region"]) == (case_name(0), "whole tumour")
    for column in ("dice", "hd95_mm", "surface_dice", "reference_ml", "difference_ml"):
        assert float(first[column]) == getattr(metrics, column)
    assert int(first["lesions_found"]) == metrics.lesions.found == 1
    assert float(first["lesion_dice"]) == metrics.lesions.dice
    assert first["fault"] == ""
    assert (last["case"], last["dice"]) == (case_name(5), "")
    assert "there is no prediction" in last["fault"]
    assert "holds 9" in rows[-2]["fault"]


def test_the_summary_is_plain_json(evaluation):
    summary = json.loads(json.dumps(to_summary(evaluation), allow_nan=False))
    assert summary["label_map"] == "brats2023"
    assert summary["cases"] == {"scored": 4, "missing": 1, "failed": 1, "left_out": 0}
    assert summary["faults"].keys() == {case_name(4), case_name(5)}
    assert summary["rules"]["lesions"]["smallest_mm3"] == 50
    region = summary["regions"]["tumour core"]
    low, high = region["dice"]["confidence_95"]
    assert low < region["dice"]["mean"] < high
    assert region["lesions_found"] + region["lesions_missed"] == 4
    assert region["empty_references"] == 0


class _Page(HTMLParser):
    """What a page loads, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_shows_everything_and_loads_nothing(evaluation, tmp_path):
    table, summary, page = write_evaluation(evaluation, tmp_path / "new" / "out")
    assert table.read_text() == to_csv(evaluation)
    assert json.loads(summary.read_text())["cases"]["scored"] == 4
    assert sorted(page.parent.iterdir()) == sorted([table, summary, page])
    text = page.read_text()
    parsed = _Page(text)
    assert len(parsed.loaded) == parsed.tags.count("img") == 3
    assert all(link.startswith("data:image/png;base64,") for link in parsed.loaded)
    assert "url(" not in text
    assert parsed.tags.count("circle") == len(METRICS) * 3 * 4
    for index in range(6):
        assert case_name(index) in text
    assert "holds 9, but labels of brats2023 are" in text
    for title, index in (("worst", 3), ("median", 2), ("best", 0)):
        assert f"{title} case: {case_name(index)} (Dice: whole tumour" in text


def test_names_cannot_break_the_page(tmp_path):
    case = "<b onclick=x>&"
    for folder in ("references", "predictions"):
        write(tmp_path / folder / f"{case}.nii", tumour())
    write(tmp_path / "references" / "<i>.nii", tumour())
    evaluation = evaluate(
        tmp_path / "predictions", tmp_path / "references", "brats2023"
    )
    text = write_evaluation(evaluation, tmp_path / "out")[2].read_text()
    tags = _Page(text).tags
    assert "b" not in tags
    assert "i" not in tags
    assert "&lt;b onclick=x&gt;&amp;" in text


def test_a_single_case_has_no_interval_and_one_picture(tmp_path):
    for folder in ("references", "predictions"):
        write(tmp_path / folder / "a.nii", tumour())
    evaluation = evaluate(
        tmp_path / "predictions", tmp_path / "references", "brats2023"
    )
    page = write_evaluation(evaluation, tmp_path / "out")[2].read_text()
    assert _Page(page).tags.count("img") == 1
    assert "nan" not in page
    assert "None" not in page


def test_an_image_that_cannot_be_used_is_left_out_of_the_picture(tmp_path):
    data = tmp_path / "data"
    write_case(data, case_name(0))
    write(data / case_name(0) / f"{case_name(0)}-t2f.nii.gz", tumour()[1:])
    write(tmp_path / "predictions" / f"{case_name(0)}.nii", tumour())
    page = write_evaluation(evaluate(tmp_path / "predictions", data), tmp_path / "out")[
        2
    ]
    assert _Page(page.read_text()).tags.count("img") == 1


def test_nothing_is_written_unless_all_can_be(evaluation, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no page")

    monkeypatch.setattr(evaluation_files, "evaluation_page", fail)
    with pytest.raises(RuntimeError, match="no page"):
        write_evaluation(evaluation, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; a folder is needed"):
        write_evaluation(evaluation, tmp_path / "file")
