"""A picture of one case: outlines of reference and prediction in three planes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.scoring.overlay import BACKGROUND, PLANES, plane_aspect
from jaxswap.medical.scoring.surface_distances import Spacing

# Thin lines need brighter colours than areas do.
_COLORS = ("#4ea8de", "#5fe08d", "#ff4d6d", "#ffd23f", "#b98cff", "#ff9f40")
# The rim of an enhancing tumour often ends where the core does. With these widths the
# core's line shows on both sides of it.
_NESTED_WIDTHS = (1.8, 2.8, 1.0, 1.4, 1.4, 1.4)
_MARGIN_MM = 12.0  # Shown around reference and prediction.
_LEAST_MM = 90.0  # Shown along each axis, if the image is that large.
_DPI = 110
_LEGEND_MOST = 12  # Regions that a legend can name.
_WIDTH, _LEGEND_HEIGHT = 11.0, 0.7  # Inches.

Style = Literal["solid"] | tuple[int, tuple[float, float]]
Pen = tuple[str, float]
_DASHED: Style = (0, (2, 1.2))


@dataclass(frozen=True)
class _Cut:
    """A plane through a volume, and the part of it that is shown."""

    name: str
    axis: int
    index: int
    view: tuple[slice, ...]
    spacing: Spacing

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        sides = [axis for axis in range(3) if axis != self.axis]
        width, height = (
            (self.view[axis].stop - self.view[axis].start) * self.spacing[axis]
            for axis in sides
        )
        return width, height

    def plane(self, data: np.ndarray) -> np.ndarray:
        """Return the shown part of a volume, with the axes of a picture."""
        cut: list[slice | int] = list(self.view)
        cut[self.axis] = self.index
        return data[tuple(cut)].T


def outlines_png(
    reference: np.ndarray,
    prediction: np.ndarray,
    label_map: LabelMap,
    spacing: Spacing,
    image: np.ndarray | None = None,
) -> bytes:
    """Draw the outlines of all regions through the centre of the largest lesion.

    The upper row shows the image alone. The lower row shows the outlines on it: the
    reference solid, the prediction dashed, with a colour for each region. Planes are
    cut to what is labeled, with a margin. The patient's right is on the right.

    Args:
        reference: Labels in RAS+ orientation, uint8, (x, y, z).
        prediction: Labels on the same grid.
        label_map: What labels mean.
        spacing: Voxel size along each axis, in millimetres.
        image: The image to draw on, the same shape. None draws on black, in one row.

    Returns:
        The bytes of a PNG.

    Raises:
        ValueError: If the shapes differ.
    """
    shape = reference.shape
    if prediction.shape != shape or (image is not None and image.shape != shape):
        raise ValueError(
            f"reference {shape}, prediction {prediction.shape} and image "
            f"{None if image is None else image.shape} differ in shape."
        )
    center = central_voxel(reference if reference.any() else prediction)
    view = _view((reference > 0) | (prediction > 0), center, spacing)
    both: list[tuple[np.ndarray, Style]]
    both = [(reference, "solid"), (prediction, _DASHED)]
    cuts = [_Cut(name, axis, center[axis], view, spacing) for name, axis in PLANES]
    pens = _pens(len(label_map.regions), label_map.is_exclusive)
    rows = 1 if image is None else 2
    widths_mm, heights_mm = zip(*(cut.size_mm for cut in cuts), strict=True)
    height = rows * _WIDTH * max(heights_mm) / sum(widths_mm) + _LEGEND_HEIGHT
    figure = Figure((_WIDTH, height), facecolor=BACKGROUND, layout="constrained")
    axes = figure.subplots(rows, len(cuts), squeeze=False, width_ratios=widths_mm)
    for column, cut in enumerate(cuts):
        for ax in axes[:, column]:
            _show(ax, image, cut, reference.shape)
        for labels, style in both:
            plane = cut.plane(labels)
            for values, pen in zip(label_map.regions.values(), pens, strict=True):
                _outline(axes[-1, column], np.isin(plane, values), pen, style)
        axes[0, column].set_title(cut.name, color="white", fontsize=10)
    _legend(figure, list(label_map.regions), pens)
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, dpi=_DPI, facecolor=BACKGROUND, format="png")
    return file.getvalue()


def central_voxel(labels: np.ndarray) -> tuple[int, int, int]:
    """Find the voxel to cut through: one in the middle of the largest piece.

    Args:
        labels: Labels, (x, y, z). 0 is background.

    Returns:
        The voxel of the largest connected piece that is nearest to the piece's
        centroid. So all three planes show some of it. If there is no label, the middle
        of the grid.
    """
    pieces, count = _pieces(labels > 0)
    if not count:
        x, y, z = (length // 2 for length in labels.shape)
        return x, y, z
    largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    voxels = np.argwhere(pieces == largest)
    nearest = np.square(voxels - voxels.mean(0)).sum(1).argmin()
    x, y, z = (int(index) for index in voxels[nearest])
    return x, y, z


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
    labels = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, np.ones((3, 3, 3)), output=labels)
    assert isinstance(count, int)
    return labels, count


def _view(
    labeled: np.ndarray, center: tuple[int, int, int], spacing: Spacing
) -> tuple[slice, ...]:
    """Return the box to show: a cube around what is labeled, inside the image."""
    box = bounding_box(labeled) if labeled.any() else [slice(c, c + 1) for c in center]
    sizes_mm = [
        (side.stop - side.start) * size for side, size in zip(box, spacing, strict=True)
    ]
    shown_mm = max(max(sizes_mm) + 2 * _MARGIN_MM, _LEAST_MM)
    view = []
    for side, length, size_mm in zip(box, labeled.shape, spacing, strict=True):
        shown = min(round(shown_mm / size_mm), length)
        low = (side.start + side.stop - shown) // 2
        low = min(max(low, 0), length - shown)
        view.append(slice(low, low + shown))
    return tuple(view)


def _show(
    ax: Axes, image: np.ndarray | None, cut: _Cut, shape: tuple[int, ...]
) -> None:
    low, high = 0.0, 1.0
    if image is None:
        plane = cut.plane(np.broadcast_to(np.uint8(0), shape))
    else:
        plane = cut.plane(image)
        occupied = image[image != 0]
        if occupied.size:
            darkest, brightest = np.percentile(occupied, [1, 99.7])
            low, high = min(0.0, float(darkest)), float(brightest)
    aspect = plane_aspect(cut.spacing, cut.axis)
    ax.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
    ax.set(xticks=[], yticks=[], facecolor=BACKGROUND)
    if cut.axis != 0:
        ax.text(0.98, 0.5, "R", color="white", ha="right", transform=ax.transAxes)
    ax.spines[:].set_visible(False)


def _outline(ax: Axes, inside: np.ndarray, pen: Pen, style: Style) -> None:
    if not inside.any():
        return
    rows, columns = (np.arange(-1, length + 1) for length in inside.shape)
    ax.contour(
        columns,
        rows,
        np.pad(inside, 1).astype(np.float32),
        levels=[0.5],
        colors=[pen[0]],
        linewidths=pen[1],
        linestyles=[style],
    )


def _legend(figure: Figure, regions: Sequence[str], pens: Sequence[Pen]) -> None:
    lines = [
        Line2D([], [], color=color, linewidth=width, label=region)
        for region, (color, width) in zip(regions, pens, strict=True)
    ]
    lines = lines if len(lines) <= _LEGEND_MOST else []
    lines.append(Line2D([], [], color="white", label="reference"))
    lines.append(Line2D([], [], color="white", linestyle=_DASHED, label="prediction"))
    figure.legend(
        handles=lines,
        loc="outside lower center",
        ncols=min(len(lines), 7),
        frameon=False,
        labelcolor="white",
        fontsize=9,
    )


def _pens(count: int, is_exclusive: bool) -> list[Pen]:
    """Choose colour and width of each region's outline."""
    if count <= len(_COLORS):
        widths = (1.4,) * count if is_exclusive else _NESTED_WIDTHS
        return list(zip(_COLORS[:count], widths, strict=False))
    spectrum = colormaps["gist_rainbow"]
    # Neighbours in the list get colours that are far apart.
    places = [(index * 0.618) % 1 for index in range(count)]
    return [(_hex(spectrum(place)), 1.2) for place in places]


def _hex(color: tuple[float, float, float, float]) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in color[:3])
