"""Pictures of plans: memory and lanes of one step, and time against memory.

Matplotlib is imported only when a picture is drawn. Its global state is not used.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxswap._base.extras import named_extras
from jaxswap._base.files import write_whole
from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._plans.plan import Plan
from jaxswap._view.lanes import (
    LANES,
    boundary_seconds,
    lanes_of,
    memory_corners,
    memory_unit,
    most_bytes,
    peak_of,
    plan_spans,
    time_unit,
    title_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
"""Kinds of files that pictures are written to."""
_GRAY = "#7f7f7f"
_METHODS = "#0072b2 #e69f00 #009e73 #cc79a7 #56b4e9 #d55e00 #000000 #8c6d31".split()
_MARKERS = "osD^vPXd"

Mark = tuple[float, float]


def plot_plan(plan: Plan, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw the simulated step of a plan: memory above, computation and copies below.

    Arguments, result and errors are those of `Plan.plot`.
    """
    _check_path(path)
    with named_extras():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    ((memory, beside), (lanes, legend)) = figure.subplots(
        2, 2, height_ratios=(3.2, 1), width_ratios=(3.4, 1)
    )
    end_seconds = max(plan.seconds, plan.plain.seconds) or 1.0
    seconds, unit = time_unit(end_seconds)
    _draw_memory(memory, plan, seconds)
    _name_peak(memory, beside, plan, seconds)
    _draw_lanes(lanes, legend, plan, seconds)
    for ax in (memory, lanes):
        ax.set_xlim(0, end_seconds / seconds)
        ax.axvline(boundary_seconds(plan.timeline) / seconds, color="k", lw=0.8, ls=":")
    lanes.set_xlabel(f"time in one step, simulated ({unit})")
    figure.suptitle("\n".join(title_lines(plan)), fontsize=11, x=0.01, ha="left")
    return _finish(figure, path)


def plot_pareto(
    plans_or_points: Iterable[Plan] | Mapping[str, Sequence[Mark | Plan]],
    path: str | os.PathLike[str] | None = None,
    *,
    plain: Mark | None = None,
    bound: Sequence[Mark] = (),
) -> Figure:
    """Draw step time against device memory, one line for each method.

    Args:
        plans_or_points: Plans. Or for the name of each method, its plans or its points
            (device bytes, simulated seconds). Plans that miss their budget and points
            without a finite time are left out.
        path: A PNG or SVG file to write the picture to.
        plain: Device bytes and seconds with everything kept. By default they come from
            the plans, if there are any.
        bound: Points (device bytes, lower bound of the seconds). By default they come
            from the plans, if there are any.

    Returns:
        The figure.

    Raises:
        ValueError: If the path ends in neither `.png` nor `.svg`.
        FileNotFoundError: If its folder does not exist.
        jaxswap.MissingExtraError: If matplotlib is not installed.

    Example:
        >>> points = {"keep": [(2**30, 0.010)], "swap": [(2**29, 0.012)]}
        >>> plot_pareto(points).axes[0].get_xlabel()
        'device memory (GiB)'
    """
    _check_path(path)
    with named_extras():
        from matplotlib.figure import Figure

    if not isinstance(plans_or_points, Mapping):
        plans_or_points = {"jaxswap": tuple(plans_or_points)}
    lines = {name: _feasible(found) for name, found in plans_or_points.items()}
    plans = [p for ps in plans_or_points.values() for p in ps if isinstance(p, Plan)]
    if plans and plain is None:
        plain = (plans[0].plain.device_bytes, plans[0].plain.seconds)
    if plans and not bound:
        bound = [(p.budget_bytes or p.device_bytes, p.bound_seconds) for p in plans]
    limits = sorted((float(b), float(s)) for b, s in bound if s > 0)
    everything = [p for ps in lines.values() for p in ps] + limits
    everything += [plain] if plain else []
    nbytes, memory_name = memory_unit(max((b for b, _ in everything), default=0))
    seconds, time_name = time_unit(max((s for _, s in everything), default=0.0))
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    ax = figure.subplots()

    def draw(points: Sequence[Mark], style: str, **more: Any) -> None:
        xs, ys = [b / nbytes for b, _ in points], [s / seconds for _, s in points]
        ax.plot(xs, ys, style, **more)

    for i, (name, points) in enumerate(lines.items()):
        style = {"color": _METHODS[i % len(_METHODS)], "zorder": 3.0 - i / len(lines)}
        marker = f"{_MARKERS[i % len(_MARKERS)]}-"
        draw(points, marker, ms=5, lw=1.5, label=name, **style)
    if limits:
        draw(limits, "--", color=_GRAY, label="lower bound")
    if plain:
        draw([plain], "k*", ms=13, label="everything kept")
    ax.set(
        xlabel=f"device memory ({memory_name})",
        ylabel=f"time of one step, simulated ({time_name})",
    )
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return _finish(figure, path)


def _draw_memory(ax: Axes, plan: Plan, seconds: float) -> None:
    scale, unit = memory_unit(most_bytes(plan))
    kept, after = plan.plain, plan.timeline
    blue = LANES["backward"][2]
    lines = (
        ("device, everything kept", kept, kept.device_bytes_at, _GRAY, 1.2),
        ("device, this plan", after, after.device_bytes_at, blue, 1.7),
        ("host, this plan", after, after.host_bytes_at, LANES["out"][2], 0.9),
    )
    for label, timeline, nbytes_at, color, width in lines:
        if nbytes_at is after.host_bytes_at and not after.host_bytes:
            continue
        xs, ys = memory_corners(timeline, nbytes_at)
        xs, ys = xs / seconds, ys / scale
        ax.step(xs, ys, where="post", color=color, lw=width, label=label)
        if color == blue:
            ax.fill_between(xs, ys, step="post", color=blue, alpha=0.12, lw=0)
    if plan.budget_bytes is not None:
        style: Any = {"color": LANES["wait"][2], "ls": "--", "lw": 1.2}
        ax.axhline(plan.budget_bytes / scale, label="budget", **style)
    if plan.compiled is not None:
        style = {"color": "black", "ls": "-.", "lw": 1.0}
        ax.axhline(plan.device_bytes / scale, label="compiled", **style)
    border = boundary_seconds(after) / seconds
    for text, side in (("forward ", "right"), (" backward", "left")):
        ax.annotate(
            text, (border, 1), xycoords=("data", "axes fraction"), ha=side, va="top"
        )
    ax.set_ylabel(f"memory, simulated ({unit})")
    ax.set_ylim(0, 1.14 * most_bytes(plan) / scale)
    ax.tick_params(labelbottom=False)
    ax.grid(axis="y", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=9
    )


def _name_peak(ax: Axes, beside: Axes, plan: Plan, seconds: float) -> None:
    """Mark the peak, and list beside it what is alive at that time."""
    scale, _ = memory_unit(most_bytes(plan))
    at_seconds, values = peak_of(plan)
    peak = format_bytes(plan.timeline.device_bytes)
    x, y = at_seconds / seconds, plan.timeline.device_bytes / scale
    ax.annotate("▼", (x, y), ha="center", va="bottom")
    heading = f"▼ peak of {peak}\nat {format_seconds(at_seconds)}, simulated"
    beside.axis("off")
    beside.text(0, 1, heading, va="top", weight="bold", linespacing=1.4)
    for line, (name, nbytes) in enumerate(values):
        y = 0.83 - 0.075 * line
        beside.text(0.3, y, format_bytes(nbytes), va="top", ha="right", fontsize=9)
        short = name if len(name) <= 28 else "…" + name[-27:]
        beside.text(0.34, y, short, va="top", fontsize=9)


def _draw_lanes(ax: Axes, legend: Axes, plan: Plan, seconds: float) -> None:
    from matplotlib.patches import Patch

    spans = plan_spans(plan)
    names = lanes_of(spans)
    handles = []
    for kind, (lane, label, color) in LANES.items():
        if lane not in names:
            continue
        bars = [
            (s.start_seconds / seconds, s.seconds / seconds)
            for s in spans
            if s.kind == kind
        ]
        place = (-names.index(lane) - 0.38, 0.76)
        edge = "white" if lane != "compute" else "none"
        style: Any = {"facecolor": color, "edgecolor": edge, "linewidth": 0.4}
        if kind == "wait":
            style |= {"hatch": "////", "edgecolor": "white", "linewidth": 0}
        ax.broken_barh(bars, place, **style)
        if bars:
            handles.append(Patch(label=label, **style))
    ax.set_yticks([-i for i in range(len(names))], names)
    ax.set_ylim(0.5 - len(names), 0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    legend.axis("off")
    legend.legend(handles=handles, loc="center left", frameon=False, fontsize=9)


def _feasible(found: Iterable[Mark | Plan]) -> list[Mark]:
    """Return the points that can be drawn, in order of memory."""
    points: list[Mark] = []
    for item in found:
        if not isinstance(item, Plan):
            points.append((float(item[0]), float(item[1])))
            continue
        limit = item.budget_bytes
        if limit is None or item.device_bytes <= limit - item.reserve_bytes:
            points.append((float(item.device_bytes), item.seconds))
    return sorted(p for p in points if math.isfinite(p[0]) and math.isfinite(p[1]))


def _check_path(path: str | os.PathLike[str] | None) -> None:
    """Check that the picture can be written, before the work of drawing it."""
    if path is None:
        return
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"`path` ends in {path.suffix!r}: pictures are written as "
            f"{' or '.join(FORMATS)}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`path` is {str(path)!r}, and there is no folder {str(path.parent)!r}: "
            "make it first."
        )


def _finish(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):  # A dollar sign in a name begins no formula.
        text.set_parse_math(False)
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format=Path(path).suffix[1:].lower(), dpi=130)
        write_whole(Path(path), picture.getvalue())
    return figure
