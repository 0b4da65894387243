"""Training: a configuration, one step, and the loop with its progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

import jaxswap
from jaxswap.medical.training.losses import dice_loss

Parameters = Any


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: Number of optimizer steps.
        learning_rate: Adam's rate at the start; it falls to zero along a cosine.
        evaluate_every: Steps between evaluations. The first and the last step are
            always evaluated.
        seed: Seed of the initial parameters and of the cases.
    """

    steps: int = 80
    learning_rate: float = 5e-3
    evaluate_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, not 1 or more.")
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` is {self.learning_rate}, not positive.")
        if self.seed < 0:
            raise ValueError(f"`seed` is {self.seed}, but must not be negative.")


class TrainState(NamedTuple):
    """What training changes: parameters and the optimizer's memory."""

    parameters: Parameters
    optimizer_state: optax.OptState


class Record(NamedTuple):
    """One evaluation: after how many steps, the last loss, and the scores."""

    step: int
    loss: float
    scores: tuple[float, ...]


TrainStep = Callable[[TrainState, Array, Array], tuple[TrainState, Array]]


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Make Adam with a cosine schedule."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps, 0.02)
    return optax.adam(schedule)


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    loss: Callable[[Array, Array], Array] = dice_loss,
    offload: bool = True,
    policy: Any = None,
) -> TrainStep:
    """Make the jitted training step.

    Args:
        model: Network from (batch, depth, height, width, channel) to logits.
        optimizer: What turns gradients into updates.
        loss: Of logits and targets.
        offload: Whether the loss goes through `jaxswap.offload`. Value and gradient
            are the same either way.
        policy: Policy for `jaxswap.offload`; None for its own choice.

    Returns:
        A function of the state, a batch of images and one of targets in 0..1,
        (batch, depth, height, width, class), that returns the new state and the loss.
        It takes the old state's memory.
    """

    def loss_of(parameters: Parameters, images: Array, targets: Array) -> Array:
        logits = model.apply(parameters, images)
        assert isinstance(logits, jax.Array)
        return loss(logits, targets)

    value_and_grad = jax.value_and_grad(
        jaxswap.offload(loss_of, policy=policy) if offload else loss_of
    )

    def step(
        state: TrainState, images: Array, targets: Array
    ) -> tuple[TrainState, Array]:
        value, gradients = value_and_grad(state.parameters, images, targets)
        updates, optimizer_state = optimizer.update(
            gradients, state.optimizer_state, state.parameters
        )
        parameters = optax.apply_updates(state.parameters, updates)
        return TrainState(parameters, optimizer_state), value

    return jax.jit(step, donate_argnums=0)


def initialize(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    shape: tuple[int, ...],
    seed: int,
) -> TrainState:
    """Draws the initial state for images of `shape`, batch and channel included."""
    init = jax.jit(model.init)
    parameters = init(jax.random.key(seed), jnp.zeros(shape, jnp.float32))
    state = TrainState(parameters, optimizer.init(parameters))
    # A step that swaps returns arrays bound to their device. Binding them here too
    # spares the second step a compilation.
    return jax.device_put(state, jax.devices()[0])


def fit(
    step: TrainStep,
    state: TrainState,
    batches: Iterable[tuple[Array, Array]],
    evaluate: Callable[[Parameters], tuple[float, ...]],
    config: TrainConfig,
    console: Console,
) -> tuple[TrainState, list[Record]]:
    """Trains with a progress bar.

    Args:
        step: From `make_train_step`.
        state: Initial state; its memory is taken.
        batches: Images and targets, at least `config.steps` of them.
        evaluate: Scores parameters on held-out cases.
        config: Number of steps and when to evaluate.
        console: Where the progress bar is drawn.

    Returns:
        The final state and the evaluations, the first of them before training.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    records = [Record(0, float("nan"), evaluate(state.parameters))]
    with _progress(console) as progress:
        task = progress.add_task("training", total=config.steps, status="compiling")
        for done, (images, targets) in zip(
            range(1, config.steps + 1), batches, strict=False
        ):
            start = perf_counter()
            state, value = step(state, images, targets)
            loss = float(value)
            rate = images[..., 0].size / (perf_counter() - start) / 1e6
            if not jnp.isfinite(value):
                raise FloatingPointError(f"the loss is {loss} at step {done}.")
            if done % config.evaluate_every == 0 or done == config.steps:
                records.append(Record(done, loss, evaluate(state.parameters)))
            mean = sum(records[-1].scores) / len(records[-1].scores)
            progress.update(
                task,
                advance=1,
                status=f"loss {loss:.3f}  Dice {mean:.3f}  {rate:.2f} Mvoxel/s",
            )
    return state, records


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
