"""One optimizer step of a segmentation network on whole volumes or patches.

The step is a compiled function of the state, images and labels. Its loss is wrapped in
`jaxswap.offload`. Without this, the same step is the plain one to compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import NamedSharding
from jax.typing import ArrayLike

import jaxswap
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.networks.losses import Weights
from jaxswap.medical.networks.objective import deeply_supervised_loss, segmentation_loss
from jaxswap.medical.runs.state import Parameters
from jaxswap.medical.runs.state import State as State
from jaxswap.medical.training.given_parameters import GivenParameters

Loss = Callable[[Parameters, Array, Array, Array], Array]
"""A function of parameters, images, labels and a random key."""
_RUNS_ONCE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""Options of XLA for a CPU's program that runs once. The parameters of isensee2017 are
drawn in 4 instead of 27 seconds of processor time, compilation included."""


class StepMeasures(NamedTuple):
    """The measurements of a step.

    Attributes:
        loss: Loss for the parameters before the step, float32 scalar.
        gradient_norm: Euclidean norm of the gradient, float32 scalar.
    """

    loss: Array
    gradient_norm: Array


def make_loss(
    network: nn.Module,
    label_map: LabelMap,
    loss: str = "dice_ce",
    *,
    is_deeply_supervised: bool = False,
    weights: Weights = None,
) -> Loss:
    """Make the function that is offloaded and differentiated.

    Args:
        network: A network from (batch, x, y, z, channel) to logits, with the keyword
            arguments `deterministic` and, for deep supervision, `all_levels`.
        label_map: What the labels mean.
        loss: See `segmentation_loss`.
        is_deeply_supervised: Whether each level of the decoder is scored.
        weights: Of the classes, see `segmentation_loss`.

    Returns:
        The loss of parameters, images (batch, x, y, z, channel), labels (batch, x, y,
        z) and a random key for dropout.
    """

    def loss_of(
        parameters: Parameters, images: Array, labels: Array, key: Array
    ) -> Array:
        options: dict[str, Any] = {"deterministic": False, "rngs": {"dropout": key}}
        if is_deeply_supervised:
            levels: Any = network.apply(parameters, images, all_levels=True, **options)
            return deeply_supervised_loss(levels, labels, label_map, loss, weights)
        logits: Any = network.apply(parameters, images, **options)
        return segmentation_loss(logits, labels, label_map, loss, weights)

    return loss_of


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    seed: int = 0,
    average_decay: float = 0.0,
    out_shardings: tuple[State, NamedSharding] | None = None,
) -> jax.stages.Wrapped:
    """Make the compiled training step.

    Args:
        loss: From `make_loss`, offloaded or not.
        optimizer: Turns gradients into updates. `optax.MultiSteps` accumulates
            gradients over several calls.
        seed: Seed of dropout. The key of a step depends on it and on the step's number.
        average_decay: Decay of the exponential moving average of the parameters. 0 for
            no average.
        out_shardings: On a mesh, the shardings of the new state and the outcome. The
            state's must be that of the old state, or its memory cannot be reused. None
            leaves them to JAX.

    Returns:
        A jitted function of state, images, labels and a rate that returns the new state
        and a `StepMeasures`. Updates are multiplied by the rate, which is 1 unless
        given. It reuses the old state's memory.
    """
    value_and_grad = jax.value_and_grad(loss)

    def step(
        state: State, images: Array, labels: Array, rate: ArrayLike = 1.0
    ) -> tuple[State, StepMeasures]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        value, gradient = value_and_grad(state.parameters, images, labels, key)
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer_state, state.parameters
        )
        updates = optax.tree.scale(rate, updates)
        parameters: Any = optax.apply_updates(state.parameters, updates)
        average = state.average
        if average_decay:
            average = optax.incremental_update(parameters, average, 1 - average_decay)
        norm = optax.tree.norm(gradient)
        changed = State(parameters, optimizer_state, average, state.step + 1)
        return changed, StepMeasures(value, norm)

    return jaxswap.jit(step, donate_argnums=0, out_shardings=out_shardings)


def initialize(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    average_decay: float = 0.0,
    given: GivenParameters | None = None,
    drawn: Parameters | None = None,
) -> State:
    """Draw the initial state.

    Args:
        network: The network.
        optimizer: The optimizer.
        shape: Shape of images, (batch, x, y, z, channel).
        seed: Seed of the parameters.
        average_decay: As for `make_step`.
        given: Parameters that replace drawn ones. None draws all of them.
        drawn: From `draw_parameters`, if they are drawn already.

    Returns:
        The state, committed to the first device of this process. So the second step of
        a program that swaps is not compiled again.
    """
    parameters = drawn
    if parameters is None:
        parameters = draw_parameters(network, shape, seed)
    if given is not None:
        parameters = given.put_into(parameters)
    average = jax.tree.map(jnp.copy, parameters) if average_decay else ()
    state = State(parameters, optimizer.init(parameters), average, jnp.int32(0))
    return jax.tree.map(_committed, state)


def draw_parameters(
    network: nn.Module, shape: tuple[int, ...], seed: int
) -> Parameters:
    """Draw the parameters of a network.

    Args:
        network: The network.
        shape: Shape of images, (batch, x, y, z, channel).
        seed: Seed of the parameters.
    """
    # In `jit` the volume is never made, because no parameter depends on it.
    draw = jax.jit(
        lambda key: network.init(key, jnp.zeros(shape, jnp.float32)),
        compiler_options=_RUNS_ONCE if jax.default_backend() == "cpu" else None,
    )
    return draw(jax.random.key(seed))


def _committed(x: Array) -> Array:
    if x.sharding.memory_kind == "pinned_host":
        return x
    return jax.device_put(x, jax.local_devices()[0])
