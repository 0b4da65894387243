"""The command: what it prints, its exit codes, and what it leaves behind."""

import subprocess
import sys
from typing import Any

import jax
import nibabel as nib
import numpy as np
import pytest

from jaxswap._cli import main as cli
from jaxswap.medical.experiment import demo


@pytest.fixture(autouse=True)
def _standard_promotion():
    """Optax's Adam raises a float to the power of an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def _load(path) -> Any:
    return nib.load(path)


def _head(folder, labels=None, data=None):
    """Writes a small head of three shells and its labels; returns arguments."""
    grid = np.indices((20, 24, 22)) - np.array([9.5, 11.5, 10.5]).reshape(3, 1, 1, 1)
    radius = np.sqrt(np.square(grid).sum(0))
    limits = np.array([9, 7, 4]).reshape(3, 1, 1, 1)
    shells = (radius < limits).sum(0).astype(np.int16)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    data = (shells * 50).astype(np.int16) if data is None else data
    labels = shells if labels is None else labels
    nib.save(nib.Nifti1Image(data, affine), folder / "t1.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), folder / "labels.nii.gz")
    return [
        "--image",
        str(folder / "t1.nii.gz"),
        "--labels",
        str(folder / "labels.nii.gz"),
    ]


def test_version_names_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("jaxswap ")


def test_without_a_command_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert "usage: jaxswap" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "train a steps=3 fold=1",
            "Write --set steps=3 --set fold=1. See jaxswap train",
        ),
        ("calibrate b=3", "calibrate does not know b=3. See jaxswap calibrate -h."),
        ("targets --fast", "targets does not know --fast. See jaxswap targets -h."),
    ],
)
def test_words_that_a_command_does_not_know_are_named(capsys, words, told):
    assert cli.main(words.split()) == 2
    assert told in capsys.readouterr().err


def test_importing_the_command_imports_nothing_heavy():
    code = (
        "import sys, jaxswap._cli.main; "
        "print([n for n in ('flax', 'optax', 'nibabel') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_tiny_demo_writes_labels_in_the_geometry_of_the_input(tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    words = ["demo", "--size", "16", "--steps", "3", "--skip-table", "--out", str(out)]
    assert cli.main(words + _head(tmp_path)) == 0
    written = _load(out / "head-labels.nii.gz")
    source = _load(tmp_path / "t1.nii.gz")
    assert written.shape == source.shape
    assert nib.aff2axcodes(written.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(written.affine, source.affine)
    assert set(np.unique(written.get_fdata())) <= {0, 1, 2, 3}
    names = {path.name for path in out.iterdir()}
    assert names == {"head-labels.nii.gz", "overlay.png", "progress.png"}
    assert "Dice on held-out deformations" in capsys.readouterr().out


def _with_nan(folder):
    return _head(folder, data=np.full((20, 24, 22), np.nan, np.float32))


def _with_four_labels(folder):
    return _head(folder, labels=np.full((20, 24, 22), 4, np.int16))


def _with_other_shape(folder):
    return _head(folder, labels=np.ones((20, 24, 21), np.int16))


def _truncated(folder):
    words = _head(folder)
    path = folder / "t1.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    return words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_with_nan, "are NaN or infinite"),
        (_with_four_labels, "labels need to be 0..3, but it also holds 4"),
        (_with_other_shape, "the labels have shape"),
        (_truncated, "t1.nii.gz: cannot be read"),
        (lambda folder: _head(folder)[:2], "must be given together"),
        (lambda folder: [*_head(folder)[:3], "gone.nii"], "gone.nii: no such file"),
        (lambda folder: [*_head(folder), "--size", "20"], "a multiple of 8"),
        (lambda folder: [*_head(folder), "--steps", "0"], "`steps` is 0"),
        (lambda folder: [*_head(folder), "--target", "abacus"], "abacus"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, make, message):
    out = tmp_path / "out"
    words = ["demo", "--size", "16", "--steps", "1", "--out", str(out), *make(tmp_path)]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxswap: ")
    assert message in line
    assert not out.exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("mine")
    assert cli.main(["demo", "--skip-table", "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"jaxswap: {out} is a file; a folder is needed.\n"
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted."),
        (OSError("disk full"), 1, "disk full"),
        (MemoryError(), 1, "there is too little memory (see `ulimit -v`)."),
        (
            ImportError("x.so: failed to map segment from shared object"),
            1,
            "x.so: failed to map segment from shared object: there is too little "
            "memory (see `ulimit -v`).",
        ),
    ],
)
def test_a_run_that_stops_has_its_own_code(
    tmp_path, capsys, monkeypatch, raised, code, message
):
    def stop(demo, console):
        raise raised

    monkeypatch.setattr(demo, "run_demo", stop)
    out = tmp_path / "out"
    words = ["demo", "--size", "16", "--skip-table", "--out", str(out)]
    assert cli.main(words + _head(tmp_path)) == code
    assert capsys.readouterr().err == f"jaxswap: {message}\n"
    assert not out.exists()


def test_a_defect_is_not_reported_as_bad_input(tmp_path, monkeypatch):
    def fail(demo, console):
        raise ValueError("a defect")

    monkeypatch.setattr(demo, "run_demo", fail)
    words = ["demo", "--size", "16", "--skip-table", "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="a defect"):
        cli.main(words + _head(tmp_path))
