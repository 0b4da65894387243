"""The steps of a run, one after the other, with validations and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from time import perf_counter
from typing import Any

import jax
import numpy as np

from jaxswap.medical.preparing.loading import Batch
from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.runs.processes import any_process, interruption
from jaxswap.medical.runs.run_log import RunLog
from jaxswap.medical.runs.state import State
from jaxswap.medical.training.optimizer import learning_rates
from jaxswap.medical.training.prepared_run import TrainingRun
from jaxswap.medical.training.run_programs import RunPrograms
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.run_validation import Validator
from jaxswap.medical.training.step_reader import StepReader, StepRecord

_STOPPING = "stopping after this step; a second signal stops at once"


class _Interrupted(Exception):
    """A process was told to stop while validation cases were predicted."""


class TrainingLoop:
    """The steps of a run.

    Args:
        run: The run.
        programs: Its programs.
        checkpoints: Where the state is saved.
        log: Where measures go. None in all processes but the first.
        progress: What the user sees.
        extra: What a checkpoint holds besides the state.

    Attributes:
        extra: The same, as of now.
    """

    def __init__(
        self,
        run: TrainingRun,
        programs: RunPrograms,
        checkpoints: Checkpoints,
        log: RunLog | None,
        progress: RunProgress,
        extra: dict[str, Any],
    ) -> None:
        self._run, self._config, self._programs = run, run.config, programs
        self._checkpoints, self._log, self._progress = checkpoints, log, progress
        self.extra = extra
        self._validator = Validator(run.config, run.cases, programs)
        self._reader = StepReader(self._note)
        self._rates = learning_rates(run.config)
        self._compiled: jax.stages.Compiled | None = None
        self._received: list[int] = []

    def run(self, state: State, stop_after: Callable[[int], bool]) -> None:
        """Do the steps that are left.

        Args:
            state: The state to start from. Its memory is reused.
            stop_after: Is asked after each step whether to stop early.

        Raises:
            FloatingPointError: If the loss is not finite. The last checkpoint is kept.
            KeyboardInterrupt: After a signal. The state was saved, unless a second
                signal came.
        """
        first, last = int(state.step), self._config.steps
        self._progress.start(first, last)
        batches = self._run.cases.batches(self._config, first, self._run.part)
        told = lambda: self._progress.say(_STOPPING)  # noqa: E731
        with closing(batches), interruption(told) as self._received:
            if self._is_validation_missing(first):
                self._after(first, state, is_stopped=False)
            for done in range(first + 1, last + 1):
                if self._is_stale:
                    self._progress.line(self._told_end(done - 1))
                    return
                batch = self._next(batches, done, state)
                state = self._do(done, state, batch)
                is_stopped = stop_after(done)
                self._after(done, state, is_stopped=is_stopped)
                if is_stopped:
                    return

    def _next(self, batches: Iterator[Batch], done: int, state: State) -> Batch:
        """Return the batch of a step. Save if a signal ended who reads it."""
        try:
            return next(batches)
        except Exception:
            # Ctrl-C goes to all processes of a terminal, also to those that read.
            if self._received and jax.process_count() == 1:
                self._after(done - 1, state, is_stopped=False)
            raise

    def _do(self, done: int, state: State, batch: Batch) -> State:
        images, labels = self._programs.inputs.of(batch, done)
        if self._compiled is None:
            told = lambda: self._progress.say("compiling")  # noqa: E731
            self._compiled = self._programs.step(state, images, labels, told)
            self._progress.show_memory(self._programs.memory)
            self._reader.restart()
        rate = np.float32(self._rates(done))
        state, measures = self._compiled(state, images, labels, rate)
        self._reader.add(done, measures)
        return state

    def _after(self, done: int, state: State, *, is_stopped: bool) -> None:
        """Validate and save what is due after a step. Stop if a signal has come."""
        is_interrupted = any_process(bool(self._received))
        is_validated = self._is_due(done, self._config.validate_every)
        is_saved = self._is_due(done, self._config.checkpoint_every) or is_stopped
        if not (is_validated or is_saved or is_interrupted):
            return
        # No state is saved whose loss was not looked at.
        self._reader.flush()
        if is_validated and not is_interrupted:
            try:
                self._validate(done, state)
            except _Interrupted:
                is_interrupted = True
        if is_saved or is_interrupted or self._is_stale:
            self._checkpoints.save_latest(state, self.extra)
        if is_interrupted:
            raise KeyboardInterrupt("a process was told to stop")
        self._reader.restart()

    def _told_end(self, done: int) -> str:
        best, patience = self.extra.get("best_step", 0), self._config.patience
        return (
            f"Ended after step {done}: no validation was better than that of step "
            f"{best}, {patience} times (`patience`)."
        )

    def _is_due(self, done: int, every: int) -> bool:
        return done % every == 0 or done == self._config.steps

    def _is_validation_missing(self, first: int) -> bool:
        """Whether the run was interrupted before the validation after this step."""
        is_due = first > 0 and self._is_due(first, self._config.validate_every)
        return is_due and self.extra.get("validated_step", first) != first

    def _note(self, record: StepRecord) -> None:
        step, loss = record.step, record.loss
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {step}; the last checkpoint is kept. Try "
                "a smaller `learning_rate` or `precision: float32`."
            )
        voxels = math.prod(self._run.batch_shape[:-1]) / record.seconds
        self._progress.advance(step, loss, voxels)
        if self._log is not None:
            measured = {"loss": loss, "gradient_norm": record.gradient_norm}
            measured["learning_rate"] = self._rates(step)
            self._log.write(step, measured | {"voxels_per_second": voxels})

    def _validate(self, step: int, state: State) -> None:
        if not self._run.cases.validation:  # Then the newest state counts as the best.
            self.extra = {**self.extra, "best_step": step, "validated_step": step}
            self._checkpoints.save_best(state, self.extra)
            return
        started = perf_counter()
        found = self._validator.validate(state.evaluated, self._say)
        mean = float(np.mean(list(found.dice.values())))
        is_better = mean > self.extra["best"]
        stale = 0 if is_better else self.extra.get("stale", 0) + 1
        self.extra = {**self.extra, "scores": found.dice, "validated_step": step}
        self.extra |= {"stale": stale}
        self._progress.validated(step, found.dice, found.loss)
        if self._log is not None:
            self._log.write_validation(step, found.dice, found.loss)
            if found.shown is not None and self._config.validation_pictures:
                self._log.write_picture(step, self._validator.picture(found.shown))
        if is_better:
            self.extra = {**self.extra, "best": mean, "best_step": step}
            if self._config.keep_best:
                self._checkpoints.save_best(state, self.extra)
        seconds = self.extra.get("validation_seconds", 0.0) + perf_counter() - started
        self.extra = {**self.extra, "validation_seconds": seconds}

    @property
    def _is_stale(self) -> bool:
        """Whether validations have not become better for too long."""
        patience = self._config.patience
        return bool(patience) and self.extra.get("stale", 0) >= patience

    def _say(self, what: str) -> None:
        """Tell what is done, and stop it if a signal has come."""
        self._progress.say(what)
        if any_process(bool(self._received)):
            raise _Interrupted
