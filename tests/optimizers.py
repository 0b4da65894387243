"""Optimizers of every kind, and parameters for them to update."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

SMALL = 64  # bytes: of PARAMS, all but the bias and the scale
KEY = jax.random.key(0)
PARAMS = {
    "first": jax.random.normal(KEY, (32, 16)),
    "second": {"w": jax.random.normal(KEY, (16, 8)), "b": jnp.zeros(8)},
    "scale": jnp.ones(()),
}
MASK = {"first": True, "second": {"w": False, "b": True}, "scale": True}
LABELS = {"first": "adam", "second": "sgd", "scale": "adam"}

OPTIMIZERS: dict[str, Any] = {
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2),
    "amsgrad": optax.amsgrad(1e-2),
    "lamb": optax.lamb(1e-2),
    "adafactor": optax.adafactor(1e-2),
    "momentum": optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "clipped before": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
    "clipped after": optax.chain(optax.adam(1e-2), optax.clip_by_global_norm(0.01)),
    "averaged": optax.chain(optax.adam(1e-2), optax.ema(0.9)),
    "multi-step": optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "masked": optax.masked(optax.adam(1e-2), MASK),
    "several": optax.multi_transform(
        {"adam": optax.adam(1e-2), "sgd": optax.sgd(1e-2, 0.9)}, LABELS
    ),
    "scheduled": optax.inject_hyperparams(optax.adamw)(
        learning_rate=optax.linear_schedule(1e-2, 1e-3, 10)
    ),
    "finite": optax.apply_if_finite(optax.adam(1e-2), 2),
}
ADAM = OPTIMIZERS["adam"]


# The order of the program


Struct = jax.ShapeDtypeStruct
HOST = jax.memory.Space.Host


def layer_params(count: int, width: int) -> list[dict[str, Any]]:
    layer = {
        "w": Struct((width, width), jnp.float32),
        "b": Struct((width,), jnp.float32),
    }
    return [layer] * count
