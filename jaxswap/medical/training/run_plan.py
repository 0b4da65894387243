"""A budget of device memory for a training step, and a step that stays within it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import jaxswap
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.networks.networks import check_deep_supervision
from jaxswap.medical.networks.objective import class_weights
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.runs.processes import made_by_first
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.training.optimizer import make_optimizer
from jaxswap.medical.training.resuming import fits
from jaxswap.medical.training.training_step import Loss, make_loss


@dataclass(frozen=True)
class PlannedLoss:
    """The loss that a run differentiates.

    Attributes:
        loss: The loss function. It is offloaded, unless the run wants it plain.
        plan: The plan. None without a budget.
    """

    loss: Loss
    plan: jaxswap.Plan | None


def plan_loss(
    config: RunConfig,
    network: nn.Module,
    label_map: LabelMap,
    images: jax.ShapeDtypeStruct,
    mesh: RunMesh | None = None,
    *,
    is_simulated: bool = False,
    plan: jaxswap.Plan | None = None,
    recorded: jaxswap.Plan | None = None,
) -> PlannedLoss:
    """Make the loss of a run and plan it for the run's budget.

    The optimizer's state and the moving average are subtracted from the budget. They
    stay on the device while the gradient is computed.

    Args:
        config: The run.
        network: Its network.
        label_map: What labels mean.
        images: Type of a batch of images, (batch, x, y, z, channel).
        mesh: The devices over which it is split. The budget is for each of them.
        is_simulated: Whether the plan is only simulated, not compiled.
        plan: A plan of this loss that was made before. None makes one if it is needed.
        recorded: A plan that the run has followed so far. It is used if it is one of
            this loss.

    Returns:
        The loss.

    Raises:
        ValueError: If the budget, the target, the network or a weight does not fit.
        jaxswap.BudgetError: If nothing fits into the budget. It is a ValueError, too.
    """
    if config.deep_supervision:
        check_deep_supervision(network, config.network)
    loss = make_loss(
        network,
        label_map,
        config.loss,
        is_deeply_supervised=config.deep_supervision,
        weights=class_weights(label_map, config.class_weights),
    )
    if not config.offload:
        return PlannedLoss(loss, None)
    if plan is not None:
        return PlannedLoss(jaxswap.offload(loss, plan=plan), plan)
    if config.device_memory is None:
        unplanned = jaxswap.offload(
            loss, in_shardings=_shardings(mesh), compress=config.compress
        )
        return PlannedLoss(unplanned, None)
    parameters = jax.eval_shape(network.init, jax.random.key(0), images)
    labels = jax.ShapeDtypeStruct(images.shape[:-1], jnp.uint8)
    key = jax.eval_shape(lambda: jax.random.key(0))
    arguments = _placed((parameters, images, labels, key), mesh)

    def make() -> jaxswap.Plan:
        if recorded is not None and fits(recorded, loss, arguments):
            return recorded
        return jaxswap.plan(
            loss,
            *arguments,
            budget=config.device_memory,
            reserve=_beside(config, parameters),
            host_budget=config.host_memory,
            slabs=config.slabs,
            compress=config.compress,
            target=config.target,
            compile=not is_simulated,
            progress=not is_simulated,
        )

    plan = _same_in_all_processes(make)
    return PlannedLoss(jaxswap.offload(loss, plan=plan), plan)


def _same_in_all_processes(make: Callable[[], jaxswap.Plan]) -> jaxswap.Plan:
    """Return one process's plan in all: a search may end differently elsewhere."""
    if jax.process_count() == 1:
        return make()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        content = made_by_first(lambda: make().save(path).read_bytes())
        path.write_bytes(content)
        return jaxswap.load_plan(path)


def _shardings(mesh: RunMesh | None) -> tuple[Any, ...] | None:
    """Return the shardings of parameters, images, labels and the key on a mesh."""
    if mesh is None:
        return None
    return mesh.replicated, mesh.split, mesh.split, mesh.replicated


def _placed(types: tuple[Any, ...], mesh: RunMesh | None) -> tuple[Any, ...]:
    """Return the same types with their shardings."""
    shardings = _shardings(mesh)
    if shardings is None:
        return types
    return tuple(
        jax.tree.map(
            lambda x, s=sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            type_,
        )
        for type_, sharding in zip(types, shardings, strict=True)
    )


def count_state_bytes(
    config: RunConfig, network: nn.Module, images: jax.ShapeDtypeStruct
) -> int:
    """Count the bytes of parameters, optimizer state and average on the device.

    Args:
        config: The run.
        network: Its network.
        images: Type of a batch of images.
    """
    parameters = jax.eval_shape(network.init, jax.random.key(0), images)
    leaves = jax.tree.leaves(parameters)
    own = sum(x.size * x.dtype.itemsize for x in leaves)
    return own + _beside(config, parameters)


def _beside(config: RunConfig, parameters: Any) -> int:
    """Return the bytes that stay on the device while the gradient is computed."""
    state = jax.eval_shape(make_optimizer(config).init, parameters)
    trees = [] if config.host_optimizer else [state]
    trees += [parameters] if config.average_decay else []
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(trees))
