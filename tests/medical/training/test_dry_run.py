"""What a run would take is told, and nothing is trained."""

from pathlib import Path

import jax
import pytest
from tiny_runs import prepared

from jaxswap.medical.runs.run_log import RunLog
from jaxswap.medical.training.dry_run import rehearse


@pytest.fixture(autouse=True)
def _lenient_promotion():
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_without_a_plan_time_is_known_from_steps_that_were_done(tmp_path: Path) -> None:
    run = prepared(tmp_path, 1.0, steps=103)
    memory, time, end = rehearse(run).splitlines()
    assert memory.startswith("The step, compiled for cpu, needs ")
    assert "MiB on the device and 0 MiB of pinned host memory" in memory
    assert "not known: that needs a plan" in time
    assert end == "Nothing was trained."
    assert not run.folder.path.exists()
    with RunLog(run.folder.path) as log:
        for step in (1, 2, 3):  # 512 voxels in each of them
            log.write(step, {"loss": 0.0, "voxels_per_second": 256.0})
    time = rehearse(run).splitlines()[1]
    assert "A step takes 2 s (timed in this run). The 100 steps to do take" in time
    assert "3 minutes" in time


def test_a_plan_knows_how_long_a_step_takes(tmp_path: Path) -> None:
    run = prepared(tmp_path, 1.0, steps=10, device_memory="100MiB", target="h100")
    assert run.planned.plan is not None
    memory, time, _ = rehearse(run).splitlines()
    assert "compiled for h100" in memory or "not compiled for h100" in memory
    seconds = f"{run.planned.plan.seconds:.3g} s (simulated, for loss and gradient"
    assert f"A step takes {seconds}" in time
