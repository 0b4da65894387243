"""Strip plots as SVG: a dot for every case, with quartiles and median behind the dots.

They are not drawn by matplotlib, so that dots can show the names of their cases and
colours can follow the page's light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

_WIDTH, _RIGHT, _TOP, _ROW, _BOTTOM = 760, 24, 8, 34, 30
_LETTER = 7.5  # Average width of a letter in a row's name.
_GOLDEN = 0.618  # Spreads the dots of a row evenly.

Scale = Callable[[float], float]


def strip_plot(
    rows: Mapping[str, Sequence[tuple[str, float]]], *, bounds: str, format_: str = "g"
) -> str:
    """Draw one strip for each row.

    Args:
        rows: For each row, the name of each case and its value. All values are finite.
        bounds: The axis. "unit": from 0 to 1. "positive": from 0. "signed": around 0.
            In the last two, larger values are drawn closer together, so that outliers
            leave room for the rest.
        format_: Format of the value that appears when the reader points at a dot.

    Returns:
        An `<svg>` element.

    Raises:
        ValueError: If `bounds` is another word.

    Example:
        >>> svg = strip_plot({"core": [("a", 0.5), ("b", 0.75)]}, bounds="unit")
        >>> svg.count("<circle"), "<title>b: 0.75</title>" in svg
        (2, True)
    """
    values = [value for cases in rows.values() for _, value in cases]
    left = 20 + _LETTER * max((len(name) for name in rows), default=0)
    scale, ticks = _axis(values, bounds, left)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    parts = [_grid(scale, ticks, height)]
    for index, (name, cases) in enumerate(rows.items()):
        middle = _TOP + _ROW * (index + 0.5)
        parts.append(
            f'<text x="{left - 10:.1f}" y="{middle + 4:.1f}" class="end">{escape(name)}'
            "</text>"
        )
        if cases:
            parts.append(_box([value for _, value in cases], scale, middle))
        parts += [
            _dot(case, value, scale, middle, place, format_)
            for place, (case, value) in enumerate(cases)
        ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'preserveAspectRatio="xMinYMin">{"".join(parts)}</svg>'
    )


def _axis(
    values: Sequence[float], bounds: str, left: float
) -> tuple[Scale, Sequence[float]]:
    """Return where a value is drawn, and where the axis has ticks."""
    largest = max((abs(value) for value in values), default=1.0) or 1.0
    if bounds == "unit":
        low, high, bend, ticks = 0.0, 1.0, float, [0, 0.2, 0.4, 0.6, 0.8, 1]
    elif bounds in ("positive", "signed"):
        steps = [0, *(s * 10**p for p in range(-1, 4) for s in (1, 2, 5))]
        top = next((step for step in steps if step >= largest), largest)
        above = [step for step in steps if step in (0, top) or 1 <= step <= top]
        if bounds == "signed":
            above = [s for s in above if s in (0, top) or f"{s:g}"[0] == "1"]
        bend, high = _bent, _bent(top)
        low = -high if bounds == "signed" else 0.0
        below = [-step for step in above if step] if bounds == "signed" else []
        ticks = sorted([*below, *above])
    else:
        raise ValueError(f"`bounds` is {bounds!r}, not unit, positive or signed.")
    width = _WIDTH - left - _RIGHT

    def scale(value: float) -> float:
        return left + width * (bend(value) - low) / (high - low)

    return scale, ticks


def _bent(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def _grid(scale: Scale, ticks: Sequence[float], height: int) -> str:
    bottom = height - _BOTTOM
    return "".join(
        f'<line class="grid" x1="{scale(tick):.1f}" x2="{scale(tick):.1f}" '
        f'y1="{_TOP}" y2="{bottom}"/><text class="middle" x="{scale(tick):.1f}" '
        f'y="{bottom + 18}">{tick:g}</text>'
        for tick in ticks
    )


def _box(values: Sequence[float], scale: Scale, middle: float) -> str:
    lower, median, upper = (scale(v) for v in np.percentile(values, [25, 50, 75]))
    return (
        f'<rect class="box" x="{lower:.1f}" y="{middle - 11:.1f}" height="22" '
        f'width="{max(upper - lower, 1):.1f}"/><line class="median" x1="{median:.1f}" '
        f'x2="{median:.1f}" y1="{middle - 11:.1f}" y2="{middle + 11:.1f}"/>'
    )


def _dot(
    case: str, value: float, scale: Scale, middle: float, place: int, format_: str
) -> str:
    across = middle + 16 * ((place * _GOLDEN) % 1 - 0.5)
    return (
        f'<circle cx="{scale(value):.1f}" cy="{across:.1f}" r="3"><title>'
        f"{escape(case)}: {value:{format_}}</title></circle>"
    )
