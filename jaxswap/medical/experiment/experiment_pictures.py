"""The pictures of an experiment: curves, differences by case, and an example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.experiment.experiment import METHODS, SWAPPED, Experiment
from jaxswap.medical.experiment.experiment_records import (
    SHOWN,
    Recorded,
    all_recorded,
)
from jaxswap.medical.experiment.experiment_report import experiment_of, registered
from jaxswap.medical.runs.progress_plot import smooth
from jaxswap.medical.scoring.summaries import summarize

_PENS = ("#1b6ca8", "#d1495b", "#e08e0b", "#3a7d44")
_COLORS: dict[str, str] = dict(zip(METHODS, _PENS, strict=True))
_LABEL_COLORS = np.array(
    [[0, 0, 0, 0], [0.2, 0.5, 1, 0.6], [0.3, 0.9, 0.4, 0.6], [1, 0.25, 0.35, 0.7]]
)
_DPI = 130


def draw_pictures(out: Path) -> list[Path]:
    """Draw curves, differences and an example of each arm that has them.

    Args:
        out: Folder of the experiment.

    Returns:
        The files.
    """
    experiment = experiment_of(out, registered(out))
    drawn = []
    for arm in experiment.arms:
        runs = [found for found in all_recorded(out, arm) if not found.run.is_trial]
        runs.sort(key=lambda found: METHODS.index(found.run.method))
        figures = {
            "curves": _curves(experiment, arm, runs),
            "pairs": _pairs(arm, runs),
            "examples": _examples(arm, runs),
        }
        for name, figure in figures.items():
            if figure is None:
                continue
            path = out / f"{name}-{arm}.png"
            with whole_file(path) as temporary:
                figure.savefig(temporary, dpi=_DPI)
            drawn.append(path)
    return drawn


def _curves(
    experiment: Experiment, arm: str, runs: Sequence[Recorded]
) -> Figure | None:
    trained = [found for found in runs if len(found.history.metrics) > 1]
    if not trained:
        return None
    figure, (above, below) = _figure(2, 7.0)
    for found in trained:
        method, voxels = found.run.method, experiment.voxels(found.run.method, 1)
        options: Any = {"color": _COLORS[method], "label": method}
        curve = found.curve(voxels)
        minutes = [seconds / 60 for _, seconds, _ in curve]
        above.plot(minutes, [dice for *_, dice in curve], "o-", ms=4, lw=1.8, **options)
        seconds = found.seconds_by_step(voxels)
        losses = np.array([row.values["loss"] for row in found.history.metrics])
        lines = smooth(losses, max(4.0, 0.02 * len(losses)))
        below.plot(np.array(list(seconds.values())) / 60, lines, lw=1.5, **options)
    above.set(ylabel="mean Dice, validation", title=f"synthetic cases, arm {arm}")
    above.set(ylim=(0, None), xlim=(0, None))
    below.set(ylabel="training loss, smoothed", xlabel="minutes of training")
    below.legend(fontsize=9, frameon=False)
    return figure


def _pairs(arm: str, runs: Sequence[Recorded]) -> Figure | None:
    scored = {found.run.method: found.dice for found in runs if found.dice}
    ours = scored.pop(SWAPPED, None)
    if not ours or not scored:
        return None
    figure, (axes,) = _figure(1, 1.6 + 1.1 * len(scored))
    random = np.random.default_rng(0)
    for row, (method, dice) in enumerate(scored.items()):
        gains = [100 * (ours[case] - dice[case]) for case in ours if case in dice]
        heights = row + random.uniform(-0.16, 0.16, len(gains))
        axes.plot(gains, heights, "o", ms=5, alpha=0.55, color=_COLORS[method])
        found = summarize(gains)
        low, high = found.confidence_95 or (found.mean, found.mean)
        axes.plot([low, high], [row + 0.3] * 2, color="black", lw=2.5)
        axes.plot([found.mean], [row + 0.3], "D", color="black", ms=6)
    axes.axvline(0, color="#888888", lw=1)
    axes.set_yticks(range(len(scored)), list(scored))
    axes.set_ylim(len(scored) - 0.4, -0.5)
    axes.set_xlabel(f"{SWAPPED} minus the other, points of Dice")
    axes.set_title(
        f"held-out synthetic cases, arm {arm}\nblack: mean and its 95 % interval",
        fontsize=10,
    )
    return figure


def _examples(arm: str, runs: Sequence[Recorded]) -> Figure | None:
    """Show one slice of a test case: reference, and what each method found."""
    shown = {}
    for found in runs:
        path = found.folder / SHOWN
        if path.exists():
            with np.load(path) as content:
                shown[found.run.method] = dict(content)
    if not shown:
        return None
    panels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    first = next(iter(shown.values()))
    panels["reference"] = _slice(first["image"], first["truth"])
    for method, content in shown.items():
        panels[method] = _slice(content["image"], content["labels"], content["truth"])
    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.5, 0.7 + 3.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (name, (image, labels)) in zip(axes, panels.items(), strict=False):
        ax.imshow(image.T, cmap="gray", origin="lower")
        ax.imshow(_LABEL_COLORS[labels.T % len(_LABEL_COLORS)], origin="lower")
        ax.set_title(name, fontsize=10)
    figure.suptitle(f"synthetic case {first['name']}, arm {arm}", fontsize=11)
    return figure


def _slice(
    image: np.ndarray, labels: np.ndarray, truth: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the slice with the most of the reference, around the brain."""
    reference = labels if truth is None else truth
    z = int((reference > 0).sum((0, 1)).argmax()) or reference.shape[2] // 2
    inside = np.argwhere(image[:, :, z] != 0)
    if not len(inside):
        return image[:, :, z].astype(np.float32), labels[:, :, z]
    (x0, y0), (x1, y1) = inside.min(0), inside.max(0) + 1
    cut = (slice(x0, x1), slice(y0, y1), z)
    return image[cut].astype(np.float32), labels[cut]


def _figure(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    return figure, axes
