"""The papers' experiment: whole volumes with swapping against patches, and without.

What is expected of each arm, and every setting, is written down before anything is
trained. The folder then refuses other settings. All methods have the same network,
optimizer, augmentation and trials of the learning rate.

References:
    Imai et al. 2018, Fast and Accurate 3D Medical Image Segmentation with Data-swapping
    Method.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from jaxswap.medical.data.plain_files import read_json
from jaxswap.medical.data.writing import require_writable, whole_file
from jaxswap.medical.preparing.augmentation import AugmentConfig
from jaxswap.medical.runs.run_config import RunConfig

HYPOTHESES: Mapping[str, str] = {
    "glioma": "Control: nothing is decided elsewhere in the head. Whole volumes and "
    "patches differ by less than 1 point of Dice.",
    "multifocal": "Foci are tumour only if a tumour enhances anywhere in the head. "
    "Whole volumes are better than patches.",
    "parcellation": "Left and right structures look alike. Whole volumes are better "
    "than patches.",
}
"""The expected result of each arm, written before anything is trained."""

STATEMENT = (
    "All cases are synthetic: tumours drawn into deformations of one real template "
    "(MNI152), or its own structures. This is not clinical evidence and not BraTS."
)
SWAPPED, PLAIN = "whole, swapped", "whole, plain"
PATCHES, TIMED_PATCHES = "patches, same voxels", "patches, same time"
METHODS = (SWAPPED, PATCHES, TIMED_PATCHES, PLAIN)
"""In the order in which they are trained, so that a cut leaves the main comparison."""

RULES = (
    "Each rate is tried for a fifth of the steps; the best on the validation cases is "
    "taken, separately for whole volumes and for patches.",
    "Whole volumes with and without swapping do the same steps. One run of patches "
    "sees as many voxels, another trains for as many seconds as whole volumes with "
    "swapping.",
    "A run whose loss is not finite has diverged. It is reported, and the others go "
    "on.",
    "Test cases are labeled once, by the last state of a run: whole, or by windows of "
    "a patch that overlap by half. Nothing is mirrored.",
)
"""How the methods are compared, written before anything is trained."""

_FREE = ("out", "workers", "minutes", "plan")  # May differ when one goes on.
REGISTRATION = "registration.json"


@dataclass(frozen=True)
class Experiment:
    """What is compared, and how.

    Attributes:
        out: Folder of data, runs and results.
        arms: The arms to run: keys of `HYPOTHESES`.
        size: Voxels along each side of a volume.
        spacing_mm: Side of a voxel.
        patch: Voxels along each side of a patch.
        training_cases: Cases to train and validate on.
        test_cases: Cases that no method sees before the end.
        steps: Training steps on whole volumes. None for as many as `minutes` allow.
        learning_rates: Each method tries these with the first seed. The best one on
            the validation cases is used.
        seeds: Runs of each method that are scored.
        settings: Further settings of every run. See `RunConfig`.
        workers: Processes that draw and prepare cases.
        minutes: Time from start to report. None for no limit.
        plan: File of the plan of the step on whole volumes. It is made and written
            there if it is missing. None for no file.

    Raises:
        ValueError: If an arm is unknown or a number does not fit.
    """

    out: Path
    arms: tuple[str, ...] = ("glioma", "multifocal")
    size: int = 96
    spacing_mm: float = 2.0
    patch: int = 64
    training_cases: int = 40
    test_cases: int = 50
    steps: int | None = 2000
    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    seeds: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    minutes: float | None = None
    plan: Path | None = None

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in HYPOTHESES:
                raise ValueError(
                    f"`arms` has {arm!r}; choose of {', '.join(HYPOTHESES)}."
                )
        if not self.arms or not self.learning_rates:
            raise ValueError("`arms` and `learning_rates` need one or more entries.")
        if self.steps is None and self.minutes is None:
            raise ValueError("`steps` and `minutes` are both None; give one of them.")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"`minutes` is {self.minutes:g}; it must be above 0.")
        for name in ("test_cases", "steps", "seeds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}, not 1 or more.")
        if self.training_cases < self.folds:
            raise ValueError(
                f"`training_cases` is {self.training_cases}; one of {self.folds} "
                f"validates, so it needs {self.folds} or more."
            )
        if self.settings.get("fold") == "all":
            raise ValueError("`fold` is all, but learning rates are chosen by a fold.")
        if not self.patch < self.size:
            raise ValueError(
                f"`patch` is {self.patch}, not less than the volume's {self.size}."
            )

    @property
    def folds(self) -> int:
        """One of so many training cases validates."""
        return self.settings.get("folds", 5)

    @property
    def batch(self) -> int:
        """Patches in a step: about as many voxels as a whole volume has."""
        return max(1, round(self.size**3 / self.patch**3))

    @property
    def patch_steps(self) -> float:
        """Steps on patches that see as many voxels as a step on a whole volume."""
        return self.size**3 / (self.batch * self.patch**3)

    def voxels(self, method: str, steps: int) -> int:
        """Count the voxels that a method sees in some steps."""
        is_whole = method in (SWAPPED, PLAIN)
        return steps * (self.size**3 if is_whole else self.batch * self.patch**3)

    def config(
        self,
        arm: str,
        method: str,
        rate: float = 1e-3,
        seed: int = 0,
        steps: int = 1,
        validate_every: int | None = None,
    ) -> RunConfig:
        """Return the settings of one run.

        Args:
            arm: The arm.
            method: One of `METHODS`.
            rate: Learning rate.
            seed: Seed of the run.
            steps: Its steps.
            validate_every: Steps between validations. None for one at the end.
        """
        mirrored = AugmentConfig()
        if arm == "parcellation":  # Left must stay left.
            mirrored = AugmentConfig(mirror_axes=(1, 2))
        values: dict[str, Any] = {"augment": mirrored, "batch": 1, **self.settings}
        values |= {"steps": steps, "learning_rate": rate, "seed": seed}
        # Only the last state is scored, and what a cut leaves is a finished run.
        values |= {"checkpoint_every": steps, "validate_every": validate_every or steps}
        values |= {"keep_best": False, "validation_pictures": False}
        if method in (PATCHES, TIMED_PATCHES):
            values |= {"patch": self.patch, "batch": self.batch}
        else:
            values |= {"shape": (self.size,) * 3}
        if method != SWAPPED:
            values |= {"offload": False, "device_memory": None}
        return RunConfig(self.out / arm / "training", **values)


def steps_of_patches(experiment: Experiment, steps: int) -> int:
    """Return the steps on patches that see as many voxels as steps on whole volumes.

    Example:
        >>> from pathlib import Path
        >>> steps_of_patches(Experiment(Path("out"), size=96, patch=64), 1000)
        1125
    """
    return ceil(steps * experiment.patch_steps)


def register(experiment: Experiment) -> None:
    """Write down what will be done and what is expected, before it is done.

    Raises:
        ValueError: If the folder holds another experiment, or cannot be written to.
    """
    settings = dataclasses.asdict(experiment)
    for name in _FREE:
        settings.pop(name)
    # With a time limit and no steps, time decides the steps. So it is registered.
    if experiment.steps is None:
        settings["minutes"] = experiment.minutes
    content = {
        "statement": STATEMENT,
        "hypotheses": {arm: HYPOTHESES[arm] for arm in experiment.arms},
        "methods": list(METHODS),
        "rules": list(RULES),
        "experiment": json.loads(json.dumps(settings, default=str)),
    }
    require_writable(experiment.out)
    path = experiment.out / REGISTRATION
    if path.exists():
        if read_json(path) != content:
            raise ValueError(
                f"{path}: registers another experiment; choose another folder, or give "
                "the settings that it names."
            )
        return
    if experiment.out.exists() and any(experiment.out.iterdir()):
        raise ValueError(f"`out` is {experiment.out}, which must be an empty folder.")
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def registration_hash(out: Path) -> str:
    """Return the SHA-256 of what was registered.

    Args:
        out: Folder of the experiment.
    """
    return hashlib.sha256((out / REGISTRATION).read_bytes()).hexdigest()
