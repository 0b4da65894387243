"""The command `jaxswap check`: exit codes, tables and JSON."""

import argparse
import csv
import io
import json

import pytest
import tiny_datasets as tiny

from jaxswap._cli.check import add_check
from jaxswap._cli.command import BadInputError


def _run(*words):
    parser = argparse.ArgumentParser()
    add_check(parser.add_subparsers())
    parsed = parser.parse_args(["check", *map(str, words)])
    return parsed.run(parsed)


def test_a_clean_data_set_is_summed_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    tiny.brats(tmp_path, ["BraTS2021_00000", "BraTS2021_00001"])
    assert _run(tmp_path) == 0
    out = capsys.readouterr().out
    for words in (
        "2, 2 of them with labels",
        "t1n, t1c, t2w, t2f",
        "12x14x10 (2)",
        "brats2021",
        "9x11x7",
        "16x16x16",
        "enhancing tumour",
        "No faults.",
    ):
        assert words in out


def test_progress_goes_to_stderr_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    tiny.brats(tmp_path, ["BraTS2021_00000"])
    assert _run(tmp_path, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["cases"] == 1
    assert "reading cases" in err


def test_faults_are_listed_and_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    folder = tiny.brats_case(tmp_path, "BraTS2021_00000")
    (folder / "BraTS2021_00000_t2.nii.gz").unlink()
    tiny.brats_case(tmp_path, "BraTS2021_00001")
    tiny.write(folder / "BraTS2021_00000_seg.nii.gz", tiny.tumour() * 0)
    assert _run(tmp_path) == 1
    out = capsys.readouterr().out
    assert "BraTS2021_00000/BraTS2021_00000_t2.nii.gz" in out
    assert "1 error in 1 case, 1 warning." in out
    assert out.index("missing modality") < out.index("empty labels")


def test_warnings_alone_are_no_failure(tmp_path, capsys):
    folder = tiny.brats_case(tmp_path, "BraTS2021_00000")
    tiny.write(folder / "BraTS2021_00000_seg.nii.gz", tiny.tumour() * 0)
    assert _run(tmp_path) == 0
    assert "0 errors in 0 cases, 1 warning." in capsys.readouterr().out


@pytest.fixture
def many_faults(tmp_path):
    """Two cases whose labels lie on background, and 25 without a file."""
    folder = tmp_path / "a folder with a rather long name - of a study"
    tests = [f"missing-{n:02d}-with-quite-a-long-file-name.nii.gz" for n in range(25)]
    for name, count in (("few", 1), ("most", 9), ("some", 4)):
        labels = tiny.tumour()
        labels[0, 0, :count] = 1
        tiny.write(folder / f"{name}.nii.gz", tiny.head())
        tiny.write(folder / f"{name}-labels.nii.gz", labels)
    cases = ("few", "most", "some")
    listed = [{"image": f"{n}.nii.gz", "label": f"{n}-labels.nii.gz"} for n in cases]
    content = {"labels": {"a": 1, "b": 2, "c": 4}, "training": listed, "test": tests}
    return tiny.write_json(folder / "list.json", content)


def test_of_each_kind_of_fault_the_worst_is_shown(many_faults, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert _run(many_faults) == 1
    out = capsys.readouterr().out
    assert "error: missing modality, 25 times in 25 cases; for example:" in out
    assert "labels on background, 3 times in 3 cases; the worst:" in out
    lines = out.splitlines()
    assert "  most-labels.nii.gz" in lines  # Whole, on a line of its own.
    assert "  missing-00-with-quite-a-long-file-name.nii.gz" in lines
    assert str(many_faults) in lines  # Longer than the line is wide.
    assert "few-labels.nii.gz" not in out
    assert "--all, --csv and --json list each" in out
    assert _run(many_faults, "--all") == 1
    out = capsys.readouterr().out
    assert all(f"  missing-{n:02d}-" in out for n in range(25))
    places = [out.index(f"{name}-labels") for name in ("most", "some", "few")]
    assert places == sorted(places)


def test_each_fault_is_a_row_or_an_object_for_programs(many_faults, capsys):
    assert _run(many_faults, "--csv") == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 28
    assert rows[25]["file"] == "most-labels.nii.gz"
    assert (rows[0]["severity"], rows[-1]["severity"]) == ("error", "warning")
    assert _run(many_faults, "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 28


def test_json_holds_everything(tmp_path, capsys):
    tiny.brats(tmp_path, ["BraTS-PED-00002-000"], tiny.NEW, (4, 2, 1))
    assert _run(tmp_path, "--json", "--edition", "brats2024-ped") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == "brats2024-ped"
    assert found["faults"] == []
    assert found["suggested_shape"] == [16, 16, 16]
    assert set(found["regions"]) == {"whole tumour", "tumour core", "enhancing tumour"}


def test_names_in_brackets_are_no_markup(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    content = {"labels": {"[bold]": 1}, "test": ["[red]a.nii"]}
    assert _run(tiny.write_json(tmp_path / "list.json", content)) == 1
    assert "[red]a.nii" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no data set is here"),
        (["--layout", "bids"], "`layout` is 'bids'; choose one of"),
        (["--edition", "2021"], "`edition` is '2021'; choose one of"),
    ],
)
def test_bad_input_is_refused(tmp_path, words, message):
    with pytest.raises(BadInputError, match=message):
        _run(tmp_path, *words)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="gone: no such file or folder"):
        _run(tmp_path / "gone")


def test_an_ambiguous_edition_is_refused(tmp_path):
    tiny.brats(tmp_path, ["BraTS-PED-00002-000"], tiny.NEW, (4, 2, 1))
    with pytest.raises(BadInputError, match="brats2023 or brats2024-ped"):
        _run(tmp_path)


def test_labels_above_a_byte_are_named_on_the_command_line(tmp_path, capsys):
    tiny.write(tmp_path / "a.nii", tiny.head())
    labels = tiny.tumour().astype("int16") * 500
    tiny.write(tmp_path / "l.nii", labels)
    content = {"training": [{"image": "a.nii", "label": "l.nii"}]}
    listed = tiny.write_json(tmp_path / "list.json", content)
    names = "{rim: 1000, core: [500, 2000]}"
    assert _run(listed, "--labels", names, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    count = {k: int((labels == k).sum()) for k in (0, 500, 1000, 2000)}
    assert found["voxels_by_label"] == {
        "0 background": count[0],
        "1 rim": count[1000],
        "2 core": count[500] + count[2000],
    }
    assert _run(listed, "--labels", "{rim: 1000}", "--json") == 1
    assert "holds 500, 2000, but labels" in capsys.readouterr().out
    with pytest.raises(BadInputError, match="say the same thing"):
        _run(listed, "--labels", names, "--edition", "brats2021")


def test_voxels_of_an_impossible_size_are_a_warning(tmp_path, capsys):
    tiny.write(tmp_path / "a.nii", tiny.head(), tiny.AFFINE * 0.01)
    content = {"test": ["a.nii"]}
    assert _run(tiny.write_json(tmp_path / "list.json", content), "--json") == 0
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert fault["kind"] == "voxel size"
    assert "0.01 x 0.01 x 0.01 mm, not in 0.1..20 mm" in fault["message"]
