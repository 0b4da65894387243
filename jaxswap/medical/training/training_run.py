"""A training run from its configuration to its folder, interrupted and resumed.

The folder holds the configuration with every value, what the data set's labels mean,
the plan, logs, and checkpoints. Batches, augmentation and dropout depend only on the
seed and on the number of the step. So a resumed run continues bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from jaxswap.medical.data.faults import group_notes
from jaxswap.medical.data.memory import require_memory
from jaxswap.medical.networks.fastest import in_fastest_forms
from jaxswap.medical.networks.networks import make_network, multiple_of
from jaxswap.medical.networks.objective import class_count
from jaxswap.medical.preparing.mesh import RunMesh, make_run_mesh
from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.runs.claim import claimed
from jaxswap.medical.runs.processes import is_first, wait_for_all
from jaxswap.medical.runs.run_cases import RunCases, load_cases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.run_log import RunLog
from jaxswap.medical.training.fitting import Data, choose, is_choice_left
from jaxswap.medical.training.given_parameters import read_parameters, require_run
from jaxswap.medical.training.prepared_run import TrainingRun as TrainingRun
from jaxswap.medical.training.resuming import recorded_plan, require_restorable
from jaxswap.medical.training.run_plan import (
    count_state_bytes,
    plan_loss,
)
from jaxswap.medical.training.run_programs import RunPrograms
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_loop import TrainingLoop


def load_run(
    config: RunConfig, folder: RunFolder, cache: Path, progress: RunProgress
) -> TrainingRun:
    """Prepare the cases of a run, then the run. Write nothing but the cache.

    With `device_memory`, batch and patch are chosen for it, unless they are given. See
    `jaxswap.medical.training.fitting`.

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
    if config.init_from is not None:
        require_run(config.init_from)  # Before cases are prepared.
    mesh = make_run_mesh(config.mesh_shape)
    # How often it halves its grid does not depend on the number of classes.
    network = make_network(
        config.network, config.network_options, classes=1, precision=config.precision
    )
    cases = load_cases(
        config,
        multiple_of(network),
        cache,
        folder=folder,
        started=lambda count: progress.count("preparing cases", count),
        advance=progress.advance_one,
    )
    progress.say(f"planning for {config.target or jax.default_backend()}")
    is_choosing = not folder.is_run and jax.process_count() == 1
    if not (is_choosing and is_choice_left(config)):
        return prepare_run(config, folder, cases, mesh)

    def try_out(candidate: RunConfig) -> TrainingRun:
        prepare_run(candidate, folder, cases, mesh, is_simulated=True)
        return prepare_run(candidate, folder, cases, mesh)

    parts = 1 if mesh is None else mesh.shape.data
    data = Data(cases.shape, len(cases.training), multiple_of(network), parts)
    run, choice = choose(config, data, try_out)
    return dataclasses.replace(run, why=choice.why)


def prepare_run(
    config: RunConfig,
    folder: RunFolder,
    cases: RunCases,
    mesh: RunMesh | None = None,
    *,
    is_simulated: bool = False,
    plan: jaxswap.Plan | None = None,
) -> TrainingRun:
    """Make the network and plan the loss. Write nothing.

    Args:
        config: The settings of the run.
        folder: The folder to write to.
        cases: The cases to train on.
        mesh: The devices to train on. None for one device.
        is_simulated: Whether the plan is only simulated, to see whether it fits.
        plan: A plan of its loss that was made before. None makes one if it is needed.

    Raises:
        ValueError: If network, budget, target or mesh does not fit the data.
        CheckpointError: If a run is there whose state has other arrays.
    """
    network = make_network(
        config.network,
        config.network_options,
        classes=class_count(cases.label_map),
        precision=config.precision,
        # A plan for a GPU is made of the program that the GPU runs.
        platform=None if config.target is None else "gpu",
        is_partitioned=mesh is not None and mesh.shape.parts > 1,
    )
    seen = cases.seen(config)
    if mesh is not None:
        setting = "shape" if config.patch is None else "patch"
        mesh.shape.check_batch(config.batch_size)
        mesh.shape.check_volume(seen, multiple_of(network), setting)
    shape = (config.batch_size, *seen, len(cases.channels))
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(config.precision))
    _require_room(config, images)
    if mesh is None:  # All processes of a mesh run one program, whatever each timed.
        network = in_fastest_forms(network, images, config.target)
    parameters = jax.eval_shape(network.init, jax.random.key(0), images)
    require_restorable(config, folder, parameters)  # Before the search for a plan.
    given = None
    if config.init_from is not None:
        given = read_parameters(config.init_from, parameters)
    planned = plan_loss(
        config,
        network,
        cases.label_map,
        images,
        mesh,
        is_simulated=is_simulated,
        plan=plan,
        recorded=recorded_plan(config, folder),
    )
    return TrainingRun(config, folder, cases, network, planned, mesh, given)


def _require_room(config: RunConfig, images: jax.ShapeDtypeStruct) -> None:
    """Refuse a batch that neither this machine nor the named GPU can hold."""
    batch, *sides, channels = images.shape
    what = (
        f"a batch of {batch} x {'x'.join(map(str, sides))} voxels of {channels} "
        "channels (settings `batch`, `patch` and `shape`)"
    )
    needed_bytes = prod(images.shape) * images.dtype.itemsize
    if config.target is None:
        require_memory(needed_bytes, what)
        return
    target = jaxswap.find_target(config.target)
    if needed_bytes > target.memory_bytes:
        raise ValueError(
            f"{what} would take {needed_bytes / 2**30:,.1f} GiB of memory, and "
            f"{target.name} has {target.memory_bytes / 2**30:,.1f} GiB."
        )


def train(
    run: TrainingRun,
    progress: RunProgress,
    *,
    stop_after: Callable[[int], bool] = lambda step: False,
    programs: RunPrograms | None = None,
) -> dict[str, float]:
    """Train until the last step. Begin at the latest checkpoint if there is one.

    Args:
        run: From `load_run`.
        progress: What the user sees.
        stop_after: Is asked after each step whether to stop early.
        programs: Those of another run with the same network, plan and inputs. None
            makes own ones.

    Returns:
        Dice of each region at the last validation.

    Raises:
        FloatingPointError: If the loss is not finite. The last checkpoint is kept.
        RunInUseError: If another process trains in the folder.
        KeyboardInterrupt: After SIGINT or SIGTERM. The state is saved first, unless a
            second signal comes.
    """
    config, cases = run.config, run.cases
    programs = programs or RunPrograms(run)
    state = programs.initial_state()
    checkpoints = Checkpoints(run.folder.checkpoints)
    extra: dict[str, Any] = {"best": -1.0, "scores": {}, "validated_step": 0}
    with ExitStack() as stack:
        if is_first():
            stack.enter_context(claimed(run.folder.path))
        restored = checkpoints.restore_latest(state)
        if restored is not None:
            state, extra = restored
        # A run that ended before its first checkpoint starts again, with an empty log.
        is_resumed = run.folder.is_run
        wait_for_all("looking for a run")  # Before the first process writes one.
        log = None
        if is_first():
            run.folder.write(cases.trained(config), run.planned.plan, cases.split)
            resumed_step = int(state.step) if is_resumed else None
            log = stack.enter_context(RunLog(run.folder.path, resumed_step))
        loop = TrainingLoop(run, programs, checkpoints, log, progress, extra)
        loop.run(state, stop_after)
    return loop.extra["scores"]


def describe(run: TrainingRun) -> str:
    """Write one paragraph on what will run and what was planned for it.

    Args:
        run: The run.
    """
    config, cases = run.config, run.cases
    seen = "patches" if config.patch is not None else "whole volumes"
    sides = " x ".join(map(str, run.shape))
    channels = ", ".join(cases.describe_channels())
    lines = [
        f"{len(cases.training)} training and {len(cases.validation)} validation cases, "
        f"{seen} of {sides} voxels, channels {channels}; "
        f"{cases.label_map.name}: {', '.join(cases.label_map.regions)}."
    ]
    lines += run.why
    notes = {case.name: case.notes for case in (*cases.training, *cases.validation)}
    lines += [*cases.notes, *group_notes(notes)]
    if run.mesh is not None:
        images = jax.ShapeDtypeStruct(run.batch_shape, jnp.dtype(config.precision))
        state_bytes = count_state_bytes(config, run.network, images)
        lines.append(run.mesh.describe(images, state_bytes))
    if config.target is not None and jax.default_backend() == "cpu":
        lines.append(
            "The layers are those of a GPU, as in the plan. They are slow on this "
            "processor; without `target`, others run here."
        )
    if run.given is not None:
        lines.append(run.given.describe())
    if run.planned.plan is not None:
        lines.append(str(run.planned.plan).partition("\n\n")[0])
    elif config.offload:
        lines.append("No device memory given: large values are swapped by default.")
    else:
        lines.append("Nothing is swapped: plain JAX.")
    return "\n".join(lines)
