"""`jaxswap train`, from a data set to a run that goes on where it was stopped."""

import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import pytest
import tiny_datasets
import yaml

from jaxswap._cli.main import main
from jaxswap.medical.prediction.case_prediction import open_run
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training import final_validation, training_run
from jaxswap.medical.training.run_progress import RunProgress

NAMES = [f"BraTS2021_{number:05d}" for number in range(4)]
SETTINGS = {
    "folds": 2,
    "network_options": {"base_filters": 2, "depth": 3, "segmentation_levels": 1},
    "precision": "float32",
    "steps": 4,
    "validate_every": 2,
    "checkpoint_every": 2,
    "average_decay": 0.9,
    "final_validation": False,
}


@pytest.fixture(autouse=True)
def _settings(tmp_path: pathlib.Path, monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "cache"))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> pathlib.Path:
    return tiny_datasets.brats(tmp_path_factory.mktemp("data"), NAMES)


def config_file(folder: pathlib.Path, **changed: Any) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changed))
    return str(path)


def losses(run: pathlib.Path) -> list[str]:
    with (run / "metrics.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(data: pathlib.Path, tmp_path_factory: Any) -> pathlib.Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("trained")
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("JAXSWAP_HOME", str(folder / "cache"))
        run = folder / "run"
        file = config_file(folder, final_validation=True)
        code = main(["train", str(data), "--out", str(run), "--config", file])
    assert code == 0
    return run


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


def signal_after(step: int, number: signal.Signals, patch: Any) -> None:
    """Send a signal to this process when the loss of a step is shown."""
    advance = RunProgress.advance

    def signalled(self: RunProgress, done: int, *rest: Any) -> None:
        advance(self, done, *rest)
        if done == step:
            signal.raise_signal(number)

    patch.setattr(RunProgress, "advance", signalled)


# The second signal comes while the first validation is about to begin.
@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_resumed_run_has_the_same_losses_bit_for_bit(
    number: signal.Signals,
    step: int,
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: Any,
) -> None:
    run = tmp_path / "run"
    words = ["train", str(data), "--out", str(run), "--config", config_file(tmp_path)]
    with monkeypatch.context() as patch:
        signal_after(step, number, patch)
        assert main(words) == 130
    assert len(losses(run)) == 2
    assert not (run / "validation.csv").exists()
    assert main(["train", "--out", str(run), "--resume"]) == 0
    assert losses(run) == losses(trained)
    tables = [(r / "validation.csv").read_text() for r in (run, trained)]
    assert tables[0] == tables[1]


def test_a_run_is_trained_longer(
    trained: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert main(["train", "--out", str(run), "--resume", "--steps", "3"]) == 2
    assert "has done 4 steps; give that number or more" in capsys.readouterr().err
    assert main(["train", "--out", str(run), "--resume", "--steps", "5"]) == 0
    assert losses(run)[:4] == losses(trained)
    assert len(losses(run)) == 5
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == 5


def test_a_run_on_all_cases_starts_from_another(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    options = {"base_filters": 2, "depth": 3, "segmentation_levels": 2}
    file = config_file(tmp_path, steps=1, fold="all", network_options=options)
    words = ["train", str(data), "--out", str(run), "--config", file]
    words += ["--set", f"exclude=[{NAMES[3]}]", "--init-from", str(trained)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "3 training and 0 validation cases" in told
    assert "params/decoder1/head/conv/kernel: missing there" in told
    assert open_run(run, data).trained.config.fold == "all"


def test_a_case_that_is_added_is_not_dealt_when_a_run_goes_on(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tiny_datasets.brats(tmp_path / "data", NAMES), tmp_path / "run"
    given = ["--config", config_file(tmp_path, steps=1, offload=False), *TINY]
    assert main(["train", str(data), "--out", str(run), *given]) == 0
    before = (run / "split.json").read_text()
    for number in range(4, 9):
        tiny_datasets.brats_case(data, f"BraTS2021_{number:05d}")
    capsys.readouterr()
    assert main(["train", "--out", str(run), "--resume", "--steps", "2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "New since the run began, and not used: BraTS2021_00004" in told
    assert (run / "split.json").read_text() == before


@pytest.mark.slow
def test_a_killed_run_goes_on(
    data: pathlib.Path, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    words = ["train", str(data), "--out", str(run)]
    words += ["--config", config_file(tmp_path, steps=400, checkpoint_every=1)]
    environment = os.environ | {"JAXSWAP_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxswap._cli.main", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        table = run / "metrics.csv"
        if table.exists() and table.read_text().count("\n") > 6:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = losses(run)
    assert len(before) >= 5
    last = len(before) + 3
    # Other steps would mean another schedule, so the run stops early instead.
    stop = {"stop_after": lambda step: step >= last}
    with pytest.MonkeyPatch.context() as patch:
        train = training_run.train
        patch.setattr(training_run, "train", lambda *a: train(*a, **stop))
        assert main(["train", "--out", str(run), "--resume"]) == 0
    after = losses(run)
    assert len(after) == last
    assert after[: len(before) - 2] == before[:-2]


def test_patches_are_predicted_in_windows(
    data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    file = config_file(tmp_path, steps=1)
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
    words += ["--config", config_file(tmp_path, steps=1), "--target", "h100"]
    assert main(words) == 0
    assert "plan for h100" in capsys.readouterr().out
    assert (run / "plan.json").stat().st_size > 100
    assert (run / "plan.html").stat().st_size > 100


@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
def test_a_mesh_is_planned_for_and_told(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    file = config_file(tmp_path, steps=2, batch=2, shape=[16, 16, 12])
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
    assert main([*words, "--config", config_file(tmp_path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 training and 2 validation cases" in told
    assert "The step, compiled for cpu, needs 1 MiB on the device" in told
    assert "Nothing was trained." in told
    assert not run.exists()


TINY = ["--network", "tiny_networks:OneConvolution", "--set", "network_options={}"]
BAD_TRAINING: list[tuple[list[str], str]] = [
    (["--set", "steps"], "`--set steps` is not"),
    (["--set", "stepz=1"], "did you mean `steps`"),
    (["--set", "steps=0"], "`steps` is 0"),
    (["--set", "loss=mse"], "`loss` is 'mse'"),
    (["--config", "missing.yaml"], "missing.yaml: no such configuration file"),
    (["--network", "vnet"], "`network` is 'vnet'"),
    (["--network", "no.such:Net"], "No module named"),
    (["--set", "network_options={width: 3}"], "`network_options` has 'width'"),
    (["--set", "network_options={depth: 1}"], "`depth` is 1"),
    (["--edition", "brats1999"], "brats1999"),
    (["--set", "layout=dicom"], "dicom"),
    (["--set", "folds=99"], "too few for 99 folds"),
    (["--set", "fold=7"], "`fold` is 7"),
    (["--set", "exclude=[BraTS2021_0000]"], "did you mean BraTS2021_0000"),
    (["--init-from", "nowhere"], "nowhere, which holds no training run"),
    (["--patch", "9"], "`patch` is 9; the network needs a multiple of 4"),
    (["--set", "shape=[6, 8, 8]"], "multiple"),
    (["--set", "shape=[4, 4, 4]"], "4"),
    (["--set", "spacing_mm=[1, 2]"], "`spacing_mm`"),
    (["--set", "deep_supervision=true"], "sums the scores of its levels"),
    (["--device-memory", "lots", "--target", "h100"], "lots"),
    ([*TINY, "--device-memory", "1KiB", "--target", "h100"], "smallest"),
    (["--device-memory", "1GiB", "--target", "gtx"], "gtx"),
    (["--set", "class_weights={tumor: 2}"], "did you mean 'tumour core'"),
    (
        ["--patch", "8", "--set", "foreground_weights={edema: 2}"],
        "`foreground_weights` has 'edema'",
    ),
    (["--precision", "float8"], "`precision` is 'float8'"),
    (["--set", "augment={zoom: 1}"], "`augment.zoom` is no setting"),
    (["--resume"], "holds no run to resume"),
    (["--mesh", "width=2"], "`mesh` has the axis 'width'"),
    (["--mesh", "two"], "`mesh` is 'two'; give axes and sizes"),
    (["--mesh", "data=2"], "`batch` is 1, which data=2 of `mesh` does not divide"),
    (["--mesh", "depth=2"], "12 voxels along x, but depth=2 of `mesh`"),
    (["--mesh", "height=2", "--patch", "12"], "--set patch='16' fits"),
    (["--mesh", "depth=64"], "`mesh` is depth=64: 64 devices, but there are"),
    (["--processes", "2"], "belong together"),
    (
        ["--coordinator", "here", "--processes", "2", "--process", "0"],
        "`--coordinator` is 'here'; it needs HOST:PORT",
    ),
    (
        ["--coordinator", "here:1", "--processes", "2", "--process", "2"],
        "`--process` is 2, not in 0..1",
    ),
    (
        ["--coordinator", "here:1", "--processes", "0", "--process", "0"],
        "`--processes` is 0",
    ),
    (["--heartbeat-seconds", "0"], "`--heartbeat-seconds` is 0"),
]


@pytest.mark.parametrize(("words", "message"), BAD_TRAINING)
def test_bad_training_input_is_named_and_nothing_written(
    data: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    run = tmp_path / "run"
    given = ["--config", config_file(tmp_path)] if "--config" not in words else []
    assert main(["train", str(data), "--out", str(run), *given, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("jaxswap: ")
    assert message in error
    assert not run.exists()


def test_data_that_cannot_be_trained_on(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    empty = tmp_path / "empty"
    empty.mkdir()
    unlabeled = tiny_datasets.brats(tmp_path / "unlabeled", NAMES, values=None)
    strange = tiny_datasets.brats(tmp_path / "strange", NAMES, values=(2, 1, 9))
    for folder in (tmp_path / "missing", empty, unlabeled, strange):
        words = ["train", str(folder), "--out", str(run)]
        assert main([*words, "--config", config_file(tmp_path)]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("jaxswap: ")
        assert not run.exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (trained / "metrics.csv").read_text()
    words = ["train", str(data), "--out", str(trained)]
    assert main([*words, "--config", config_file(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--resume", "--set", "learning_rate=0.5"]) == 2
    assert "`learning_rate` was 0.001, is 0.5" in capsys.readouterr().err
    assert (trained / "metrics.csv").read_text() == before
    file = tmp_path / "file"
    file.touch()
    assert main(["train", str(data), "--out", str(file)]) == 2
    assert "is a file" in capsys.readouterr().err
