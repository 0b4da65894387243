"""Reading what a step measured, without making the device wait.

A call of a compiled step returns before the device has computed it. To read its loss
is to wait for it. So the measures of a step are read after the next one was started,
and time is taken from one reading to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from jaxswap.medical.training.training_step import StepMeasures


class StepRecord(NamedTuple):
    """What is known of a step when it is done.

    Attributes:
        step: Its number, from 1.
        loss: Loss for the parameters before the step.
        gradient_norm: Euclidean norm of the gradient.
        seconds: From the end of the step before, or from `restart`, to its own end.
    """

    step: int
    loss: float
    gradient_norm: float
    seconds: float


class StepReader:
    """Reads the measures of each step while the next one runs.

    Args:
        told: Is called with the record of each step, in order.
        clock: Returns seconds.
    """

    def __init__(
        self,
        told: Callable[[StepRecord], None],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._told, self._clock = told, clock
        self._waiting: tuple[int, StepMeasures] | None = None
        self._since = clock()

    def restart(self) -> None:
        """Take time from now on: what was done meanwhile is no part of a step."""
        self._since = self._clock()

    def add(self, step: int, measures: StepMeasures) -> None:
        """Take the measures of a step that was started. Read those of the one before.

        Args:
            step: Number of the step.
            measures: Its results, which need not be computed yet.
        """
        before, self._waiting = self._waiting, (step, measures)
        if before is not None:
            self._read(*before)

    def flush(self) -> None:
        """Wait for the step that was started last, and read it."""
        if self._waiting is not None:
            last, self._waiting = self._waiting, None
            self._read(*last)

    def _read(self, step: int, measures: StepMeasures) -> None:
        loss, norm = float(measures.loss), float(measures.gradient_norm)  # Waits.
        now = self._clock()
        seconds, self._since = now - self._since, now
        self._told(StepRecord(step, loss, norm, seconds))
