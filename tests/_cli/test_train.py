"""`jaxswap train`, from a data set to a run."""

import csv
import json
import pathlib
import shutil
from typing import Any

import jax
import pytest
import yaml
from training_command import NAMES, TRAINED, UNET, config_file, losses

from jaxswap._cli.main import main
from jaxswap.medical.prediction.case_prediction import open_run
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training import final_validation

pytestmark = pytest.mark.usefixtures("own_folders", "lenient_promotion")


def test_a_run_leaves_settings_logs_and_checkpoints(trained: pathlib.Path) -> None:
    values = yaml.safe_load((trained / "config.yaml").read_text())
    assert values["steps"] == 4
    assert values["learning_rate"] == 1e-3
    assert len(losses(trained)) == 4
    assert (trained / "progress.png").stat().st_size > 1000
    assert list((trained / "tensorboard").iterdir())
    found = RunFolder(trained).read()
    assert next(iter(found.label_map.regions)) == "whole tumour"
    assert found.channels == ("t1n", "t1c", "t2w", "t2f")


def test_validation_cases_are_labeled_and_scored_at_the_end(
    trained: pathlib.Path,
) -> None:
    split = json.loads((trained / "split.json").read_text())
    names = sorted(split["validation"])
    assert len(names) == 2
    folder = trained / "validation"
    assert sorted(path.name[:-7] for path in folder.glob("*.nii.gz")) == names
    with (folder / "metrics.csv").open() as file:
        assert {row["case"] for row in csv.DictReader(file)} == set(names)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["faults"] == {}
    assert (folder / "report.html").stat().st_size > 1000


def test_a_validation_case_that_cannot_be_labeled_is_told(
    trained: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)

    def fail(*args: Any, **options: Any) -> None:
        raise ValueError("no image")

    monkeypatch.setattr(final_validation, "predict_case", fail)
    found = final_validation.validate_at_end(RunFolder(run))
    assert found.evaluation is None
    assert set(found.failures.values()) == {"no image"}
    assert not list((run / "validation").glob("*.nii.gz"))


def test_a_run_on_all_cases_starts_from_another(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    deeper = {"steps": 1, "fold": "all", "network_options": {"hidden": 2}}
    file = config_file(tmp_path, TRAINED, **deeper)
    words = ["train", str(data), "--out", str(run), "--config", file]
    words += ["--set", f"exclude=[{NAMES[3]}]", "--init-from", str(trained)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "3 training and 0 validation cases" in told
    assert "params/Conv_2/kernel: missing there" in told
    assert open_run(run, data).trained.config.fold == "all"


def test_patches_are_predicted_in_windows(
    data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    file = config_file(tmp_path, TRAINED, steps=1)
    words = ["train", str(data), "--out", str(run), "--config", file, "--patch", "8"]
    assert main(words) == 0
    opened = open_run(run, data)
    predictor = opened.models[0].predictor
    assert predictor.shape == (8, 8, 8)
    assert not predictor.is_whole
    assert predictor.mirror_axes == (0, 1, 2)


def test_a_budget_is_planned_and_told(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", str(data), "--out", str(run), "--device-memory", "1GiB"]
    words += ["--config", config_file(tmp_path, TRAINED, steps=1), "--target", "h100"]
    assert main(words) == 0
    assert "plan for h100" in capsys.readouterr().out
    assert (run / "plan.json").stat().st_size > 100
    assert (run / "plan.html").stat().st_size > 100


@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
def test_a_mesh_is_planned_for_and_told(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    file = config_file(tmp_path, TRAINED, steps=2, batch=2, shape=[16, 16, 12])
    words = ["train", str(data), "--out", str(run), "--config", file]
    words += ["--device-memory", "1GiB", "--target", "h100"]
    assert main([*words, "--mesh", "depth=2,data=2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Mesh data=2,depth=2: 4 of" in told
    assert "each holds 8 x 16 x 12 voxels of 1 of 2 volumes" in told
    assert "plan for h100" in told
    assert yaml.safe_load((run / "config.yaml").read_text())["mesh"] == (
        "data=2,depth=2"
    )
    assert len(losses(run)) == 2


def test_settings_are_written_for_a_file_of_settings(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(data), "--print-config", "--set", "learning_rate=1e-4"]
    assert main(words) == 0
    written = capsys.readouterr().out
    assert yaml.safe_load(written)["learning_rate"] == 1e-4
    file = tmp_path / "settings.yaml"
    file.write_text(written)
    assert main(["train", "--config", str(file), "--print-config"]) == 0
    assert capsys.readouterr().out == written
    assert main(["train", str(data)]) == 2
    assert "`--out` is missing" in capsys.readouterr().err


def test_a_dry_run_says_what_a_run_takes_and_writes_none(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", str(data), "--out", str(run), "--dry-run"]
    assert main([*words, "--config", config_file(tmp_path, UNET)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 training and 2 validation cases" in told
    assert "The step, compiled for cpu, needs 1 MiB on the device" in told
    assert "Nothing was trained." in told
    assert not run.exists()
