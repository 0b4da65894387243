"""What a training run would take: memory and time, without a step of it."""

from __future__ import annotations

from statistics import median

import jax
import jax.numpy as jnp

import jaxswap
from jaxswap.medical.runs.run_log import read_history
from jaxswap.medical.training.optimizer import make_optimizer
from jaxswap.medical.training.prepared_run import TrainingRun
from jaxswap.medical.training.run_devices import out_shardings, place_state
from jaxswap.medical.training.run_progress import bytes_text
from jaxswap.medical.training.training_step import initialize, make_step

_MOST_ROWS = 100  # of earlier steps, whose median time counts.


def rehearse(run: TrainingRun) -> str:
    """Compile a run's step and say what the run would take. Train nothing.

    Args:
        run: The run.

    Returns:
        Lines on device memory and host memory of the compiled step, seconds a step
        where they are known, and hours in all.
    """
    return "\n".join((_memory(run), _time(run), "Nothing was trained."))


def _memory(run: TrainingRun) -> str:
    config = run.config
    optimizer = make_optimizer(config)
    shape = run.batch_shape
    state = initialize(
        run.network, optimizer, shape, average_decay=config.average_decay
    )
    state = place_state(state, run.mesh)
    split = None if run.mesh is None else run.mesh.split
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(config.precision), sharding=split)
    labels = jax.ShapeDtypeStruct(shape[:-1], jnp.uint8, sharding=split)
    step = make_step(
        run.planned.loss,
        optimizer,
        average_decay=config.average_decay,
        out_shardings=out_shardings(state, run.mesh),
    )
    try:
        seen = jaxswap.inspect(step, state, images, labels, target=config.target)
    except ImportError as error:
        return f"The step was not compiled for {config.target}: {error}"
    device, host = bytes_text(seen.device_bytes), bytes_text(seen.host_bytes)
    return (
        f"The step, compiled for {seen.target}, needs {device} on the device and "
        f"{host} of pinned host memory."
    )


def _time(run: TrainingRun) -> str:
    steps, basis = run.config.steps, ""
    rows = read_history(run.folder.path).metrics
    done = rows[-1].step if rows else 0
    rates = [r.values.get("voxels_per_second", 0.0) for r in rows[-_MOST_ROWS:]]
    plan = run.planned.plan
    if rates and min(rates) > 0:
        voxels = run.config.batch_size
        for side in run.shape:
            voxels *= side
        seconds, basis = voxels / median(rates), "timed in this run"
    elif plan is not None:
        seconds = plan.seconds
        basis = "simulated, for loss and gradient alone"
    else:
        return (
            "How long a step takes is not known: that needs a plan (--device-memory), "
            "or steps that were done."
        )
    left = steps - done
    return (
        f"A step takes {seconds:.3g} s ({basis}). The {left:,} steps to do take "
        f"{_duration(left * seconds)}, and reading, augmentation and validation come "
        "on top."
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours > 1 else f"{seconds / 60:.0f} minutes"
