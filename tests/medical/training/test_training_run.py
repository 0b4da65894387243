"""A run on cases in memory."""

from pathlib import Path
from typing import Any

import jax
import pytest
from tiny_runs import prepared, quiet

import jaxswap
from jaxswap.medical.networks.fastest import fastest_layers
from jaxswap.medical.networks.layers import CPU
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
