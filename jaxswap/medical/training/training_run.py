"""A training run from its configuration to its folder, interrupted and resumed.

The folder holds the configuration with every value, what the data set's labels mean,
the plan, logs, and checkpoints. Batches, augmentation and dropout depend only on the
seed and on the number of the step. So a resumed run continues bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxswap
from jaxswap.medical.data.grid import Shape
from jaxswap.medical.networks.networks import make_network, multiple_of
from jaxswap.medical.networks.objective import class_count
from jaxswap.medical.preparing.mesh import RunMesh, make_run_mesh
from jaxswap.medical.preparing.patches import Part
from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.runs.processes import (
    any_process,
    interruption,
    is_first,
    wait_for_all,
)
from jaxswap.medical.runs.run_cases import RunCases, load_cases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder, Trained
from jaxswap.medical.runs.run_log import RunLog
from jaxswap.medical.runs.state import State
from jaxswap.medical.training.run_devices import BatchInputs, out_shardings, place_state
from jaxswap.medical.training.run_plan import (
    PlannedLoss,
    count_state_bytes,
    make_optimizer,
    plan_loss,
)
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.run_validation import Validator
from jaxswap.medical.training.training_step import StepMeasures, initialize, make_step


@dataclass(frozen=True)
class TrainingRun:
    """A run whose data, network and plan are ready.

    Attributes:
        config: The settings of the run.
        folder: The folder that it writes to.
        cases: The cases that it trains on.
        network: The network.
        planned: Its loss, offloaded.
        mesh: Its devices. None for one device.
    """

    config: RunConfig
    folder: RunFolder
    cases: RunCases
    network: nn.Module
    planned: PlannedLoss
    mesh: RunMesh | None = None

    @property
    def shape(self) -> Shape:
        """Voxels that the network sees at a time."""
        return self.cases.seen(self.config)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of a batch of images, (batch, x, y, z, channel)."""
        return (self.config.batch, *self.shape, len(self.cases.channels))

    @property
    def part(self) -> Part | None:
        """The part of each batch that this process reads. None for all of it."""
        return None if self.mesh is None else self.mesh.part(self.batch_shape)


def load_run(
    config: RunConfig, folder: RunFolder, cache: Path, progress: RunProgress
) -> TrainingRun:
    """Prepare the cases of a run, then the run. Write nothing but the cache.

    Args:
        config: The settings of the run.
        folder: The folder where the run will write its files.
        cache: Folder of prepared cases.
        progress: What the user sees meanwhile.

    Returns:
        The run, planned and ready for `train`.

    Raises:
        ValueError: If the data, network, budget or target does not fit.
        FileNotFoundError: If the data set, or a file of a case, is missing.
    """
    mesh = make_run_mesh(config.mesh_shape)
    # How often it halves its grid does not depend on the number of classes.
    network = make_network(
        config.network, config.network_options, classes=1, precision=config.precision
    )
    cases = load_cases(
        config,
        multiple_of(network),
        cache,
        started=lambda count: progress.count("preparing cases", count),
        advance=progress.advance_one,
    )
    progress.say(f"planning for {config.target or jax.default_backend()}")
    return prepare_run(config, folder, cases, mesh)


def prepare_run(
    config: RunConfig, folder: RunFolder, cases: RunCases, mesh: RunMesh | None = None
) -> TrainingRun:
    """Make the network and plan the loss. Write nothing.

    Args:
        config: The settings of the run.
        folder: The folder to write to.
        cases: The cases to train on.
        mesh: The devices to train on. None for one device.

    Raises:
        ValueError: If network, budget, target or mesh does not fit the data.
    """
    network = make_network(
        config.network,
        config.network_options,
        classes=class_count(cases.label_map),
        precision=config.precision,
        is_partitioned=mesh is not None and mesh.shape.parts > 1,
    )
    seen = cases.seen(config)
    if mesh is not None:
        setting = "shape" if config.patch is None else "patch"
        mesh.shape.check_batch(config.batch)
        mesh.shape.check_volume(seen, multiple_of(network), setting)
    shape = (config.batch, *seen, len(cases.channels))
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(config.precision))
    jax.eval_shape(network.init, jax.random.key(0), images)
    planned = plan_loss(config, network, cases.label_map, images, mesh)
    return TrainingRun(config, folder, cases, network, planned, mesh)


def train(
    run: TrainingRun,
    progress: RunProgress,
    *,
    stop_after: Callable[[int], bool] = lambda step: False,
) -> dict[str, float]:
    """Train until the last step. Begin at the latest checkpoint if there is one.

    Args:
        run: From `load_run`.
        progress: What the user sees.
        stop_after: Is asked after each step whether to stop early.

    Returns:
        Dice of each region at the last validation.

    Raises:
        FloatingPointError: If the loss is not finite. The last checkpoint is kept.
        KeyboardInterrupt: If interrupted. The latest state is saved first.
    """
    config, cases = run.config, run.cases
    optimizer = make_optimizer(config)
    state = initialize(
        run.network,
        optimizer,
        run.batch_shape,
        seed=config.seed,
        average_decay=config.average_decay,
    )
    state = place_state(state, run.mesh)
    step = make_step(
        run.planned.loss,
        optimizer,
        seed=config.seed,
        average_decay=config.average_decay,
        out_shardings=out_shardings(state, run.mesh),
    )
    checkpoints = Checkpoints(run.folder.checkpoints)
    restored = checkpoints.restore_latest(state)
    extra: dict[str, Any] = {"best": -1.0, "scores": {}}
    if restored is not None:
        state, extra = restored
    # A run that ended before its first checkpoint starts again, with an empty log.
    is_resumed = run.folder.is_run
    wait_for_all("looking for a run")  # Before the first process writes one.
    with ExitStack() as stack:
        log = None
        if is_first():
            trained = Trained(config, cases.channels, cases.shape, cases.label_map)
            run.folder.write(trained, run.planned.plan)
            resumed_step = int(state.step) if is_resumed else None
            log = stack.enter_context(RunLog(run.folder.path, resumed_step))
        loop = _Loop(run, step, checkpoints, log, progress, extra)
        loop.run(state, stop_after)
    return loop.extra["scores"]


class _Loop:
    """The steps of a run. `extra` is what a checkpoint holds besides the state."""

    def __init__(
        self,
        run: TrainingRun,
        step: jax.stages.Wrapped,
        checkpoints: Checkpoints,
        log: RunLog | None,
        progress: RunProgress,
        extra: dict[str, Any],
    ) -> None:
        self.run_, self.config, self.cases = run, run.config, run.cases
        self.step, self.checkpoints, self.log = step, checkpoints, log
        self.progress, self.extra = progress, extra
        self.validator = Validator(run.config, run.cases, run.network, run.mesh)
        self.inputs = BatchInputs(run.config, run.batch_shape, run.mesh)

    def run(self, state: State, stop_after: Callable[[int], bool]) -> None:
        """Run the steps that are left."""
        first, last = int(state.step), self.config.steps
        self.progress.start(first, last)
        batches = self.cases.batches(self.config, first, self.run_.part)
        compiled: jax.stages.Compiled | None = None
        try:
            with interruption() as received:
                for done in range(first + 1, last + 1):
                    started = perf_counter()
                    images, labels = self.inputs.of(next(batches), done)
                    if compiled is None:
                        compiled = self._compiled(state, images, labels)
                    state, outcome = compiled(state, images, labels)
                    self._note(done, outcome, images.size, perf_counter() - started)
                    if done % self.config.validate_every == 0 or done == last:
                        self._validate(done, state)
                    is_stopped = stop_after(done)
                    is_interrupted = any_process(bool(received))
                    is_due = done % self.config.checkpoint_every == 0 or done == last
                    if is_due or is_stopped or is_interrupted:
                        self.checkpoints.save_latest(state, self.extra)
                    if is_interrupted:
                        raise KeyboardInterrupt("a process was told to stop")
                    if is_stopped:
                        return
        except KeyboardInterrupt:
            if jax.process_count() == 1:
                self.checkpoints.save_latest(state, self.extra)
            raise
        finally:
            batches.close()

    def _compiled(
        self, state: State, images: Array, labels: Array
    ) -> jax.stages.Compiled:
        """Compile the step and pin its host memory, so that the first one is quick."""
        self.progress.say("compiling")
        with ThreadPoolExecutor(max_workers=1) as beside:
            pinned = beside.submit(self._pin)
            compiled = self.step.lower(state, images, labels).compile()
            pinned.result()
        self.progress.show_memory(compiled.memory_analysis())
        return compiled

    def _pin(self) -> None:
        plan, mesh = self.run_.planned.plan, self.run_.mesh
        if plan is not None:
            devices = None if mesh is None else mesh.mesh.local_devices
            jaxswap.pin_host_memory(plan, devices=devices)

    def _note(
        self, step: int, outcome: StepMeasures, size: int, seconds: float
    ) -> None:
        loss, norm = float(outcome.loss), float(outcome.gradient_norm)
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {step}; the last checkpoint is kept. Try "
                "a smaller `learning_rate` or `precision: float32`."
            )
        voxels = size / len(self.cases.channels) / seconds
        self.progress.advance(step, loss, voxels)
        if self.log is not None:
            self.log.write(
                step,
                {"loss": loss, "gradient_norm": norm, "voxels_per_second": voxels},
            )

    def _validate(self, step: int, state: State) -> None:
        means = self.validator.scores(state.evaluated, self.progress.say)
        mean = float(np.mean(list(means.values())))
        self.extra = {**self.extra, "scores": means}
        self.progress.validated(step, means)
        if self.log is not None:
            self.log.write_validation(step, means)
        if mean > self.extra["best"]:
            self.extra = {**self.extra, "best": mean, "best_step": step}
            self.checkpoints.save_best(state, self.extra)


def describe(run: TrainingRun) -> str:
    """Write one paragraph on what will run and what was planned for it.

    Args:
        run: The run.
    """
    config, cases = run.config, run.cases
    seen = "patches" if config.patch is not None else "whole volumes"
    sides = " x ".join(map(str, run.shape))
    lines = [
        f"{len(cases.training)} training and {len(cases.validation)} validation cases, "
        f"{seen} of {sides} voxels, channels {', '.join(cases.channels)}; "
        f"{cases.label_map.name}: {', '.join(cases.label_map.regions)}."
    ]
    if run.mesh is not None:
        images = jax.ShapeDtypeStruct(run.batch_shape, jnp.dtype(config.precision))
        state_bytes = count_state_bytes(config, run.network, images)
        lines.append(run.mesh.describe(images, state_bytes))
    if run.planned.plan is not None:
        lines.append(str(run.planned.plan).partition("\n\n")[0])
    elif config.offload:
        lines.append("No device memory given: large values are swapped by default.")
    else:
        lines.append("Nothing is swapped: plain JAX.")
    return "\n".join(lines)
