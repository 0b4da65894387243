"""The optimizer of a run, and how its learning rate changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxswap
from jaxswap.medical.runs.run_config import RunConfig


def make_optimizer(config: RunConfig) -> optax.GradientTransformation:
    """Make the optimizer of a run, with its clipping and accumulation.

    Its updates are those of the learning rate 1. The step multiplies them by the rate,
    see `learning_rates`. So one compiled step serves all rates.

    Args:
        config: The run.
    """
    if config.optimizer == "adam":
        made = optax.adamw(1.0, weight_decay=config.weight_decay)
    else:
        made = optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(1.0, momentum=0.99, nesterov=True),
        )
    if config.gradient_clip:
        made = optax.chain(optax.clip_by_global_norm(config.gradient_clip), made)
    if config.accumulate > 1:
        made = optax.MultiSteps(made, config.accumulate).gradient_transformation()
    return jaxswap.host_state(made) if config.host_optimizer else made


def learning_rates(config: RunConfig) -> Callable[[int], float]:
    """Return the learning rate of each step of a run, by its number from 1.

    Args:
        config: The run.

    Example:
        >>> from pathlib import Path
        >>> rates = learning_rates(RunConfig(Path("d"), steps=3, warmup_steps=2))
        >>> [f"{rates(step):.5f}" for step in (1, 2, 3)]
        ['0.00033', '0.00067', '0.00100']
    """
    rate = _schedule(config)
    if not callable(rate):
        return lambda step: rate
    # All at once: the device is busy with the next step when a rate is asked for.
    count = (config.steps - 1) // config.accumulate + 1
    updates = jnp.arange(count, dtype=jnp.float32)
    rates = np.asarray(jax.jit(jax.vmap(rate))(updates))
    return lambda step: float(rates[(step - 1) // config.accumulate])


def _schedule(config: RunConfig) -> Any:
    """Return the rate as a function of the updates that were done, or as a number."""
    warmup = config.warmup_steps // config.accumulate
    updates = max(1, config.steps // config.accumulate - warmup)
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, updates, 0.01)
    elif config.schedule == "polynomial":
        rate = optax.polynomial_schedule(rate, 0.0, 0.9, updates)
    if not warmup:
        return rate
    full = config.learning_rate
    # Not from 0, because an update without an effect teaches nothing.
    rising: Any = optax.linear_schedule(full / (warmup + 1), full, warmup)
    falling: Any = rate if callable(rate) else optax.constant_schedule(full)
    return optax.join_schedules([rising, falling], [warmup])
