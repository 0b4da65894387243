"""`jaxswap predict`: labels for images, whatever else is there or not."""

import pathlib
import shutil
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tiny_datasets
from training_command import NAMES, trained_in

from jaxswap._cli.main import main
from jaxswap.medical.prediction.postprocessing import (
    Postprocessing,
    RegionRule,
    load_postprocessing,
)
from jaxswap.medical.runs.run_folder import RunFolder

SETTINGS = {
    "folds": 2,
    "network": "tiny_networks:OneConvolution",
    "precision": "float32",
    "steps": 1,
    "offload": False,
    "final_validation": False,
    "augment": {"mirror_axes": [0]},
}

pytestmark = pytest.mark.usefixtures("own_folders", "lenient_promotion")


@pytest.fixture(scope="module")
def trained(data: pathlib.Path, tmp_path_factory: Any) -> pathlib.Path:
    return trained_in(tmp_path_factory.mktemp("trained"), data, SETTINGS)


def _predict(*words: Any) -> int:
    return main(["predict", *map(str, words)])


def _images(folder: pathlib.Path, name: str, affine: Any = None) -> None:
    for index in range(4):
        image = tiny_datasets.head(index)
        affine = tiny_datasets.AFFINE if affine is None else affine
        tiny_datasets.write(folder / f"{name}_{index:04d}.nii.gz", image, affine)


def _read(path: pathlib.Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)


def test_labels_lie_on_the_grid_of_the_input(
    trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    other = tmp_path / "other"
    for index, suffix in enumerate(tiny_datasets.OLD):
        name = f"{NAMES[0]}{suffix}.nii.gz"
        image = tiny_datasets.head(index)[::-1]
        tiny_datasets.write(other / NAMES[0] / name, image, flipped)
    out = tmp_path / "labels"
    words = ["predict", str(trained), str(other), "--out", str(out), "--probabilities"]
    assert main(words) == 0
    labels: Any = nib.load(out / f"{NAMES[0]}.nii.gz")
    np.testing.assert_array_equal(labels.affine, flipped)
    assert labels.shape == tiny_datasets.SHAPE
    assert set(np.unique(labels.get_fdata())) <= {0, 1, 2, 4}
    probabilities: Any = nib.load(out / f"{NAMES[0]}_probabilities.nii.gz")
    assert probabilities.shape == (*tiny_datasets.SHAPE, 3)


def test_labels_that_are_there_are_kept(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["predict", str(trained), str(data), "--out", str(tmp_path / "labels")]
    assert main(words) == 0
    assert "4 cases labeled" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 cases labeled" in capsys.readouterr().out
    assert main([*words, "--overwrite", "--window", "8", "--no-mirror"]) == 0
    assert "4 cases labeled" in capsys.readouterr().out


def test_bad_prediction_input_is_named_and_nothing_written(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "labels"
    lacking = tmp_path / "lacking"
    tiny_datasets.decathlon(lacking, modality=("FLAIR", "T1w"))
    copies = tiny_datasets.brats(tmp_path / "copies", NAMES[:1])
    tiny_datasets.brats_case(copies / "copy", NAMES[0])
    taken = tiny_datasets.brats(tmp_path / "taken", ["a", "a_probabilities"])
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_text("data: d\n")
    cases = [
        ([str(tmp_path / "no"), str(data)], "holds no training run"),
        ([str(broken), str(data)], "data.json: no such file"),
        ([str(trained), str(tmp_path / "no")], "no such file or folder"),
        ([str(trained), str(lacking)], "has no channel t1c, t2w"),
        ([str(trained), str(copies)], f"2 cases have the name {NAMES[0]}"),
        ([str(trained), str(taken)], "labels of a_probabilities would have"),
        ([str(trained), str(data), "--window", "-1"], "multiple of 1"),
    ]
    for words, message in cases:
        assert main(["predict", *words, "--out", str(out)]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in error
        assert not out.exists()


def test_images_alone_are_labeled_as_in_a_data_set(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _images(tmp_path / "images", "A")
    assert _predict(trained, tmp_path / "images", "--out", tmp_path / "folder") == 0
    assert "0000 is t1n, 0001 is t1c" in capsys.readouterr().err
    one = tmp_path / "images" / "A_0000.nii.gz"
    assert _predict(trained, one, "--out", tmp_path / "file") == 0
    assert _predict(trained, data, "--out", tmp_path / "data") == 0
    expected = _read(tmp_path / "data" / f"{NAMES[0]}.nii.gz")
    assert expected.any()
    for kind in ("folder", "file"):
        np.testing.assert_array_equal(_read(tmp_path / kind / "A.nii.gz"), expected)


def test_labels_are_never_read(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = tiny_datasets.brats(tmp_path / "other", ["BraTS-PED-00002-000"] * 1)
    broken = tiny_datasets.brats(tmp_path / "broken", NAMES[:1], values=(7, 9, 99))
    (broken / NAMES[0] / f"{NAMES[0]}_seg.nii.gz").write_bytes(b"no volume")
    for folder in (other, broken):
        assert _predict(trained, folder, "--out", tmp_path / folder.name / "out") == 0


def test_one_bad_case_does_not_end_the_others(
    trained: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_datasets.brats(tmp_path / "data", NAMES[:3])
    (folder / NAMES[0] / f"{NAMES[0]}_t1.nii.gz").write_bytes(b"no volume")
    (folder / NAMES[1] / f"{NAMES[1]}_t2.nii.gz").unlink()
    assert _predict(trained, folder, "--out", tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == [f"{NAMES[2]}.nii.gz"]
    out, err = capsys.readouterr()
    assert "1 case labeled" in out
    assert "2 of 3 cases are not labeled:" in err
    assert f"  {NAMES[0]}: " in err
    assert f"{NAMES[1]}_t2.nii.gz: no such file" in err


def test_the_edition_says_which_numbers_are_written(
    data: pathlib.Path, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert _predict(trained, data, "--out", tmp_path / "old") == 0
    words = ["--edition", "brats2023"]
    assert _predict(trained, data, "--out", tmp_path / "new", *words) == 0
    for name in NAMES:
        old, new = (_read(tmp_path / k / f"{name}.nii.gz") for k in ("old", "new"))
        np.testing.assert_array_equal(new, np.where(old == 4, 3, old))


def test_voxels_of_another_size_than_in_training_are_told(
    trained: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spacings = RunFolder(trained).read().spacings_mm
    assert spacings == ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    _images(tmp_path / "images", "A", np.diag([2.0, 1.0, 1.0, 1.0]))
    assert _predict(trained, tmp_path / "images", "--out", tmp_path / "out") == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "A: voxels are 2 x 1 x 1 mm, but the network was trained on 1 x 1 x 1" in err


def test_several_runs_are_averaged(
    data: pathlib.Path, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    second = trained_in(
        tmp_path, data, SETTINGS, seed=1, spacing_mm=[2, 1, 1], augment=False
    )
    means = []
    for runs in ([trained], [second], [trained, second]):
        out = tmp_path / "-".join(run.parent.name for run in runs)
        assert _predict(*runs, data, "--out", out, "--probabilities") == 0
        means.append(_read(out / f"{NAMES[0]}_probabilities.nii.gz"))
    first, other, both = means
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_allclose(both, (first + other) / 2, atol=1e-6)


def test_runs_of_other_labels_are_not_averaged(
    trained: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.yaml", "data.json"):
        text = (trained / name).read_text().replace("tumour core", "tumour heart")
        (other / name).write_text(text)
    (other / "checkpoints").symlink_to(trained / "checkpoints")
    assert _predict(trained, other, tmp_path, "--out", tmp_path / "out") == 2
    assert "they have no mean" in capsys.readouterr().err


def test_only_the_cases_of_the_validation_are_labeled(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    split = RunFolder(trained).read_split()
    assert split is not None
    out = tmp_path / "out"
    assert _predict(trained, data, "--out", out, "--only-validation") == 0
    names = {path.name.removesuffix(".nii.gz") for path in out.iterdir()}
    assert names == set(split.validation)
    assert len(names) == 2
    capsys.readouterr()
    other = tiny_datasets.brats(tmp_path / "other", ["BraTS2021_00077"])
    assert _predict(trained, other, "--out", out, "--only-validation") == 2
    assert "lacks cases that the run validated: " in capsys.readouterr().err


def test_postprocessing_is_chosen_on_the_validation_and_used_later(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    plain = ["--out", tmp_path / "plain"]
    assert _predict(run, data, *plain, "--choose-postprocessing") == 0
    assert "Later predictions of the run use it." in capsys.readouterr().out
    chosen = load_postprocessing(run / "postprocessing.json")
    split = RunFolder(run).read_split()
    assert chosen is not None
    assert split is not None
    assert set(chosen.cases) == set(split.validation)
    rule = {"whole tumour": RegionRule(smallest_ml=5.0)}
    dice = {"whole tumour": (0.5, 0.75)}
    Postprocessing(rule, dice, chosen.cases).save(run / "postprocessing.json")
    assert _predict(run, data, "--out", tmp_path / "used") == 0
    told = capsys.readouterr().err
    assert "whole tumour: removed if it has less than 5 mL; Dice 0.500" in told
    words = ["--out", tmp_path / "unused", "--no-postprocessing"]
    assert _predict(run, data, *words) == 0
    for name in split.validation:
        before, after, without = (
            _read(tmp_path / kind / f"{name}.nii.gz")
            for kind in ("plain", "used", "unused")
        )
        assert before.any()
        assert not after.any()  # A tiny head has less than 5 mL.
        np.testing.assert_array_equal(without, before)
