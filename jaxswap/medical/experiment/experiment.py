"""The papers' experiment: whole volumes with swapping against patches, and without.

What is expected of each arm, and every setting, is written down before anything is
trained. The folder then refuses other settings. All methods have the same network,
optimizer, augmentation, steps, and trials of the learning rate. A batch of patches has
as many voxels as a whole volume.

References:
    Imai et al. 2018, Fast and Accurate 3D Medical Image Segmentation with Data-swapping
    Method.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console

from jaxswap.medical.data.writing import require_writable, whole_file
from jaxswap.medical.prediction.case_prediction import open_run, predict_case
from jaxswap.medical.preparing.augmentation import AugmentConfig
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder, cache_folder
from jaxswap.medical.scoring.evaluation import Evaluation, evaluate
from jaxswap.medical.synthesis.synthesis import (
    Synthesis,
    default_templates,
    run_synthesis,
)
from jaxswap.medical.synthesis.synthetic_recipe import make_recipe
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_run import load_run, train

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
SWAPPED, PATCHES, PLAIN = "whole, swapped", "patches", "whole, plain"
_TEST_SEED = 1_000_003  # Added to the seed of the training cases.


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
        steps: Training steps of each run.
        learning_rates: Each method tries these with the first seed. The best one on
            the validation cases is used.
        seeds: Runs of each method that are scored.
        settings: Further settings of every run. See `RunConfig`.
        workers: Processes that draw cases.

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
    steps: int = 2000
    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    seeds: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in HYPOTHESES:
                raise ValueError(
                    f"`arms` has {arm!r}; choose of {', '.join(HYPOTHESES)}."
                )
        if not self.arms or not self.learning_rates:
            raise ValueError("`arms` and `learning_rates` need one or more entries.")
        for name in ("test_cases", "steps", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, not 1 or more.")
        if self.training_cases < 5:
            raise ValueError(
                f"`training_cases` is {self.training_cases}; one of five validates, so "
                "it needs 5 or more."
            )
        if self.settings.get("fold") == "all":
            raise ValueError("`fold` is all, but learning rates are chosen by a fold.")
        if not self.patch < self.size:
            raise ValueError(
                f"`patch` is {self.patch}, not less than the volume's {self.size}."
            )

    def config(self, arm: str, method: str, rate: float, seed: int) -> RunConfig:
        """Return the settings of one run."""
        volume, patch = self.size**3, self.patch**3
        mirrored = AugmentConfig()
        if arm == "parcellation":  # Left must stay left.
            mirrored = AugmentConfig(mirror_axes=(1, 2))
        values: dict[str, Any] = {"augment": mirrored, "batch": 1, **self.settings}
        values |= {"steps": self.steps, "learning_rate": rate, "seed": seed}
        values |= {"validate_every": self.steps, "checkpoint_every": self.steps}
        if method == PATCHES:
            batch = max(1, round(volume / patch))
            values |= {"patch": self.patch, "batch": batch, "device_memory": None}
        else:
            values |= {"shape": (self.size,) * 3}
        if method == PLAIN:
            values |= {"offload": False, "device_memory": None}
        return RunConfig(self.out / arm / "training", **values)


@dataclass(frozen=True)
class Result:
    """One run, scored on the test cases.

    Attributes:
        arm: Arm of the experiment.
        method: Method of training.
        seed: Seed of the run.
        learning_rate: The rate that was best on the validation cases.
        steps: Training steps.
        voxels: Voxels that the network saw in training.
        seconds: Wall time of training, with compilation and validation, without
            preparing cases and planning.
        dice: For each test case, the mean Dice over its regions.
        regions: For each region, the mean Dice over the cases.
        false_ml: Mean volume of the first region in heads that do not have it.
    """

    arm: str
    method: str
    seed: int
    learning_rate: float
    steps: int
    voxels: int
    seconds: float
    dice: Mapping[str, float]
    regions: Mapping[str, float]
    false_ml: float | None


def register(experiment: Experiment) -> None:
    """Write down what will be done and what is expected, before it is done.

    Raises:
        ValueError: If the folder holds another experiment, or cannot be written to.
    """
    settings = dataclasses.asdict(experiment)
    for name in ("out", "workers"):
        settings.pop(name)
    content = {
        "statement": STATEMENT,
        "hypotheses": {arm: HYPOTHESES[arm] for arm in experiment.arms},
        "methods": [SWAPPED, PATCHES, PLAIN],
        "experiment": json.loads(json.dumps(settings, default=str)),
    }
    require_writable(experiment.out)
    path = experiment.out / "registration.json"
    if path.exists():
        if json.loads(path.read_text()) != content:
            raise ValueError(
                f"{path}: registers another experiment; choose another folder, or give "
                "the settings that it names."
            )
        return
    if experiment.out.exists() and any(experiment.out.iterdir()):
        raise ValueError(f"`out` is {experiment.out}, which must be an empty folder.")
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def run_experiment(experiment: Experiment, console: Console) -> Iterator[Result]:
    """Do the parts of an experiment that are missing.

    Args:
        experiment: The experiment.
        console: Where progress is shown.

    Yields:
        Each result, also those that already exist.

    Raises:
        ValueError: If the folder holds another experiment, or a setting does not fit.
    """
    register(experiment)
    for arm in experiment.arms:
        _draw(experiment, arm, console)
        rates: dict[str, float] = {}
        for method in (SWAPPED, PATCHES):
            rates[method] = _best_rate(experiment, arm, method, console)
        rates[PLAIN] = rates[SWAPPED]
        for method, rate in rates.items():
            for seed in range(experiment.seeds):
                training = _Training(experiment, arm, method, rate, seed)
                yield _result(training, console)


def _draw(experiment: Experiment, arm: str, console: Console) -> None:
    """Draw training and test cases. Existing ones are kept."""
    side = experiment.size
    recipe = make_recipe(arm, (side, side, side), experiment.spacing_mm)
    templates = default_templates() if arm == "parcellation" else None
    parts = {
        "training": (experiment.training_cases, 0),
        "test": (experiment.test_cases, _TEST_SEED),
    }
    for part, (cases, seed) in parts.items():
        console.print(f"{arm}: drawing {cases} {part} cases")
        made = Synthesis(
            experiment.out / arm / part,
            recipe,
            cases,
            seed,
            experiment.workers,
            templates,
        )
        for _ in run_synthesis(made):
            pass


@dataclass(frozen=True)
class _Training:
    """One training run of an experiment."""

    experiment: Experiment
    arm: str
    method: str
    rate: float
    seed: int

    @property
    def folder(self) -> Path:
        name = self.method.replace(", ", "-")
        name = f"{name}-rate{self.rate:g}-seed{self.seed}"
        return self.experiment.out / self.arm / name


def _best_rate(
    experiment: Experiment, arm: str, method: str, console: Console
) -> float:
    """Return the learning rate whose run with the first seed validates best."""
    rates = experiment.learning_rates
    if len(rates) == 1:
        return rates[0]
    tried = {rate: _Training(experiment, arm, method, rate, 0) for rate in rates}
    scores = {rate: _trained(tried[rate], console)["validation"] for rate in rates}
    return max(scores, key=lambda rate: scores[rate])


def _trained(training: _Training, console: Console) -> dict[str, Any]:
    """Train, or recall an earlier training. Return seconds and validation Dice."""
    arm, method = training.arm, training.method
    rate, seed = training.rate, training.seed
    folder = RunFolder(training.folder)
    done = folder.path / "done.json"
    if done.exists():
        return json.loads(done.read_text())
    config = training.experiment.config(arm, method, rate, seed)
    with RunProgress(console) as progress:
        progress.line(f"{arm}: {method}, learning rate {rate}, seed {seed}")
        # Only the first method prepares the cases, so that is no part of its training.
        run = load_run(config, folder, cache_folder(), progress)
        started = perf_counter()
        scores = train(run, progress)
    sides = np.prod([float(side) for side in run.shape])
    content = {
        "seconds": perf_counter() - started,
        "validation": float(np.mean(list(scores.values()))),
        "voxels": int(sides) * config.batch_size * config.steps,
    }
    with whole_file(done) as temporary:
        temporary.write_text(json.dumps(content) + "\n")
    return content


def _result(training: _Training, console: Console) -> Result:
    """Train, label the test cases and score them."""
    trained = _trained(training, console)
    experiment, run = training.experiment, training.folder
    test, labels = experiment.out / training.arm / "test", run / "test"
    opened = open_run(run, test, checkpoint="latest")
    for case in opened.cases:
        predict_case(opened, case, labels)
    scored = evaluate(labels, test, opened.trained.label_map)
    return Result(
        training.arm,
        training.method,
        training.seed,
        training.rate,
        experiment.steps,
        trained["voxels"],
        trained["seconds"],
        {case.case: case.mean_dice for case in scored.scores},
        {r: scored.summaries(r)["dice"].mean for r in scored.label_map.regions},
        _false_ml(scored),
    )


def _false_ml(scored: Evaluation) -> float | None:
    first = next(iter(scored.label_map.regions))
    empty = [m.prediction_ml for m in scored.of_region(first) if m.reference_ml == 0]
    return float(np.mean(empty)) if empty else None
