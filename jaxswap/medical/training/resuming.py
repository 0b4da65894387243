"""What a resumed run takes over from its folder before anything long begins."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.state import State
from jaxswap.medical.training.optimizer import make_optimizer

_PLANNED_FOR = "mesh device_memory host_memory slabs target".split()
"""Settings that may change when a run is resumed, and that a plan is made for."""


def recorded_plan(config: RunConfig, folder: RunFolder) -> jaxswap.Plan | None:
    """Read the plan that a run has followed so far.

    A run that follows another plan goes on with other rounding, and a search may take
    minutes.

    Args:
        config: The settings that the run goes on with.
        folder: The folder of the run.

    Returns:
        The plan. None if the run has none that can be read, or if it was made for other
        settings.
    """
    path = folder.path / "plan.json"
    if config.device_memory is None or not (folder.is_run and path.is_file()):
        return None
    old = folder.read().config
    if any(getattr(old, name) != getattr(config, name) for name in _PLANNED_FOR):
        return None
    try:
        return jaxswap.load_plan(path)
    except (OSError, ValueError):
        return None


def fits(plan: jaxswap.Plan, loss: Any, arguments: tuple[Any, ...]) -> bool:
    """Return whether a plan was made for a loss and these types of arguments."""
    planned = jaxswap.offload(loss, plan=plan)
    try:
        jax.eval_shape(jax.grad(planned), *arguments)
    except ValueError:
        return False
    return True


def require_restorable(config: RunConfig, folder: RunFolder, parameters: Any) -> None:
    """Raise CheckpointError if the state of a run has other arrays than the checkpoint.

    Nothing but the checkpoint's record is read. See `Checkpoints.require_same`.

    Args:
        config: The settings of the run.
        folder: The folder of the run. If no run is there, nothing is compared.
        parameters: Types of the parameters of the network.
    """
    if not folder.is_run:
        return
    optimizer_state = jax.eval_shape(make_optimizer(config).init, parameters)
    average = parameters if config.average_decay else ()
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state = State(parameters, optimizer_state, average, step)
    Checkpoints(folder.checkpoints).require_same(state)
