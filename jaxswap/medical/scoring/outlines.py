"""A picture of one case: outlines of reference and prediction in three planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from scipy import ndimage

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.data.shown_names import legend_label
from jaxswap.medical.scoring.panels import (
    add_legend,
    brightness,
    panel_figure,
    planes_through,
    show_plane,
    to_png,
)
from jaxswap.medical.scoring.surface_distances import Spacing

# Thin lines need brighter colours than areas do.
_COLORS = ("#4ea8de", "#5fe08d", "#ff4d6d", "#ffd23f", "#b98cff", "#ff9f40")
# The rim of an enhancing tumour often ends where the core does. With these widths the
# core's line shows on both sides of it.
_NESTED_WIDTHS = (1.8, 2.8, 1.0, 1.4, 1.4, 1.4)
_MARGIN_MM = 12.0  # Shown around reference and prediction.
_LEAST_MM = 90.0  # Shown along each axis, if the image is that large.
_LEGEND_MOST = 12  # Regions that a legend can name.
_BAND = 3.5  # The reference's line is so much wider, in points.
_DASHED = (0, (2, 1.2))

Pen = tuple[str, float]


def outlines_png(
    reference: np.ndarray,
    prediction: np.ndarray,
    label_map: LabelMap,
    spacing: Spacing,
    image: np.ndarray | None = None,
    title: str = "",
) -> bytes:
    """Draw the outlines of all regions through the centre of the largest lesion.

    The upper row shows the image alone. The lower row shows the outlines on it: the
    reference as a wide band, the prediction as dashes, with a colour for each region.
    Where both agree, dashes lie on a band. Planes are cut to what is labeled, with a
    margin. The patient's right is on the right.

    Args:
        reference: Labels in RAS+ orientation, uint8, (x, y, z).
        prediction: Labels on the same grid.
        label_map: What labels mean.
        spacing: Voxel size along each axis, in millimetres.
        image: The image to draw on, the same shape. None draws on black, in one row.
        title: Line above the picture, such as the name of the case.

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
    planes = planes_through(center, spacing, shape, view)
    pens = _pens(len(label_map.regions), label_map.is_exclusive)
    rows = 1 if image is None else 2
    figure, axes = panel_figure([planes] * rows, title)
    limits = brightness(image)
    for row in axes:
        for ax, plane in zip(row, planes, strict=True):
            show_plane(ax, plane, image, limits)
    for ax, plane in zip(axes[-1], planes, strict=True):
        for labels, draw in ((reference, _draw_band), (prediction, _draw_dashes)):
            shown = plane.cut(labels)
            for values, pen in zip(label_map.regions.values(), pens, strict=True):
                draw(ax, np.isin(shown, values), pen)
    _add_legend(figure, list(label_map.regions), pens)
    return to_png(figure)


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


def _draw_band(ax: Axes, inside: np.ndarray, pen: Pen) -> None:
    """Draw the reference: a wide band."""
    color, width = pen
    _outline(ax, inside, color, width + _BAND, alpha=0.5)


def _draw_dashes(ax: Axes, inside: np.ndarray, pen: Pen) -> None:
    """Draw the prediction: colour and black by turns, to be seen on a band, too."""
    color, width = pen
    _outline(ax, inside, "black", width)
    _outline(ax, inside, color, width, linestyles=[_DASHED])


def _outline(
    ax: Axes, inside: np.ndarray, color: str, width: float, **options: Any
) -> None:
    if not inside.any():
        return
    rows, columns = (np.arange(-1, length + 1) for length in inside.shape)
    ax.contour(
        columns,
        rows,
        np.pad(inside, 1).astype(np.float32),
        levels=[0.5],
        colors=[color],
        linewidths=width,
        **options,
    )


def _add_legend(figure: Figure, regions: Sequence[str], pens: Sequence[Pen]) -> None:
    band = Line2D([], [], color="white", linewidth=1.4 + _BAND, alpha=0.5)
    black = Line2D([], [], color="black", linewidth=1.4)
    dashes = Line2D([], [], color="white", linewidth=1.4, linestyle=_DASHED)
    lines = {
        region: Line2D([], [], color=color, linewidth=width)
        for region, (color, width) in zip(regions, pens, strict=True)
    }
    shown: dict[str, Any] = dict(lines) if len(lines) <= _LEGEND_MOST else {}
    shown["reference alone"] = band
    shown["prediction alone"] = (black, dashes)
    shown["both"] = (band, black, dashes)
    add_legend(
        figure,
        list(shown.values()),
        labels=[legend_label(name) for name in shown],
        ncols=min(len(shown), 7),
        handler_map={tuple: HandlerTuple(ndivide=1)},
        handlelength=3,
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
