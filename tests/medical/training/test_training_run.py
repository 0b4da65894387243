"""A run on cases in memory."""

import io
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import pytest
from rich.console import Console
from tensorboard_records import event_files
from tiny_runs import prepared, quiet

import jaxswap
from jaxswap.medical.networks.fastest import fastest_layers
from jaxswap.medical.networks.layers import CPU
from jaxswap.medical.preparing.loading import Batch
from jaxswap.medical.runs.checkpoints import restore_parameters
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_log import read_history
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_run import train


@pytest.fixture(autouse=True)
def _lenient_promotion():
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    run = prepared(tmp_path, float("nan"), steps=2)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1"):
        train(run, quiet())
    assert not run.folder.checkpoints.exists()


def test_host_memory_is_pinned_once_and_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path, 1.0, steps=1, device_memory="100MiB", target="h100")
    seen: list[Any] = []
    pin = jaxswap.pin_host_memory
    monkeypatch.setattr(
        jaxswap,
        "pin_host_memory",
        lambda plan, **options: (seen.append(plan), pin(plan, **options)),
    )
    monkeypatch.setattr(
        RunProgress, "advance", lambda *args: seen.append("a step is done")
    )
    train(run, quiet())
    assert seen == [run.planned.plan, "a step is done"]


def test_a_plan_for_a_gpu_is_of_the_layers_that_run_on_a_gpu(tmp_path: Path) -> None:
    here: Any = prepared(tmp_path, 1.0, steps=1).network
    there: Any = prepared(tmp_path, 1.0, steps=1, target="h100").network
    assert here.layers is CPU
    assert there.layers == fastest_layers(jaxswap.find_target("h100"))


def test_training_ends_when_validations_do_not_become_better(tmp_path: Path) -> None:
    settings = {"steps": 9, "validate_every": 1, "patience": 2, "learning_rate": 1e-12}
    run = prepared(tmp_path, 1.0, **settings)
    text = io.StringIO()
    train(run, RunProgress(Console(file=text, width=200)))
    metrics, validation = read_history(run.folder.path)
    assert [row.step for row in metrics] == [1, 2, 3]
    assert "Ended after step 3: no validation was better than that of step 1" in (
        text.getvalue()
    )
    assert {"blob", "loss"} == validation[0].values.keys()
    pictures = [
        value
        for event in event_files(run.folder.path / "tensorboard")[0]
        for value in event.summary.value
        if value.HasField("image")
    ]
    assert [picture.tag for picture in pictures] == ["validation/first case"] * 3
    train(run, quiet())
    assert len(read_history(run.folder.path).metrics) == 3


def test_the_loss_of_a_validation_is_that_of_training(tmp_path: Path) -> None:
    run = prepared(tmp_path, 1.0, steps=2, validate_every=1, dropout=0.0)
    train(run, quiet())
    metrics, validation = read_history(run.folder.path)
    # One case, which trains and validates: step 2 sees what was validated after step 1.
    before, after = validation[0].values["loss"], metrics[1].values["loss"]
    assert before == pytest.approx(after, abs=1e-5)


def test_a_signal_that_ends_who_reads_batches_saves_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path, 1.0, steps=9)
    read = RunCases.batches

    def ended(*args: Any) -> Generator[Batch, None, None]:
        batches = read(*args)
        yield next(batches)
        batches.close()
        signal.raise_signal(signal.SIGINT)
        raise ConnectionError("a process that reads batches is gone")

    monkeypatch.setattr(RunCases, "batches", ended)
    with pytest.raises(KeyboardInterrupt, match="was told to stop"):
        train(run, quiet())
    assert [row.step for row in read_history(run.folder.path).metrics] == [1]
    restore_parameters(run.folder.checkpoints, "latest")
