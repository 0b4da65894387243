"""Learning rates, and gradients that are too long."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.training.optimizer import learning_rates, make_optimizer


@pytest.fixture(autouse=True)
def _lenient_promotion():
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def config(**settings: Any) -> RunConfig:
    return RunConfig(Path("d"), **settings)


def rates(**settings: Any) -> list[float]:
    made = config(**settings)
    rate = learning_rates(made)
    return [rate(step) for step in range(1, made.steps + 1)]


def applied(gradient: float, **settings: Any) -> list[float]:
    """How far each step of plain descent moves a parameter."""
    made = config(optimizer="sgd", **settings)
    optimizer, rate = make_optimizer(made), learning_rates(made)
    parameter: Any = jnp.zeros(2)
    state = optimizer.init(parameter)
    moved = []
    for step in range(1, made.steps + 1):
        update: Any
        update, state = optimizer.update(jnp.array([gradient, 0]), state, parameter)
        update = optax.tree.scale(rate(step), update)
        parameter = optax.apply_updates(parameter, update)
        moved.append(float(-update[0]))
    return moved


def test_the_rate_rises_and_then_falls() -> None:
    found = rates(steps=9, warmup_steps=3, learning_rate=1.0)
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1.0], rtol=1e-6)
    assert found[3:] == sorted(found[3:], reverse=True)
    assert 0 < found[-1] < 0.2
    np.testing.assert_allclose(
        rates(steps=4, warmup_steps=1, schedule="constant", learning_rate=1.0),
        [0.5, 1, 1, 1],
    )


def test_without_a_warm_up_the_rate_is_that_of_the_schedule() -> None:
    schedule: Any = optax.cosine_decay_schedule(1e-3, 5, 0.01)
    expected = [float(schedule(step)) for step in range(5)]
    np.testing.assert_allclose(rates(steps=5), expected, rtol=1e-6)
    assert rates(steps=2, schedule="constant") == [1e-3, 1e-3]


def test_the_rate_that_is_told_is_the_one_of_the_update() -> None:
    settings = {"steps": 6, "warmup_steps": 2, "schedule": "polynomial"}
    first = applied(1.0, **settings)[0]  # With momentum, 1.99 times the rate.
    assert first == pytest.approx(1.99 * rates(**settings)[0], rel=1e-5)
    told = rates(steps=6, warmup_steps=2, accumulate=2, schedule="constant")
    assert told == pytest.approx([5e-4, 5e-4, 1e-3, 1e-3, 1e-3, 1e-3])


def test_a_gradient_that_is_too_long_is_scaled() -> None:
    plain = applied(0.5, steps=1)
    assert applied(0.5, steps=1, gradient_clip=1.0) == plain
    assert applied(3.0, steps=1, gradient_clip=0.5) == pytest.approx(plain)


def test_the_mean_of_accumulated_gradients_is_what_is_clipped() -> None:
    once = applied(3.0, steps=1, gradient_clip=1.0, schedule="constant")
    twice = applied(3.0, steps=2, gradient_clip=1.0, accumulate=2, schedule="constant")
    assert twice == pytest.approx([0, *once])
