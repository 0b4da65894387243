"""The programs of an experiment: one for each method, compiled side by side and timed.

Arms, rates and numbers of steps share them. Swapping is also compiled as earlier
systems did it, untuned and tuned, to see what of its cost the plan takes away.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxswap
from jaxswap import policies
from jaxswap.medical.data.case_files import Dataset
from jaxswap.medical.experiment.experiment import PATCHES, PLAIN, SWAPPED, Experiment
from jaxswap.medical.preparing.loading import Batch
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training.prepared_run import TrainingRun
from jaxswap.medical.training.run_plan import PlannedLoss
from jaxswap.medical.training.run_programs import RunPrograms
from jaxswap.medical.training.training_run import prepare_run
from jaxswap.medical.training.training_step import make_loss

UNTUNED, TUNED = "swapped, LMS untuned", "swapped, LMS tuned"
_POLICIES: Mapping[str, Any] = {UNTUNED: jaxswap.LMS(), TUNED: policies.Imai2018()}
_CASES_AT_A_TIME = 4
_MOST_STEPS, _MOST_SECONDS = 20, 6.0  # Of timing one program.
_PROFILED_STEPS = 3


def make_programs(
    experiment: Experiment, dataset: Dataset, say: Callable[[str], None]
) -> dict[str, RunPrograms]:
    """Plan the step on whole volumes, and make the programs. Compile nothing.

    Args:
        experiment: The experiment.
        dataset: Cases of an arm. Channels and labels alone count.
        say: Is told what is done.

    Returns:
        Programs by method: `SWAPPED`, `PATCHES`, `PLAIN`, and what earlier systems do.
    """
    arm, side = experiment.arms[0], experiment.size
    assert dataset.label_map is not None
    blank = RunCases((), (), dataset.channels, dataset.label_map, (side, side, side))

    def run_of(method: str, plan: jaxswap.Plan | None = None) -> TrainingRun:
        config = experiment.config(arm, method)
        return prepare_run(config, RunFolder(experiment.out), blank, plan=plan)

    swapped = follow_plan(run_of, experiment.plan, say)
    programs = {SWAPPED: RunPrograms(swapped), PATCHES: RunPrograms(run_of(PATCHES))}
    programs[PLAIN] = RunPrograms(run_of(PLAIN), like=programs[SWAPPED])
    for name, policy in _POLICIES.items():
        loss = make_loss(swapped.network, dataset.label_map, swapped.config.loss)
        planned = PlannedLoss(jaxswap.offload(loss, policy=policy), None)
        run = dataclasses.replace(swapped, planned=planned)
        programs[name] = RunPrograms(run, like=programs[SWAPPED])
    for one in programs.values():
        one.cases_at_a_time = _CASES_AT_A_TIME
    return programs


def follow_plan(
    run_of: Callable[..., TrainingRun], path: Path | None, say: Callable[[str], None]
) -> TrainingRun:
    """Return the run on whole volumes, by a plan that was made before if it fits.

    Args:
        run_of: Makes the run of a method, by a plan or with one of its own.
        path: File of the plan. It is written if it is missing and a plan was made. None
            for no file.
        say: Is told what is done.
    """
    if path is not None and path.exists():
        try:
            run = run_of(SWAPPED, jaxswap.load_plan(path))
            # A plan is held against the loss when its gradient is traced.
            jax.eval_shape(jax.grad(run.planned.loss), *_arguments(run))
            say(f"the plan is that of {path.name}")
            return run
        except ValueError as error:
            say(f"{path.name} does not fit, so the step is planned anew: {error}")
    say("planning the step on whole volumes")
    run = run_of(SWAPPED)
    if path is not None and run.planned.plan is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        run.planned.plan.save(path)
    return run


def compile_all(programs: Mapping[str, RunPrograms]) -> dict[str, dict[str, Any]]:
    """Compile programs side by side, and say of each what came of it.

    Args:
        programs: The programs.

    Returns:
        For each, seconds and bytes, or the error.
    """
    with ThreadPoolExecutor(len(programs)) as pool:
        found = pool.map(_compiled, programs.values())
        return dict(zip(programs, found, strict=True))


def timed(programs: RunPrograms) -> dict[str, Any]:
    """Time the step with all data at hand, and profile it if this is a GPU.

    Args:
        programs: Compiled programs.

    Returns:
        Seconds of a step without and with its augmentation, which keep the device busy,
        and what the profile says of copies. Or the error that ended it.
    """
    try:
        return _timed(programs)
    except (RuntimeError, ValueError) as error:
        return {"error": _first_line(error)}


def device_name() -> str:
    """Return the platform and the name of the device."""
    device = jax.local_devices()[0]
    return f"{device.platform}: {device.device_kind}"


def peak_bytes() -> int | None:
    """Return the most bytes of the device that were in use so far, if it knows them."""
    known = jax.local_devices()[0].memory_stats() or {}
    return known.get("peak_bytes_in_use")


def _timed(programs: RunPrograms) -> dict[str, Any]:
    run, state = programs.run, programs.initial_state()
    random = np.random.default_rng(0)
    images = random.normal(size=run.batch_shape).astype(np.float16)
    labels = random.integers(0, 2, run.batch_shape[:-1]).astype(np.uint8)
    batch: Any = Batch(jnp.asarray(images), jnp.asarray(labels))  # type: ignore[arg-type]
    inputs = programs.inputs.of(batch, 0)
    compiled = programs.step(state, *inputs)
    rate = np.float32(0)

    def alone(number: int, state: Any) -> Any:
        del number
        return compiled(state, *inputs, rate)

    def augmented(number: int, state: Any) -> Any:
        return compiled(state, *programs.inputs.of(batch, number), rate)

    step_seconds, state = _repeated(alone, state)
    busy_seconds, state = _repeated(augmented, state)
    row = {"step_seconds": step_seconds, "busy_seconds": busy_seconds}
    if jax.default_backend() == "gpu":
        row |= _profiled(partial(jaxswap.profile, compiled, state, *inputs, rate))
    return row


def _arguments(run: TrainingRun) -> tuple[Any, ...]:
    """Return the types of a loss's arguments."""
    images = jax.ShapeDtypeStruct(run.batch_shape, jnp.dtype(run.config.precision))
    labels = jax.ShapeDtypeStruct(run.batch_shape[:-1], jnp.uint8)
    parameters = jax.eval_shape(run.network.init, jax.random.key(0), images)
    return parameters, images, labels, jax.eval_shape(lambda: jax.random.key(0))


def _compiled(programs: RunPrograms) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        programs.compile()
    except (RuntimeError, ValueError) as error:
        return {"error": _first_line(error)}
    row: dict[str, Any] = {"compile_seconds": time.perf_counter() - started}
    memory, plan = programs.memory, programs.run.planned.plan
    if memory is not None:
        argument, output = memory.argument_size_in_bytes, memory.output_size_in_bytes
        temporary, alias = memory.temp_size_in_bytes, memory.alias_size_in_bytes
        row["device_bytes"] = argument + output + temporary - alias
        row["host_bytes"] = memory.host_temp_size_in_bytes
    if plan is not None:
        row |= {"budget_bytes": plan.budget_bytes, "planned_bytes": plan.device_bytes}
    return row


def _repeated(call: Callable[[int, Any], Any], state: Any) -> tuple[float, Any]:
    """Return the seconds of a call, one started after the other, and the last state."""
    started = time.perf_counter()
    state, measures = call(1, state)
    float(measures.loss)  # Waits.
    once = time.perf_counter() - started
    count = max(1, min(_MOST_STEPS, int(_MOST_SECONDS / once)))
    if count == 1:
        return once, state
    started = time.perf_counter()
    for number in range(count):
        state, measures = call(number, state)
    float(measures.loss)
    return (time.perf_counter() - started) / count, state


def _profiled(profile: Callable[..., jaxswap.Profile]) -> dict[str, Any]:
    try:
        found = profile(repeats=_PROFILED_STEPS)
    except (RuntimeError, ValueError) as error:
        return {"profile_error": _first_line(error)}
    copies = (found.swap_out, found.swap_in)
    return {
        "compute_seconds": found.compute_seconds,
        "stall_seconds": found.stall_seconds,
        "idle_seconds": found.idle_seconds,
        "copy_seconds": sum(one.seconds for one in copies),
        "hidden_seconds": sum(one.hidden_seconds for one in copies),
        "copied_bytes": sum(one.nbytes for one in copies),
    }


def _first_line(error: Exception) -> str:
    """Return what an error says first: XLA goes on with pages."""
    return str(error).strip().partition("\n")[0][:300]
