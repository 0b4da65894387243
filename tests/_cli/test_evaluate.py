"""`jaxswap evaluate`: what it writes, its exit codes, and what it refuses."""

import argparse
import json

import pytest
from evaluation_folders import case_name, tumour, write, write_case

from jaxswap._cli.command import BadInputError
from jaxswap._cli.evaluate import add_evaluate


def _run(*words):
    parser = argparse.ArgumentParser()
    add_evaluate(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["evaluate", *map(str, words)])
    return parsed.run(parsed)


@pytest.fixture
def folders(tmp_path):
    for index in range(2):
        write_case(tmp_path / "data", case_name(index))
        write(tmp_path / "predictions" / f"{case_name(index)}.nii.gz", tumour(index))
    return tmp_path / "predictions", tmp_path / "data"


def _left(folder):
    return sorted(path.name for path in folder.iterdir())


_FILES = ["metrics.csv", "report.html", "summary.json"]


def test_a_table_is_shown_and_three_files_are_written(folders, capsys):
    assert _run(*folders, "--workers", 1) == 0
    out = folders[0] / "evaluation"
    assert _left(out) == _FILES
    shown = capsys.readouterr().out
    assert "Mean over 2 cases, 0 not scored" in shown
    assert "enhancing tumour" in shown
    written = f"Written to {out}: metrics.csv, summary.json, report.html."
    assert written in shown.splitlines()  # Whole, however long.
    assert _run(*folders, "--workers", 1) == 0  # its own results are no predictions


def test_json_is_all_there_is_on_stdout(folders, tmp_path, capsys):
    words = ("--json", "--workers", 1, "--out", tmp_path / "out", "--tolerance", 2)
    assert _run(*folders, *words, "--lesion-dilation", 1, "--smallest-lesion", 9) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    lesions = {"dilation_voxels": 1, "smallest_mm3": 9, "penalty_mm": None}
    assert summary["rules"] == {"tolerance_mm": 2, "lesions": lesions}


def test_the_rules_of_a_challenge_can_be_asked_for_and_changed(folders, capsys):
    words = ("--json", "--workers", 1, "--challenge", "brats2023-men")
    assert _run(*folders, *words, "--smallest-lesion", 9) == 0
    lesions = json.loads(capsys.readouterr().out)["rules"]["lesions"]
    expected = {"dilation_voxels": 1, "smallest_mm3": 9, "penalty_mm": 374}
    assert lesions == expected


def test_two_models_are_compared_case_by_case(folders, tmp_path, capsys):
    other = tmp_path / "other"
    for index in range(2):
        write(other / f"{case_name(index)}.nii.gz", tumour(2 * index + 1))
    words = ("--workers", 1, "--against", other)
    assert _run(*folders, *words) == 0
    shown = capsys.readouterr().out
    assert "Minus --against, mean over 2 cases" in shown
    out = folders[0] / "evaluation"
    assert _left(out) == sorted([*_FILES, "comparison.csv"])
    assert "Compared with other predictions" in (out / "report.html").read_text()
    comparison = json.loads((out / "summary.json").read_text())["comparison"]
    assert comparison["differences"][0]["better"] == 2
    (other / f"{case_name(1)}.nii.gz").unlink()
    assert _run(*folders, *words) == 0
    assert f"only one model has a score: {case_name(1)}." in capsys.readouterr().err


def test_cases_that_cannot_be_scored_are_named_and_change_the_exit_code(
    folders, capsys
):
    write_case(folders[1], case_name(2))
    write(folders[0] / "stranger.nii", tumour())
    assert _run(*folders, "--workers", 1) == 1
    errors = capsys.readouterr().err
    assert f"jaxswap: {case_name(2)}: there is no prediction" in errors
    assert "stranger.nii: belongs to no reference" in errors
    assert _run(*folders, "--workers", 1, "--only-predicted") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "gone"], "`--against` is gone: no such folder."),
        (["--workers", "0"], "`workers` is 0"),
        (["--edition", "brats1999"], "`edition` is 'brats1999'; choose one of"),
        (["--labels", "gone.json"], "gone.json: no such file"),
        (["--labels", "x", "--edition", "brats2023"], "say the same thing; give one"),
        (["--tolerance", "-1"], r"`tolerance_mm` is -1\.0"),
        (["--tolerance", "nan"], "`tolerance_mm` is nan"),
        (["--challenge", "isles"], "`--challenge` is 'isles'; choose one of brats2023"),
        (["--penalty", "-1"], r"`penalty_mm` is -1\.0"),
        (["--lesion-dilation", "-1"], "`dilation_voxels` is -1"),
        (["--smallest-lesion", "-1"], r"`smallest_mm3` is -1\.0"),
        (["--images", "gone"], "`images`: gone: no such folder"),
        (["--edition", "brats2024-ped"], "none of the 2 cases"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(folders, words, message):
    if "none of" in message:
        for index in range(2):
            write(folders[0] / f"{case_name(index)}.nii.gz", tumour() * 3)
    before = _left(folders[0])
    with pytest.raises(BadInputError, match=message):
        _run(*folders, "--workers", 1, *words)
    assert _left(folders[0]) == before


def test_a_file_in_the_place_of_a_folder_is_refused(folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="is a file; a folder is needed"):
        _run(*folders, "--out", tmp_path / "file")
    with pytest.raises(BadInputError, match="is a file; a folder is needed"):
        _run(tmp_path / "file", folders[1])
    with pytest.raises(BadInputError, match=r"`references`: .*gone"):
        _run(folders[0], tmp_path / "gone")
