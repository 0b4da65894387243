"""Lines of results -> pictures of memory against step time, by workload and GPU."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

from benchmarks.tables import groups, newest, seconds_of, source

GIB = 2**30
OWN = ("jaxswap", "SwapHeavy", "jaxswap.offload")
OWN_COLOR, PLAIN_COLOR, OTHER_COLOR = "#0072b2", "#000000", "#7f7f7f"
FEWEST = 4
"""A picture of fewer methods says no more than their table."""


def plots(rows: Sequence[dict[str, Any]], folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw one picture for each workload that enough methods were measured on.

    Returns:
        The PNG files written.
    """
    written = []
    for group in groups(newest(rows)).values():
        points = points_of(group)
        if len(points) < FEWEST or group[0]["is_tiny"]:
            continue
        where = group[0]["target"] or group[0]["environment"].get("device", "device")
        words = [group[0]["backend"], group[0]["workload"], where, group[0]["card"]]
        name = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
        path = folder / f"methods-{name}.png"
        draw(points, f"{group[0]['workload']}: {source(group[0])}", path)
        written.append(path)
    return written


def points_of(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Method and budget -> GiB on the device and milliseconds of a step."""
    found = {}
    for row in rows:
        nbytes, seconds = (
            row.get("device_bytes", row.get("peak_bytes")),
            seconds_of(row),
        )
        if nbytes and seconds:
            name = f"{row['method']} {row['budget']}".strip()
            found[name] = (nbytes / GIB, seconds * 1e3)
    return found


def color_of(name: str) -> str:
    """Plain and jaxswap stand out among the methods."""
    if name == "plain":
        return PLAIN_COLOR
    return OWN_COLOR if name.split(" ")[0] in OWN else OTHER_COLOR


def draw(
    points: dict[str, tuple[float, float]], title: str, path: pathlib.Path
) -> None:
    """Draw methods as numbered points with their names beside the axes."""
    from matplotlib import ticker
    from matplotlib.figure import Figure

    # Methods that come out the same share a number.
    places: dict[tuple[float, float], list[str]] = {}
    for name, (x, y) in points.items():
        places.setdefault((round(x, 2), float(f"{y:.3g}")), []).append(name)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    ax, legend = figure.subplots(1, 2, width_ratios=(2, 1.1))
    lines = []
    for number, ((x, y), names) in enumerate(sorted(places.items()), start=1):
        colors = [color_of(name) for name in names]
        color = next((c for c in colors if c != OTHER_COLOR), OTHER_COLOR)
        ax.plot(x, y, "o", ms=15, color=color, zorder=2 + (color != OTHER_COLOR))
        label = {"ha": "center", "va": "center", "color": "white", "fontsize": 8}
        ax.annotate(f"{number}", (x, y), zorder=4, **label)
        lines += [(number, *both) for both in zip(names, colors, strict=True)]
    step = 1 / max(len(lines), 1)
    for i, (number, name, color) in enumerate(lines):
        y = 1 - (i + 0.5) * step
        legend.text(0.08, y, f"{number}", color=color, ha="right", weight="bold")
        legend.text(0.12, y, name, color=color, fontsize=9)
    legend.set_axis_off()
    ax.set_xlim(left=0)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    is_simulated = "simulated" in title
    ax.set_xlabel("device memory of a step, arguments and results included (GiB)")
    ax.set_ylabel(f"ms of a step, {'simulated' if is_simulated else 'timed'}")
    ax.grid(alpha=0.3, which="both")
    ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
