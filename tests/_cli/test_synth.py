import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxswap._cli.command import BadInputError
from jaxswap._cli.synth import add_synth
from jaxswap.medical.synthesis import synthesis


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_synth(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["synth", *map(str, words)])
    return parsed.run(parsed)


def test_two_cases_are_made_kept_and_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cases"
    words = (out, "--cases", 2, "--seed", 3, "--arm", "multifocal", "--spacing-mm", 4)
    assert run(*words, "--workers", 1) == 0
    said = capsys.readouterr()
    assert said.out == ""  # progress goes to stderr
    assert "2 cases made, 0 were there already" in said.err
    assert "not clinical evidence" in " ".join(said.err.split())
    for index in range(2):
        folder = out / f"BraTS-GLI-0000{index}-000"
        labels = nib.load(folder / f"{folder.name}-seg.nii.gz")
        assert isinstance(labels, nib.Nifti1Image)
        assert labels.shape == (48, 48, 48)
        assert labels.get_data_dtype() == np.uint8
        np.testing.assert_allclose(labels.header.get_zooms(), 4)
        for name in ("t1n", "t1c", "t2w", "t2f"):
            image = nib.load(folder / f"{folder.name}-{name}.nii.gz")
            assert isinstance(image, nib.Nifti1Image)
            assert image.get_data_dtype() == np.int16
            np.testing.assert_array_equal(image.affine, labels.affine)
            data = np.asarray(image.dataobj)
            assert 0.05 < (data > 0).mean() < 0.4
        record = json.loads((folder / f"{folder.name}.json").read_text())
        assert record["arm"] == "multifocal"
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    assert run(*words) == 0
    assert "0 cases made, 2 were there already" in capsys.readouterr().err
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cases", 0), "`cases` is 0"),
        (("--cases", 1, "--seed", -1), "`seed` is -1"),
        (("--cases", 1, "--workers", 0), "`workers` is 0"),
        (("--cases", 1, "--workers", -2), "`workers` is -2"),
        (("--cases", 1, "--shape", 64), "64x64x64 voxels of 1 mm does not hold a head"),
        (("--cases", 1, "--shape", 192, 192), "`--shape` has 2 sides"),
        (("--cases", 1, "--shape", -4), "it needs three sides"),
        (
            ("--cases", 1, "--spacing-mm", 0),
            "`--spacing-mm` is 0; it needs to be",
        ),
        (("--cases", 1, "--spacing-mm", 9), "`spacing_mm` is 9"),
        (("--cases", 1, "--satellites", 9), "`satellites` is 9"),
        (("--cases", 1, "--arm", "multifocal", "--satellites", 1), "glioma alone"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(
    tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        run(tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []


def test_missing_nilearn_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ModuleNotFoundError('pip install "jaxswap[data]"')

    monkeypatch.setattr(synthesis, "load_tissue_maps", missing)
    with pytest.raises(BadInputError, match=r"jaxswap\[data\]"):
        run(tmp_path / "out", "--cases", 1)
    assert not (tmp_path / "out").exists()


def test_shapes_are_made_of_the_spacing_one_side_or_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    monkeypatch.setattr(
        "jaxswap.medical.synthesis.synthesis.prepare_synthesis",
        lambda wanted: shapes.append(wanted.recipe.shape) or [],
    )
    monkeypatch.setattr(
        "jaxswap.medical.synthesis.synthesis.run_synthesis", lambda wanted: ()
    )
    for words in (
        ("--spacing-mm", 2),
        ("--size-mm", 2, "--shape", 112),
        ("--spacing-mm", 0.5, "--shape", 339, 411, 339),
    ):
        assert run(tmp_path, "--cases", 1, *words) == 0
    assert shapes == [(96, 96, 96), (112, 112, 112), (339, 411, 339)]
