"""A run on cases in memory."""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxswap
from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.reading import CaseVolumes
from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.networks.fastest import fastest_layers
from jaxswap.medical.networks.layers import CPU
from jaxswap.medical.preparing.preparing import PrepareConfig, prepare_volumes
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_run import TrainingRun, prepare_run, train

BLOB = make_label_map("blob", {"blob": 1})
SHAPE = (8, 8, 8)


@pytest.fixture(autouse=True)
def _lenient_promotion():
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def cases(intensity: float) -> RunCases:
    image = np.random.default_rng(0).normal(size=SHAPE) ** 2
    volume = Volume.from_array(image, np.eye(4))
    labels = Volume.from_array(image > 1, np.eye(4))
    read = CaseVolumes(("T1",), volume.data[..., None], volume, labels)
    case = prepare_volumes(read, BLOB, PrepareConfig(2, SHAPE), "case")
    case.image[0, 0, 0] = intensity
    return RunCases((case,), (case,), ("T1",), BLOB, SHAPE)


def prepared(tmp_path: Path, intensity: float, **settings: Any) -> TrainingRun:
    options = {"base_filters": 2, "depth": 2, "segmentation_levels": 1}
    config = RunConfig(
        tmp_path, network_options=options, augment=None, precision="float32", **settings
    )
    return prepare_run(config, RunFolder(tmp_path / "run"), cases(intensity))


def quiet() -> RunProgress:
    return RunProgress(Console(file=io.StringIO()))


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
