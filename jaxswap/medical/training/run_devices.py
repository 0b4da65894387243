"""Batches and state of a run on its device, or on its mesh of devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding

from jaxswap.medical.preparing.augmentation import make_augment
from jaxswap.medical.preparing.loading import Batch
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.state import State

_AUGMENTATION = 1  # Separates its random numbers from those of dropout.


class BatchInputs:
    """Turns what is read for a step into the inputs of the step.

    Args:
        config: The run.
        shape: Shape of a batch of images, (batch, x, y, z, channel).
        mesh: The devices of the run. None for one device.
    """

    def __init__(
        self, config: RunConfig, shape: tuple[int, ...], mesh: RunMesh | None
    ) -> None:
        self._seed = config.seed
        self._dtype = jnp.dtype(config.precision)
        self._shape, self._mesh = shape, mesh
        self._augment = None
        if config.augment is not None:
            self._augment = make_augment(config.augment, self._dtype, mesh)

    def of(self, batch: Batch, step: int) -> tuple[Array, Array]:
        """Return augmented images and labels of a step, on the devices of the run."""
        images, labels = batch
        if self._augment is None:
            return self._placed(images.astype(self._dtype)), self._placed(labels)
        key = jax.random.key(self._seed)
        for number in (_AUGMENTATION, step):
            key = jax.random.fold_in(key, number)
        return self._augment(key, self._placed(images), self._placed(labels))

    def _placed(self, array: Any) -> Array:
        if self._mesh is None:
            return jnp.asarray(array)
        return self._mesh.place_batch(array, self._shape[: array.ndim])


def place_state(state: State, mesh: RunMesh | None) -> State:
    """Put a state on every device of a mesh."""
    return state if mesh is None else mesh.replicate(state)


def out_shardings(
    state: State, mesh: RunMesh | None
) -> tuple[State, NamedSharding] | None:
    """Return the shardings of a step's results: state as it was, outcome everywhere."""
    if mesh is None:
        return None
    kept = jax.tree.map(lambda x: x.sharding, state)
    return kept, mesh.replicated
