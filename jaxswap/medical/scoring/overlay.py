"""Labels over an image, in three planes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.data.writing import whole_file

_COLORS = ("#4ea8de", "#f4a259", "#c8553d", "#5fad56", "#9b6dd7", "#f2cc8f")
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
"""Names of the planes, and the axis that is perpendicular to each."""
BACKGROUND = "#111111"
"""Colour behind every picture of an image."""


def save_overlay(
    path: str | os.PathLike[str],
    image: Volume,
    truth: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    title: str = "",
) -> Path:
    """Draw image, truth and prediction in three planes through the labels' middle.

    Args:
        path: PNG to write. It is complete or absent.
        image: The image, RAS+.
        truth: Labels on the grid of the image, 0 for background.
        prediction: Labels on the same grid.
        names: Names of labels 1, 2, ... At most six.
        title: Line above the picture.

    Returns:
        The path.

    Raises:
        ValueError: If the shapes differ or there are too many names.
    """
    shape = image.data.shape
    if truth.shape != shape or prediction.shape != shape:
        raise ValueError(
            f"image {shape}, truth {truth.shape} and prediction {prediction.shape} "
            "differ in shape."
        )
    if len(names) > len(_COLORS):
        raise ValueError(f"at most {len(_COLORS)} labels can be drawn.")
    occupied = np.argwhere(truth > 0)
    middle = (occupied if len(occupied) else np.argwhere(truth == 0)).mean(0)
    columns = (("image", None), ("truth", truth), ("prediction", prediction))
    figure = Figure(figsize=(9, 9.6), facecolor=BACKGROUND, layout="constrained")
    axes = figure.subplots(len(PLANES), len(columns))
    for row, (plane, axis) in enumerate(PLANES):
        index = round(float(middle[axis]))
        aspect = plane_aspect(image.spacing, axis)
        for column, (name, labels) in enumerate(columns):
            ax = axes[row, column]
            _draw(ax, image.data, labels, axis, index, len(names), aspect)
            if row == 0:
                ax.set_title(name, color="white", fontsize=12)
            if column == 0:
                ax.set_ylabel(plane, color="white", fontsize=11)
    patches = [Patch(color=c, label=n) for c, n in zip(_COLORS, names, strict=False)]
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=len(patches),
        frameon=False,
        labelcolor="white",
    )
    if title:
        figure.suptitle(title, color="white", fontsize=13)
    return _save(path, figure)


def _draw(
    ax: Axes,
    data: np.ndarray,
    labels: np.ndarray | None,
    axis: int,
    index: int,
    classes: int,
    aspect: float,
) -> None:
    top = float(np.percentile(data[data > 0], 99)) if (data > 0).any() else 1.0
    shown = np.take(data, index, axis).T
    ax.imshow(shown, cmap="gray", vmin=0, vmax=top, origin="lower", aspect=aspect)
    if labels is not None:
        plane = np.take(labels, index, axis).T
        ax.imshow(
            np.ma.masked_equal(plane, 0),
            cmap=ListedColormap(_COLORS[:classes]),
            vmin=1,
            vmax=max(classes, 2),
            alpha=0.6,
            origin="lower",
            aspect=aspect,
            interpolation="nearest",
        )
    ax.set(xticks=[], yticks=[], facecolor=BACKGROUND)
    for spine in ax.spines.values():
        spine.set_visible(False)


def plane_aspect(spacing: tuple[float, float, float], axis: int) -> float:
    """Return the height of a voxel over its width in the plane across `axis`.

    Args:
        spacing: Voxel size along each axis.
        axis: The axis that is perpendicular to the plane.
    """
    across, up = [size for other, size in enumerate(spacing) if other != axis]
    return up / across


def _save(path: str | os.PathLike[str], figure: Figure) -> Path:
    FigureCanvasAgg(figure)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130, facecolor=figure.get_facecolor())
    return Path(path)
