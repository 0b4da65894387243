"""What an experiment has done so far, as files in its folder.

Each run has a folder with its log, and with one of three files: `done.json` when it is
trained, `scored.json` when its test cases are scored, `ended.json` if it diverged or
cannot run. So the report can be written at any time, also after the process was killed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxswap.medical.experiment.experiment import Experiment
from jaxswap.medical.experiment.experiment_files import (
    Done,
    Ended,
    RecordError,
    Scored,
    Speeds,
    read_json,
    write_json,
)
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.run_log import History, read_history

DONE, SCORED, ENDED, SHOWN = "done.json", "scored.json", "ended.json", "shown.npz"
SPEEDS = "speeds.json"
_TRIAL, _WHAT = "trial", "run.json"


@dataclass(frozen=True)
class Run:
    """One training run of an experiment.

    Attributes:
        arm: Arm of the experiment.
        method: Method of training.
        rate: Learning rate.
        seed: Seed.
        steps: Steps that it is to do.
        validate_every: Steps between validations.
        is_trial: Whether it only tries the learning rate.
    """

    arm: str
    method: str
    rate: float
    seed: int
    steps: int
    validate_every: int
    is_trial: bool = False

    def folder(self, out: Path) -> Path:
        """Return its folder in the folder of the experiment."""
        words = [*self.method.replace(",", "").split(), f"rate{self.rate:g}"]
        words += [f"seed{self.seed}", *[_TRIAL] * self.is_trial]
        return out / self.arm / "-".join(words)

    def config(self, experiment: Experiment) -> RunConfig:
        """Return its settings."""
        every = self.validate_every
        return experiment.config(
            self.arm, self.method, self.rate, self.seed, self.steps, every
        )


@dataclass(frozen=True)
class Recorded:
    """What is known of a run.

    Attributes:
        run: The run.
        history: What it logged.
        done: Content of `done.json`. Empty if it is not trained to its end.
        dice: For each test case, the mean Dice over its regions. Empty if not scored.
        regions: For each region, the mean Dice over the test cases.
        false_ml: Mean volume of the first region in heads that do not have it.
        scored_steps: Steps of the state that was scored.
        ended: Why it ended early. Empty if it did not.
        folder: Its folder.
    """

    run: Run
    history: History
    done: Mapping[str, Any] = field(default_factory=dict)
    dice: Mapping[str, float] = field(default_factory=dict)
    regions: Mapping[str, float] = field(default_factory=dict)
    false_ml: float | None = None
    scored_steps: int = 0
    ended: str = ""
    folder: Path = Path()

    @property
    def steps(self) -> int:
        """Steps that it did."""
        return self.history.metrics[-1].step if self.history.metrics else 0

    def curve(self, voxels: int) -> list[tuple[int, float, float]]:
        """Return step, seconds of training and mean Dice of each validation.

        Args:
            voxels: Voxels that it sees in a step.
        """
        seconds = self.seconds_by_step(voxels)
        rows = []
        for row in self.history.validation:
            dice = [value for name, value in row.values.items() if name != "loss"]
            rows.append((row.step, seconds.get(row.step, np.nan), float(np.mean(dice))))
        return rows

    def seconds_by_step(self, voxels: int) -> dict[int, float]:
        """Return the seconds of training up to each step, validations left out."""
        rows = self.history.metrics
        each = [voxels / row.values["voxels_per_second"] for row in rows]
        total = np.cumsum(each).tolist()
        return {row.step: one for row, one in zip(rows, total, strict=True)}


def read_speeds(out: Path) -> Speeds:
    """Read what was timed before the runs. Empty if nothing was.

    Args:
        out: Folder of the experiment.
    """
    return read_json(out / SPEEDS, Speeds) or Speeds(device="", programs={})


def begin(run: Run, out: Path) -> RunFolder:
    """Write what a run is, and return its folder."""
    folder = run.folder(out)
    write_json(folder / _WHAT, dataclasses.asdict(run))
    return RunFolder(folder)


def recorded(folder: Path) -> Recorded | None:
    """Read what is known of a run. None if the folder is none of a run."""
    run = read_json(folder / _WHAT, Run)
    if run is None:
        return None
    done, scored = read_json(folder / DONE, Done), read_json(folder / SCORED, Scored)
    ended = read_json(folder / ENDED, Ended)
    try:
        history = read_history(folder)
    except ValueError as error:
        raise RecordError(str(error)) from error
    found = Recorded(
        run,
        history,
        done or {},
        ended=ended["reason"] if ended else "",
        folder=folder,
    )
    return dataclasses.replace(found, **(scored or {}))


def all_recorded(out: Path, arm: str) -> list[Recorded]:
    """Read what is known of all runs of an arm, in the order of their folders' names.

    Args:
        out: Folder of the experiment.
        arm: The arm.
    """
    folders = sorted((out / arm).glob("*/"))
    return [found for folder in folders if (found := recorded(folder)) is not None]
