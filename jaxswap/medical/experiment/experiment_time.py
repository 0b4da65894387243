"""How an experiment divides its time among arms, trials, runs and scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxswap.medical.experiment.experiment import (
    PATCHES,
    PLAIN,
    SWAPPED,
    Experiment,
    steps_of_patches,
)

_TRIALS, _SCORING = 0.2, 0.12  # Shares of an arm's time.
VALIDATION_SHARE = 0.05
"""Validations take at most this share of the training."""
_RESERVE = 0.04  # Of all time, for the scores and the report when time is up.


@dataclass(frozen=True)
class Deadline:
    """When an experiment has to end.

    Attributes:
        seconds: Its time. Infinite for no limit.
        began: Time of the clock at its start.
        clock: Returns seconds.
    """

    seconds: float
    began: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, minutes: float | None) -> Deadline:
        """Start the time now."""
        return cls(math.inf if minutes is None else 60 * minutes, time.monotonic())

    @property
    def left(self) -> float:
        """Seconds that are left for training."""
        return self.seconds * (1 - _RESERVE) - (self.clock() - self.began)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is begun."""
        return self.left <= 0


class Division(NamedTuple):
    """How many steps an arm does.

    Attributes:
        trial: Steps of a trial by method: on whole volumes, and on patches.
        steps: Steps of the runs on whole volumes.
    """

    trial: dict[str, int]
    steps: int


def divide(
    experiment: Experiment, seconds: Mapping[str, float], arm_seconds: float
) -> Division:
    """Divide the time of an arm.

    Args:
        experiment: The experiment.
        seconds: Of a step, by method: whole volumes with and without swapping, patches.
        arm_seconds: Time of the arm. Infinite for none.

    Returns:
        Its steps. Where `Experiment.steps` is given, it holds, and trials do a fifth.
    """
    swapped, patches = seconds[SWAPPED], seconds[PATCHES]
    plain, rates = seconds.get(PLAIN, swapped), len(experiment.learning_rates)
    trials = _TRIALS if rates > 1 else 0.0
    steps = experiment.steps
    if steps is None:
        # The run by time takes as long as ours.
        round_ = 2 * swapped + plain + experiment.patch_steps * patches
        left = arm_seconds * (1 - trials - _SCORING) / (1 + VALIDATION_SHARE)
        steps = max(1, int(left / (round_ * experiment.seeds)))
        each = arm_seconds * trials / (2 * rates) / (1 + VALIDATION_SHARE)
        trial = {SWAPPED: int(each / swapped), PATCHES: int(each / patches)}
    else:
        trial = {SWAPPED: steps // 5, PATCHES: steps_of_patches(experiment, steps) // 5}
    return Division({method: max(1, n) for method, n in trial.items()}, steps)


def validate_every(steps: int, step_seconds: float, validation_seconds: float) -> int:
    """Return the steps between validations that take a small share of the time.

    Args:
        steps: Steps of the run. It validates at its end in any case.
        step_seconds: Seconds of a step.
        validation_seconds: Seconds of a validation.

    Example:
        >>> validate_every(1000, 0.06, 0.6)
        200
    """
    least = validation_seconds / (VALIDATION_SHARE * step_seconds)
    count = max(1, int(steps / max(least, 1)))
    return math.ceil(steps / count)
