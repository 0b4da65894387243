"""Pictures of planes through a volume: where panels lie, and what stands on them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxswap.medical.data.shown_names import show_as_written
from jaxswap.medical.scoring.surface_distances import Spacing

PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
"""Names of the planes, and the axis that is perpendicular to each."""
BACKGROUND = "#111111"
"""Colour behind every picture of an image."""
_DPI = 110
_WIDTH = 11.0  # Inches, as all lengths of a figure.
_GAP, _HEAD, _TITLE, _LEGEND = 0.08, 0.26, 0.42, 0.5
# White letters have a black rim, so that they can be read on bright and dark tissue.
_RIM = (patheffects.withStroke(linewidth=2.5, foreground="black"),)


@dataclass(frozen=True)
class Plane:
    """A plane through a volume, and the part of it that is shown.

    Attributes:
        name: Such as "axial".
        axis: The axis that is perpendicular to it.
        index: Where it cuts that axis.
        view: The part of the volume that is shown.
        spacing: Voxel size along each axis, in millimetres.
        depth: Number of voxels along the axis.
    """

    name: str
    axis: int
    index: int
    view: tuple[slice, ...]
    spacing: Spacing
    depth: int

    @property
    def title(self) -> str:
        """Its name and the slice, counted from 1."""
        return f"{self.name}, slice {self.index + 1} of {self.depth}"

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        sides = [axis for axis in range(3) if axis != self.axis]
        width, height = (
            (self.view[axis].stop - self.view[axis].start) * self.spacing[axis]
            for axis in sides
        )
        return width, height

    def cut(self, data: np.ndarray) -> np.ndarray:
        """Return the shown part of a volume, with the axes of a picture."""
        place: list[slice | int] = list(self.view)
        place[self.axis] = self.index
        return data[tuple(place)].T


def planes_through(
    center: Sequence[int],
    spacing: Spacing,
    shape: Sequence[int],
    view: tuple[slice, ...] | None = None,
) -> list[Plane]:
    """Return the three planes through a voxel.

    Args:
        center: The voxel.
        spacing: Voxel size along each axis, in millimetres.
        shape: Shape of the volume.
        view: The part of the volume that is shown. None shows all of it.
    """
    whole = view or tuple(slice(0, side) for side in shape)
    return [
        Plane(name, axis, center[axis], whole, spacing, shape[axis])
        for name, axis in PLANES
    ]


def brightness(image: np.ndarray | None) -> tuple[float, float]:
    """Return the values that are shown black and white: few voxels are beyond them."""
    occupied = np.zeros(0) if image is None else image[image != 0]
    if not occupied.size:
        return 0.0, 1.0
    darkest, brightest = np.percentile(occupied, [1, 99.7])
    return min(0.0, float(darkest)), float(brightest)


def panel_figure(
    rows: Sequence[Sequence[Plane]], title: str = ""
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure with a panel for each plane.

    Panels have one scale. Those of a row lie on one line, those of a column below one
    another. There is room for a legend below.

    Args:
        rows: The planes of each row, equally many.
        title: Line above the panels, such as the name of the case.

    Returns:
        The figure and the axes of each panel, by row.
    """
    sizes = np.array([[plane.size_mm for plane in row] for row in rows])
    widths_mm, heights_mm = sizes[..., 0].max(0), sizes[..., 1].max(1)
    inches = (_WIDTH - _GAP * (len(widths_mm) + 1)) / widths_mm.sum()  # In each mm.
    widths, heights = widths_mm * inches, heights_mm * inches
    top = _TITLE if title else 0.0
    height = top + sum(heights) + _HEAD * len(heights) + _LEGEND
    figure = Figure((_WIDTH, height), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    if title:
        figure.text(
            _GAP / _WIDTH,
            1 - _TITLE / 2 / height,
            title,
            color="white",
            fontsize=12,
            va="center",
        )
    made: list[list[Axes]] = []
    bottom = height - top
    for row, row_height in zip(rows, heights, strict=True):
        bottom -= _HEAD + row_height
        left, axes = _GAP, []
        for plane, width in zip(row, widths, strict=True):
            box = _centred(left, bottom, width, row_height, plane, inches)
            place = np.divide(box, (_WIDTH, height, _WIDTH, height))
            axes.append(figure.add_axes(tuple(place)))
            left += width + _GAP
        made.append(axes)
    return figure, made


def show_plane(
    ax: Axes, plane: Plane, image: np.ndarray | None, limits: tuple[float, float]
) -> None:
    """Draw a plane of an image, its title, and which side is the patient's right.

    Args:
        ax: From `panel_figure`.
        plane: The plane.
        image: The volume. None draws black.
        limits: From `brightness`.
    """
    width, height = (plane.view[a] for a in range(3) if a != plane.axis)
    shape = height.stop - height.start, width.stop - width.start
    shown = np.zeros(shape) if image is None else plane.cut(image)
    ax.imshow(
        shown,
        cmap="gray",
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",
        aspect=plane_aspect(plane.spacing, plane.axis),
    )
    ax.autoscale(False)  # Outlines that are drawn later must not move the limits.
    ax.set(xticks=[], yticks=[], facecolor=BACKGROUND)
    ax.spines[:].set_visible(False)
    ax.set_title(plane.title, color="white", fontsize=9, pad=4)
    if plane.axis != 0:
        for letter, x, side in (("L", 0.02, "left"), ("R", 0.98, "right")):
            ax.text(
                x,
                0.5,
                letter,
                color="white",
                fontsize=11,
                fontweight="bold",
                ha=side,
                va="center",
                transform=ax.transAxes,
                path_effects=_RIM,
            )


def add_legend(figure: Figure, handles: Sequence[Any], **options: Any) -> None:
    """Write a legend in the room below the panels.

    Args:
        figure: From `panel_figure`.
        handles: Matplotlib's handles.
        **options: Further arguments of `Figure.legend`.
    """
    height = float(figure.get_size_inches()[1])
    figure.legend(
        handles=handles,
        loc="center",
        bbox_to_anchor=(0.5, _LEGEND / 2 / height),
        frameon=False,
        labelcolor="white",
        fontsize=9,
        **options,
    )


def to_png(figure: Figure) -> bytes:
    """Return a figure of `panel_figure` as PNG."""
    file = io.BytesIO()
    show_as_written(figure)
    figure.savefig(file, dpi=_DPI, facecolor=BACKGROUND, format="png")
    return file.getvalue()


def plane_aspect(spacing: Spacing, axis: int) -> float:
    """Return the height of a voxel over its width in the plane across `axis`.

    Args:
        spacing: Voxel size along each axis.
        axis: The axis that is perpendicular to the plane.
    """
    across, up = [size for other, size in enumerate(spacing) if other != axis]
    return up / across


def _centred(
    left: float, bottom: float, width: float, height: float, plane: Plane, inches: float
) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of a plane in the middle of its place."""
    own_width, own_height = (size * inches for size in plane.size_mm)
    across, up = (width - own_width) / 2, (height - own_height) / 2
    return left + across, bottom + up, own_width, own_height
