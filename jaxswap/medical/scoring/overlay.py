"""Labels over an image, in three planes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from jaxswap.medical.data.shown_names import legend_label
from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.scoring.panels import (
    Plane,
    add_legend,
    brightness,
    panel_figure,
    plane_aspect,
    planes_through,
    show_plane,
    to_png,
)

_COLORS = ("#4ea8de", "#f4a259", "#c8553d", "#5fad56", "#9b6dd7", "#f2cc8f")


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
    center = [round(float(index)) for index in middle]
    planes = planes_through(center, image.spacing, shape)
    columns = {"image": None, "truth": truth, "prediction": prediction}
    figure, axes = panel_figure([[plane] * len(columns) for plane in planes], title)
    limits = brightness(image.data)
    for row, plane in zip(axes, planes, strict=True):
        for ax, (name, labels) in zip(row, columns.items(), strict=True):
            show_plane(ax, plane, image.data, limits)
            ax.set_title(f"{name}: {plane.title}", color="white", fontsize=9, pad=4)
            if labels is not None:
                _fill(ax, plane, labels, len(names))
    patches = [
        Patch(color=c, label=legend_label(n))
        for c, n in zip(_COLORS, names, strict=False)
    ]
    add_legend(figure, patches, ncols=len(patches))
    with whole_file(path) as temporary:
        temporary.write_bytes(to_png(figure))
    return Path(path)


def _fill(ax: Axes, plane: Plane, labels: np.ndarray, classes: int) -> None:
    ax.imshow(
        np.ma.masked_equal(plane.cut(labels), 0),
        cmap=ListedColormap(_COLORS[:classes]),
        vmin=1,
        vmax=max(classes, 2),
        alpha=0.6,
        origin="lower",
        aspect=plane_aspect(plane.spacing, plane.axis),
        interpolation="nearest",
    )
