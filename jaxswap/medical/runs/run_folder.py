"""The folder of a training run: written by the run, read by later runs and commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import jaxswap
from jaxswap.extend import user_folder
from jaxswap.medical.data.writing import require_writable, whole_file
from jaxswap.medical.runs.claim import require_unclaimed
from jaxswap.medical.runs.recorded_split import RecordedSplit, load_split
from jaxswap.medical.runs.run_config import (
    RunConfig,
    make_config,
    read_config,
)
from jaxswap.medical.runs.run_log import read_history
from jaxswap.medical.runs.trained import Trained

# These may change when a run is resumed: where things are, how the run is watched, for
# how long it trains, and on which devices it computes.
_FREE = frozenset(
    "data workers steps patience validate_every validation_pictures keep_best "
    "final_validation checkpoint_every mesh device_memory host_memory slabs "
    "target".split()
)


_SPLIT = "split.json"


def cache_folder() -> Path:
    """Return the folder of prepared cases for all runs, see `user_folder`."""
    return user_folder("prepared")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: Where the folder is, or will be.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def validation(self) -> Path:
        """Folder of the validation cases' labels and scores, written at the end."""
        return self.path / "validation"

    @property
    def postprocessing(self) -> Path:
        """What is removed from predicted labels, if that was chosen."""
        return self.path / "postprocessing.json"

    @property
    def is_run(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.yaml").is_file()

    def check(self, config: RunConfig, *, is_resumed: bool) -> None:
        """Raise ValueError if the folder does not fit the run, or is in use.

        Args:
            config: The run.
            is_resumed: Whether the run must already be there.
        """
        require_writable(self.path)
        require_unclaimed(self.path)
        if not is_resumed:
            if self.is_run:
                raise ValueError(
                    f"{self.path} holds a run already: continue it with --resume, or "
                    "choose another folder."
                )
            return
        if not self.is_run:
            raise ValueError(f"{self.path} holds no run to resume.")
        old = self._settings()
        changed = [
            f"`{name}` was {getattr(old, name)!r}, is {getattr(config, name)!r}"
            for name in RunConfig.__annotations__
            if name not in _FREE and getattr(old, name) != getattr(config, name)
        ]
        done = [row.step for row in read_history(self.path).metrics]
        if done and config.steps < done[-1]:
            raise ValueError(
                f"`steps` is {config.steps}, but {self.path} has done {done[-1]} "
                "steps; give that number or more."
            )
        if changed:
            raise ValueError(
                f"{self.path} cannot be resumed with other settings: "
                f"{'; '.join(changed)}."
            )

    def write(
        self,
        trained: Trained,
        plan: jaxswap.Plan | None,
        split: RecordedSplit | None = None,
    ) -> None:
        """Write what a prediction needs to know, the plan and the split.

        Args:
            trained: What `read` will return.
            plan: Plan of the training step. None if nothing was planned.
            split: Who trains and who validates. None if they are no files.
        """
        description = trained.to_plain()
        with whole_file(self.path / "data.json") as temporary:
            temporary.write_text(
                json.dumps(description, indent=2) + "\n", encoding="utf-8"
            )
        if plan is not None:
            plan.save(self.path / "plan.json")
            plan.to_html(self.path / "plan.html")
        if split is not None:
            split.save(self.path / _SPLIT)
        # Written last, because this file makes the folder a run.
        with whole_file(self.path / "config.yaml") as temporary:
            temporary.write_text(trained.config.to_yaml(), encoding="utf-8")

    def read_split(self) -> RecordedSplit | None:
        """Read who trains and who validates. None if no run recorded that.

        Raises:
            ValueError: If the record is damaged.
        """
        return load_split(self.path / _SPLIT) if self.is_run else None

    def read(self) -> Trained:
        """Read what `write` wrote.

        Raises:
            ValueError: If the folder holds no run, or if the run is damaged.
        """
        if not self.is_run:
            raise ValueError(f"{self.path} holds no training run (no config.yaml).")
        return Trained.read(self.path / "data.json", self._settings())

    def _settings(self) -> RunConfig:
        path = self.path / "config.yaml"
        values = read_config(path)
        try:
            return make_config(values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: is damaged ({error}).") from error
