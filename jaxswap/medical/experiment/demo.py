"""The demonstration: train on whole volumes of a real head and look at the result.

The input is a head with labels, by default MNI152. The results are in one folder, each
file complete or absent: predicted labels as NIfTI in the geometry of the input, an
overlay, and curves of loss and Dice. The run is one of `training_run`, small enough for
a CPU.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxswap.medical.data.anatomy import (
    TISSUES,
    Case,
    fit_to_cube,
    load_mni152,
    resample_scores,
)
from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.label_values import load_labels
from jaxswap.medical.data.reading import CaseVolumes
from jaxswap.medical.data.volumes import Volume, load_volume, save_labels
from jaxswap.medical.data.writing import require_writable, whole_file
from jaxswap.medical.networks.unet import check_volume_shape
from jaxswap.medical.prediction.prediction import Predictor
from jaxswap.medical.preparing.augment_config import AugmentConfig
from jaxswap.medical.preparing.preparing import (
    PrepareConfig,
    Prepared,
    prepare_volumes,
)
from jaxswap.medical.runs.checkpoints import restore_parameters
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.run_log import PICTURE, read_history
from jaxswap.medical.scoring.overlay import save_overlay
from jaxswap.medical.synthesis.acquisition import AcquisitionRanges
from jaxswap.medical.synthesis.half_millimetre import Atlas
from jaxswap.medical.synthesis.head_shapes import MNI_CENTER_MM, ShapeRanges
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.parcellation import draw_head
from jaxswap.medical.synthesis.synthetic_case import random_streams
from jaxswap.medical.training.run_programs import RunPrograms
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_run import (
    TrainingRun,
    describe,
    prepare_run,
    train,
)

TISSUE_MAP = make_label_map("tissues", {name: i for i, name in enumerate(TISSUES, 1)})

_HEADS, _HELD_OUT = 16, 2
_DEPTH = 4
_NETWORK = {"base_filters": 8, "depth": _DEPTH, "head": "bare", "dropout": 0.0}
# Heads are already turned, scaled and deformed when they are drawn.
_AUGMENT = AugmentConfig(
    rotation_probability=0,
    scaling_probability=0,
    blur_probability=0,
    low_resolution_probability=0,
    mirror_axes=(0,),
)
_ACQUISITION = AcquisitionRanges(bias=0.15, noise=(0, 0.02), ghosts=0, thick_slices=0)
_CUBE_MM = 192.0  # Heads are drawn this large, whatever the size of the given one.


@dataclass(frozen=True)
class DemoConfig:
    """The settings of the demonstration.

    Attributes:
        out: Folder for the results.
        size: Voxels along each side of the volumes; a multiple of 8.
        steps: Training steps.
        seed: Seed of heads and parameters.
        image: Image to use instead of MNI152, with `labels`.
        labels: Labels 0..3 of `image`.
    """

    out: Path = Path("runs/demo")
    size: int = 64
    steps: int = 80
    seed: int = 0
    image: Path | None = None
    labels: Path | None = None

    def run_config(self) -> RunConfig:
        """Settings of the training run."""
        return RunConfig(
            data=self.image or Path("MNI152"),
            network_options=_NETWORK,
            shape=(self.size, self.size, self.size),
            steps=self.steps,
            learning_rate=5e-3,
            precision="float32",
            augment=_AUGMENT,
            validate_every=10,
            checkpoint_every=self.steps,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Demo:
    """A demonstration whose inputs have been read and checked.

    Attributes:
        config: Its settings.
        settings: The settings of its training run.
        head: The head on its own grid.
        cube: The head on the grid that the network sees.
    """

    config: DemoConfig
    settings: RunConfig
    head: Case
    cube: Case


def prepare_demo(config: DemoConfig) -> Demo:
    """Read and check everything that a demonstration needs. Write nothing.

    Args:
        config: Its settings.

    Returns:
        The demonstration, ready for `run_demo`.

    Raises:
        ValueError: If the configuration or an input file does not fit.
        FileNotFoundError: If an input file is missing.
        ModuleNotFoundError: If MNI152 is wanted and nilearn is not installed.
    """
    settings = config.run_config()
    check_volume_shape((1, config.size, config.size, config.size, 1), _DEPTH)
    require_writable(config.out)
    head = _load_head(config)
    return Demo(config, settings, head, fit_to_cube(head, config.size))


def run_demo(demo: Demo, console: Console) -> None:
    """Train, write labels and pictures, and show the scores.

    Args:
        demo: From `prepare_demo`.
        console: Where progress and results are shown.
    """
    out = demo.config.out
    console.print(
        f"A head of {_grid(demo.head)} voxels, seen whole at {_grid(demo.cube)} voxels "
        f"of {demo.cube.image.spacing[0]:.1f} mm in {_HEADS} deformations."
    )
    with TemporaryDirectory() as folder, RunProgress(console) as progress:
        run = prepare_run(demo.settings, RunFolder(Path(folder)), _cases(demo))
        progress.line(describe(run))
        programs = RunPrograms(run)
        train(run, progress, programs=programs)
        parameters, _ = restore_parameters(run.folder.checkpoints, "latest")
        predictor = programs.predictor
        assert predictor is not None
        _write_labels(demo, predictor, parameters)
        _write_overlay(demo, predictor, parameters, run.cases.validation[0])
        with whole_file(out / PICTURE) as temporary:
            shutil.copyfile(run.folder.path / PICTURE, temporary)
        scores = _scores(run)
    console.print(scores)
    console.print(f"Labels and pictures are in {out}.", markup=False, soft_wrap=True)


def _load_head(config: DemoConfig) -> Case:
    if config.image is None and config.labels is None:
        return load_mni152()
    if config.image is None or config.labels is None:
        raise ValueError("`image` and `labels` must be given together.")
    image = load_volume(config.image)
    return Case(image, load_labels(config.labels, image, len(TISSUES)))


def _cases(demo: Demo) -> RunCases:
    """Draw heads to train on, and some to validate on."""
    drawn = [
        _prepared(_deformed(demo, index), f"head {index}")
        for index in range(_HELD_OUT + _HEADS)
    ]
    return RunCases(
        tuple(drawn[_HELD_OUT:]),
        tuple(drawn[:_HELD_OUT]),
        ("T1",),
        TISSUE_MAP,
        demo.cube.labels.shape,
    )


def _deformed(demo: Demo, index: int) -> Case:
    """Draw a deformed head of the size of MNI152."""
    cube, size = demo.cube, demo.config.size
    lattice = Lattice.centered((size, size, size), _CUBE_MM / size)
    affine = np.diag([lattice.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = MNI_CENTER_MM + np.array(lattice.start_mm)
    # What has no label is cut off: on a coarse grid, a border of mixed voxels.
    image = np.where(cube.labels > 0, cube.image.data, 0)
    atlas = Atlas(Volume.from_array(image, affine), cube.labels, TISSUE_MAP)
    random = random_streams(demo.config.seed, index)
    drawn = draw_head(random, atlas, lattice, ShapeRanges(), _ACQUISITION)
    return Case(Volume.from_array(drawn.image, cube.image.affine), drawn.labels)


def _prepared(case: Case, name: str) -> Prepared:
    image = case.image
    volumes = CaseVolumes(
        ("T1",),
        image.data[..., None],
        image,
        Volume.from_array(case.labels, image.affine),
    )
    x, y, z = case.labels.shape
    return prepare_volumes(volumes, TISSUE_MAP, PrepareConfig(1, (x, y, z)), name)


def _write_labels(demo: Demo, predictor: Predictor, parameters: Any) -> None:
    """Label the head itself, and transfer the labels to its own grid."""
    seen = _prepared(demo.cube, "the head")
    found = predictor.probabilities(parameters, seen.image)
    # Above 0 if a tissue is more probable than the background.
    scores = found - (1 - found.sum(-1, keepdims=True))
    source = Volume.from_array(seen.image[..., 0], seen.grid.affine)
    labels = resample_scores(scores, source, demo.head.image)
    save_labels(demo.config.out / "head-labels.nii.gz", labels, demo.head.image)


def _write_overlay(
    demo: Demo, predictor: Predictor, parameters: Any, seen: Prepared
) -> None:
    """Draw the first held-out head, with its true and its predicted labels."""
    case = _deformed(demo, 0)
    predicted = predictor.labels(parameters, seen.image)
    save_overlay(
        demo.config.out / "overlay.png",
        case.image,
        case.labels,
        seen.grid.restore(predicted),
        TISSUES,
        "a deformation that was held out",
    )


def _scores(run: TrainingRun) -> Table:
    """Make a table of Dice at the first and at the last validation."""
    rows = read_history(run.folder.path).validation
    table = Table(title="Dice on held-out deformations")
    table.add_column("label")
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    for row in shown:
        table.add_column(f"after {row.step} steps", justify="right")
    for name in TISSUES:
        table.add_row(name, *(f"{row.values[name]:.3f}" for row in shown))
    return table


def _grid(case: Case) -> str:
    return "x".join(str(side) for side in case.labels.shape)
