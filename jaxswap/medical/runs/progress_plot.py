"""The picture of a training run: its loss, and the Dice of each region."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxswap.medical.data.shown_names import legend_label, show_as_written
from jaxswap.medical.data.writing import whole_file

_MOST_POINTS = 2000
_SPAN_SHARE = 0.02  # Share of the run over which the loss is smoothed.
_MOST_REGIONS_NAMED = 8
_LEAST_SPAN = 4.0
_GREY, _DARK, _ORANGE = "#9aa5b1", "#1f4e79", "#e08e0b"
_COLORS = "#1b6ca8 #d1495b #3a7d44 #e08e0b #7b4fa3 #2a9d8f #8d5524 #5c677d".split()


def save_progress(
    path: str | os.PathLike[str],
    losses: Sequence[tuple[int, float]],
    validation: Sequence[tuple[int, Mapping[str, float]]],
    validation_losses: Sequence[tuple[int, float]] = (),
) -> Path:
    """Draw the curves of a run.

    Args:
        path: PNG to write. It is complete or absent.
        losses: Step and loss, in the order of steps. The curve is smoothed. The
            original values are drawn behind it.
        validation: Step and Dice by region, in the order of steps. If there are more
            than eight regions, only their mean is named.
        validation_losses: Step and loss of each validation, in the order of steps.

    Returns:
        The path.
    """
    panels = [bool(losses), bool(validation)].count(True) or 1
    figure = Figure(figsize=(9, 1.0 + 3.4 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
    remaining = iter(axes)
    if losses:
        _draw_losses(next(remaining), losses, validation_losses)
    if validation:
        _draw_dice(next(remaining), validation)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(
        MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    show_as_written(figure)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return Path(path)


def smooth(values: np.ndarray, span: float) -> np.ndarray:
    """Average each value with those before it. Older values have less weight.

    Args:
        values: In the order of time. Values that are not finite are left out.
        span: Over this number of values the weight falls to 1/e.

    Returns:
        The exponential mean, of the same length, not biased towards its start.

    Example:
        >>> smooth(np.array([1.0, 1.0, float("nan"), 1.0]), 2.0)
        array([1., 1., 1., 1.])
    """
    decay = float(np.exp(-1 / span))
    total = weight = 0.0
    smoothed = np.full(len(values), np.nan)
    for index, value in enumerate(values.tolist()):
        total, weight = total * decay, weight * decay
        if np.isfinite(value):
            total, weight = total + value, weight + 1
        if weight:
            smoothed[index] = total / weight
    return smoothed


def _draw_losses(
    axes: Axes,
    losses: Sequence[tuple[int, float]],
    validation: Sequence[tuple[int, float]],
) -> None:
    steps, values = (np.array(column, float) for column in zip(*losses, strict=True))
    smoothed = smooth(values, max(_LEAST_SPAN, _SPAN_SHARE * len(values)))
    shown = np.unique(np.linspace(0, len(steps) - 1, _MOST_POINTS).astype(int))
    few = len(steps) < 3
    marker = "o" if few else ""
    axes.plot(steps[shown], values[shown], color=_GREY, lw=0.8, alpha=0.6, label="step")
    axes.plot(
        steps[shown],
        smoothed[shown],
        color=_DARK,
        lw=2,
        marker=marker,
        label="smoothed",
    )
    finite = values[np.isfinite(values)]
    extremes = np.percentile(finite, [0.2, 99.8]) if len(finite) > 20 else []
    if validation:
        at, lost = (np.array(column) for column in zip(*validation, strict=True))
        options: Any = {"color": _ORANGE, "lw": 1.6, "marker": "o", "ms": 3}
        axes.plot(at, lost, label="validation", **options)
        if len(extremes):
            extremes = [*extremes, *lost[np.isfinite(lost)]]
    if len(extremes):
        # A few extreme steps must not flatten the rest of the curve.
        low, high = min(extremes), max(extremes)
        margin = 0.06 * max(high - low, 1e-6)
        axes.set_ylim(low - margin, high + margin)
    axes.set_ylabel("loss")
    _add_legend(axes)
    _tidy(axes)


def _draw_dice(
    axes: Axes, validation: Sequence[tuple[int, Mapping[str, float]]]
) -> None:
    steps = [step for step, _ in validation]
    names = list(dict.fromkeys(name for _, dice in validation for name in dice))
    table = np.array(
        [[dice.get(name, np.nan) for name in names] for _, dice in validation], float
    )
    marker = "o" if len(steps) < 40 else ""
    are_named = len(names) <= _MOST_REGIONS_NAMED
    for index, name in enumerate(names):
        color = _COLORS[index] if are_named else _GREY
        width, alpha = (1.8, 1.0) if are_named else (0.8, 0.5)
        last = _last(table[:, index])
        axes.plot(
            steps,
            table[:, index],
            color=color,
            lw=width,
            alpha=alpha,
            marker=marker if are_named else "",
            ms=3.5,
            label=f"{legend_label(name)}  {last}" if are_named else None,
        )
    if len(names) > 1:
        mean = _mean_of_regions(table)
        label = f"mean of {len(names)}  {_last(mean)}"
        axes.plot(steps, mean, color="black", lw=1.6, ls="--", label=label)
    axes.set(ylabel="Dice", ylim=(0, 1.02))
    _add_legend(axes)
    _tidy(axes)


def _add_legend(axes: Axes) -> None:
    """Write the legend above the axes, where it covers no curve."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        frameon=False,
        ncols=3,
    )


def _mean_of_regions(table: np.ndarray) -> np.ndarray:
    counts = np.isfinite(table).sum(1)
    sums = np.nansum(table, 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _last(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite[-1]:.3f}" if len(finite) else "–"


def _tidy(axes: Axes) -> None:
    axes.grid(color="#e3e7eb", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
