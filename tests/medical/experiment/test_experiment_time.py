"""The time of an experiment: all of it is used, and none is overrun."""

import math
import pathlib

import pytest

from jaxswap.medical.experiment.experiment import PATCHES, PLAIN, SWAPPED, Experiment
from jaxswap.medical.experiment.experiment_time import (
    VALIDATION_SHARE,
    Deadline,
    divide,
    validate_every,
)

SECONDS = {SWAPPED: 0.06, PATCHES: 0.05, PLAIN: 0.05}


def full_size(**changed: object) -> Experiment:
    values = {"size": 192, "patch": 128, "steps": None, "minutes": 12.0, **changed}
    return Experiment(pathlib.Path("out"), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 3e-3)])
def test_an_arm_fills_its_time(rates: tuple[float, ...]) -> None:
    experiment = full_size(learning_rates=rates)
    found = divide(experiment, SECONDS, 300.0)
    runs = found.steps * (2 * 0.06 + 0.05 + experiment.patch_steps * 0.05)
    trials = 0.0
    if len(rates) > 1:
        trials = 2 * (found.trial[SWAPPED] * 0.06 + found.trial[PATCHES] * 0.05)
    used = (runs + trials) * (1 + VALIDATION_SHARE)
    assert 0.85 * 300 < used <= 0.9 * 300  # The rest is for the scores.


def test_given_steps_hold_whatever_the_time() -> None:
    found = divide(full_size(steps=100), SECONDS, 1.0)
    assert found.steps == 100
    assert found.trial == {SWAPPED: 20, PATCHES: 22}


def test_even_in_no_time_a_step_is_done() -> None:
    found = divide(full_size(), SECONDS, 0.0)
    assert (found.steps, *found.trial.values()) == (1, 1, 1)


def test_validations_take_their_share_and_are_spread_evenly() -> None:
    for steps, cost in ((1000, 0.6), (900, 2.0), (50, 10.0)):
        every = validate_every(steps, 0.06, cost)
        count = math.ceil(steps / every)
        assert count == 1 or count * cost <= VALIDATION_SHARE * steps * 0.06 * 1.01


def test_a_deadline_keeps_time_for_the_report() -> None:
    now = [10.0]
    deadline = Deadline(100.0, 10.0, lambda: now[0])
    assert deadline.left == pytest.approx(96.0)
    now[0] = 105.9
    assert not deadline.is_over
    now[0] = 106.1
    assert deadline.is_over
    assert Deadline.of(None).left == math.inf
