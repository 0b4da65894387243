"""A run of `jaxswap train` goes on where it was stopped."""

import os
import pathlib
import shutil
import signal
import time
from typing import Any

import pytest
import tiny_datasets
import yaml
from forked_commands import Command
from training_command import NAMES, TINY, TRAINED, config_file, losses

from jaxswap._cli.main import main
from jaxswap.medical.training import training_run
from jaxswap.medical.training.run_progress import RunProgress

pytestmark = pytest.mark.usefixtures("own_folders", "lenient_promotion")


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
    words = [
        "train",
        str(data),
        "--out",
        str(run),
        "--config",
        config_file(tmp_path, TRAINED),
    ]
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


def test_a_case_that_is_added_is_not_dealt_when_a_run_goes_on(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tiny_datasets.brats(tmp_path / "data", NAMES), tmp_path / "run"
    given = ["--config", config_file(tmp_path, TRAINED, steps=1, offload=False), *TINY]
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
    words += ["--config", config_file(tmp_path, TRAINED, steps=400, checkpoint_every=1)]
    command = Command(words, tmp_path / "command", os.environ)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and command.code is None:
        table = run / "metrics.csv"
        if table.exists() and table.read_text().count("\n") > 6:
            break
        time.sleep(0.05)
    command.kill()
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


def test_a_folder_that_holds_a_run_is_not_overwritten(
    data: pathlib.Path,
    trained: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (trained / "metrics.csv").read_text()
    words = ["train", str(data), "--out", str(trained)]
    assert main([*words, "--config", config_file(tmp_path, TRAINED)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--resume", "--set", "learning_rate=0.5"]) == 2
    assert "`learning_rate` was 0.001, is 0.5" in capsys.readouterr().err
    assert (trained / "metrics.csv").read_text() == before
    file = tmp_path / "file"
    file.touch()
    assert main(["train", str(data), "--out", str(file)]) == 2
    assert "is a file" in capsys.readouterr().err
