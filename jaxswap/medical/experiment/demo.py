"""The demonstration: train on whole volumes, look at the result, compare methods.

In: a head with labels, by default MNI152. Out, in one folder, each file whole or not
at all: predicted labels as NIfTI in the geometry of the input, an overlay and a Dice
curve as PNG, and the comparison of methods as JSON lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jaxswap.medical.data.anatomy import (
    TISSUES,
    Case,
    fit_to_cube,
    load_mni152,
    resample_scores,
)
from jaxswap.medical.data.volumes import load_labels, load_volume, save_labels
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.experiment import comparison
from jaxswap.medical.experiment.deformation import deform, normalize_intensities
from jaxswap.medical.networks.layers import CPU
from jaxswap.medical.networks.unet import UNet3D, check_volume_shape
from jaxswap.medical.scoring.overlay import save_curve, save_overlay
from jaxswap.medical.training.losses import dice_cross_entropy_loss, dice_scores
from jaxswap.medical.training.training import (
    Record,
    TrainConfig,
    fit,
    initialize,
    make_optimizer,
    make_train_step,
)

_HELD_OUT = 2  # cases 0 and 1 are for evaluation, the rest for training
_COMPARISON_SIZE = 192


@dataclass(frozen=True)
class DemoConfig:
    """What the demonstration does.

    Attributes:
        out: Folder for the results.
        size: Voxels a side of the volumes; a multiple of 8.
        train: How to train.
        base_filters: Channels of the network's finest level.
        image: Image to use instead of MNI152, with `labels`.
        labels: Labels 0..3 of `image`.
        target: GPU for the comparison of methods; None leaves it out.
    """

    out: Path = Path("runs/demo")
    size: int = 64
    train: TrainConfig = field(default_factory=TrainConfig)
    base_filters: int = 8
    image: Path | None = None
    labels: Path | None = None
    target: str | None = "h100"


@dataclass(frozen=True)
class Demo:
    """A demonstration whose inputs have been read and checked.

    Attributes:
        config: What to do.
        model: The network.
        head: The head on its own grid.
        cube: The head on the grid that the network sees.
    """

    config: DemoConfig
    model: UNet3D
    head: Case
    cube: Case


def prepare_demo(config: DemoConfig) -> Demo:
    """Read and check everything that a demonstration needs; write nothing.

    Args:
        config: What to do.

    Returns:
        The demonstration, ready for `run_demo`.

    Raises:
        ValueError: If the configuration or an input file does not fit.
        FileNotFoundError: If an input file is missing.
        ModuleNotFoundError: If MNI152 is wanted and nilearn is not installed.
        ImportError: If the target needs a plugin of JAX that is not installed.
    """
    model = UNet3D(
        classes=len(TISSUES),
        base_filters=config.base_filters,
        depth=4,
        head="bare",
        dropout=0.0,
        dtype=jnp.float32,
        layers=CPU,
    )
    check_volume_shape((1, config.size, config.size, config.size, 1), model.depth)
    if config.out.exists() and not config.out.is_dir():
        raise ValueError(f"{config.out} is a file; results need a folder.")
    if config.target is not None:
        comparison.check_target(config.target)
    head = _load_head(config)
    return Demo(config, model, head, fit_to_cube(head, config.size))


def run_demo(demo: Demo, console: Console) -> list[Record]:
    """Trains, writes labels and pictures, and compares methods.

    Args:
        demo: From `prepare_demo`.
        console: Where progress and results are shown.

    Returns:
        The evaluations on held-out cases, the first of them before training.
    """
    config = demo.config
    console.print(
        f"A head of {_grid(demo.head)} voxels, seen whole at {_grid(demo.cube)} voxels "
        f"of {demo.cube.image.spacing[0]:.1f} mm in {config.train.steps} deformations."
    )
    parameters, records = _train(demo, console)
    _show_scores(records, console)
    _write_results(demo, parameters, records)
    console.print(f"Labels and pictures are in {config.out}.")
    if config.target is not None:
        _compare(config.out, config.target, console)
    return records


def _load_head(config: DemoConfig) -> Case:
    if config.image is None and config.labels is None:
        return load_mni152()
    if config.image is None or config.labels is None:
        raise ValueError("an image and its labels are needed together.")
    image = load_volume(config.image)
    return Case(image, load_labels(config.labels, image, len(TISSUES)))


def _train(demo: Demo, console: Console) -> tuple[Any, list[Record]]:
    model, cube, config = demo.model, demo.cube, demo.config
    seed = config.train.seed
    optimizer = make_optimizer(config.train)
    held_out = [_batch(deform(cube, seed, index)) for index in range(_HELD_OUT)]
    predict = jax.jit(model.apply)

    def evaluate(parameters: Any) -> tuple[float, ...]:
        scores = [
            dice_scores(
                to_labels(predict(parameters, images)),
                to_labels(targets - 0.5),
                model.classes,
            )
            for images, targets in held_out
        ]
        return tuple(float(score) for score in jnp.stack(scores).mean((0, 1)))

    def training_cases() -> Iterator[tuple[Array, Array]]:
        for index in range(_HELD_OUT, _HELD_OUT + config.train.steps):
            yield _batch(deform(cube, seed, index))

    state, records = fit(
        make_train_step(model, optimizer, loss=dice_cross_entropy_loss),
        initialize(model, optimizer, held_out[0][0].shape, seed),
        training_cases(),
        evaluate,
        config.train,
        console,
    )
    return state.parameters, records


def to_labels(logits: Array) -> Array:
    """Turn logits into labels: the best class plus one, or 0 if all are negative.

    Args:
        logits: (..., class).

    Returns:
        Labels 0..classes, (...).
    """
    return jnp.where(logits.max(-1) > 0, 1 + logits.argmax(-1), 0)


def _batch(case: Case) -> tuple[Array, Array]:
    """Return one image and its one-hot labels as a batch."""
    image = normalize_intensities(case.image.data)[None, ..., None]
    labels = np.arange(1, len(TISSUES) + 1)
    targets = (case.labels[None, ..., None] == labels).astype(np.float32)
    return jnp.asarray(image), jnp.asarray(targets)


def _write_results(demo: Demo, parameters: Any, records: list[Record]) -> None:
    head, cube, config = demo.head, demo.cube, demo.config
    predict = jax.jit(demo.model.apply)
    images, _ = _batch(cube)
    scores = np.asarray(predict(parameters, images))[0]
    labels = resample_scores(scores, cube.image, head.image)
    save_labels(config.out / "head-labels.nii.gz", labels, head.image)
    unseen = deform(cube, config.train.seed, 0)
    images, _ = _batch(unseen)
    predicted = np.asarray(to_labels(predict(parameters, images)))[0]
    title = f"held-out deformation (mean Dice {np.mean(records[-1].scores):.2f})"
    save_overlay(
        config.out / "overlay.png",
        unseen.image,
        unseen.labels,
        predicted,
        TISSUES,
        title,
    )
    save_curve(config.out / "dice.png", records, TISSUES)


def _compare(out: Path, target: str, console: Console) -> None:
    rows = []
    progress = Progress(
        TextColumn("compiling {task.fields[method]}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
    )
    names = list(comparison.methods())
    with progress:
        task = progress.add_task("", total=len(names), method=names[0])
        for row in comparison.compare(_COMPARISON_SIZE, target):
            rows.append(row)
            following = names[len(rows)] if len(rows) < len(names) else "done"
            progress.update(task, advance=1, method=following)
    console.print(comparison.tabulate(rows))
    with whole_file(out / "comparison.jsonl") as temporary:
        temporary.write_text("".join(row.to_json() + "\n" for row in rows))


def _show_scores(records: list[Record], console: Console) -> None:
    first, last = records[0], records[-1]
    table = Table(title="Dice on held-out deformations")
    table.add_column("label")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name, before, after in zip(TISSUES, first.scores, last.scores, strict=True):
        table.add_row(name, f"{before:.3f}", f"{after:.3f}")
    console.print(table)


def _grid(case: Case) -> str:
    return "x".join(str(side) for side in case.labels.shape)
