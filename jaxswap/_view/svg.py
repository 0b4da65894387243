"""Charts of a plan as SVG. The style of the page gives the colours, by class."""

import math
from collections.abc import Iterable, Iterator
from html import escape

import numpy as np

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._plans.plan import Plan
from jaxswap._simulate.timeline import Timeline
from jaxswap._view.lanes import (
    LANES,
    Span,
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

WIDTH, LEFT, RIGHT = 1000, 74, 8
HEIGHT, TOP, BOTTOM = 300, 22, 24
LANE_HEIGHT, LANE_GAP = 26, 8
"""Sizes of the charts, in the charts' own units."""

_HATCH = (
    '<defs><pattern id="waiting" width="7" height="7" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="waiting" width="7" height="7"/>'
    '<line class="stripe" y2="7"/></pattern></defs>'
)
"""Waiting time is striped, so that colour is not the only sign."""


def memory_chart(plan: Plan) -> str:
    """Draw memory over time, with its legend."""
    after, kept = plan.timeline, plan.plain
    scale, unit = memory_unit(most_bytes(plan))
    floor = HEIGHT - BOTTOM
    x_of = _Axis(_end_seconds(plan), LEFT, WIDTH - RIGHT)
    y_of = _Axis(1.08 * most_bytes(plan), floor, TOP)
    parts = [_y_axis(y_of, scale, unit), _x_axis(plan, x_of, floor)]
    curve = _path(after, after.device_bytes_at, x_of, y_of)
    area = f"{curve}V{floor}H{LEFT}Z"
    parts += [
        f'<path class="after area" d="{area}"/>',
        f'<path class="kept" d="{_path(kept, kept.device_bytes_at, x_of, y_of)}"/>',
        f'<path class="after" d="{curve}"/>',
    ]
    if after.host_bytes:
        host = _path(after, after.host_bytes_at, x_of, y_of)
        parts.append(f'<path class="host" d="{host}"/>')
    levels = {"budget": plan.budget_bytes} if plan.budget_bytes is not None else {}
    levels |= {"compiled": plan.device_bytes} if plan.compiled else {}
    for name, nbytes in levels.items():
        y = y_of(nbytes)
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"'
        parts.append(f'<line class="{name}" {ends}/>')
    x, y = x_of(peak_of(plan)[0]), y_of(after.device_bytes)
    parts.append(
        f'<path class="peak" d="M{x},{y - 1}l-6,-9h12Z">'
        f"<title>peak of {format_bytes(after.device_bytes)}</title></path>"
    )
    keys = [
        ("kept", "device, everything kept"),
        ("after", "device, this plan"),
        *((("host", "host, this plan"),) if after.host_bytes else ()),
        *((name, f"{name} {format_bytes(n)}") for name, n in levels.items()),
    ]
    return _legend(keys) + _svg("".join(parts), HEIGHT, title_lines(plan)[0])


def lane_chart(plan: Plan) -> str:
    """Draw when computation and copies of both directions run, with the legend."""
    spans = plan_spans(plan)
    lanes = lanes_of(spans)
    floor = TOP + len(lanes) * (LANE_HEIGHT + LANE_GAP)
    x_of = _Axis(_end_seconds(plan), LEFT, WIDTH - RIGHT)
    parts = [_HATCH, _x_axis(plan, x_of, floor)]
    for i, lane in enumerate(lanes):
        y = TOP + i * (LANE_HEIGHT + LANE_GAP) + LANE_HEIGHT / 2 + 4
        parts.append(f'<text x="{LEFT - 8}" y="{y}" class="end">{lane}</text>')
    for span in spans:
        i = lanes.index(LANES[span.kind][0])
        left, right = x_of(span.start_seconds), x_of(span.end_seconds)
        width = max(right - left, 0.3)
        parts.append(
            f'<rect class="{span.kind}" x="{left}" width="{width:.1f}" '
            f'y="{TOP + i * (LANE_HEIGHT + LANE_GAP)}" height="{LANE_HEIGHT}">'
            f"<title>{escape(_tip(plan, span))}</title></rect>"
        )
    seen = {span.kind for span in spans}
    keys = [(kind, label) for kind, (_, label, _) in LANES.items() if kind in seen]
    return _legend(keys) + _svg("".join(parts), floor + BOTTOM, title_lines(plan)[1])


def _tip(plan: Plan, span: Span) -> str:
    """Return the text that appears when the reader points at a span."""
    when = (
        f"{format_seconds(span.seconds)} from {format_seconds(span.start_seconds)} on, "
        "simulated"
    )
    label = LANES[span.kind][1]
    if span.value is None:
        return f"{label}\n{when}"
    value = plan.graph.values[span.value]
    return f"{label}: {value.label}\n{format_bytes(value.nbytes)}, {when}"


class _Axis:
    """Turns amounts into positions in a chart."""

    def __init__(self, most: float, start: float, end: float) -> None:
        self.most = most or 1.0
        self.start = start
        self.end = end

    def __call__(self, amount: float) -> float:
        return round(self.start + (self.end - self.start) * amount / self.most, 1)

    def ticks(self, unit: float, count: int) -> Iterator[tuple[float, str]]:
        """Return positions of round amounts, and their numbers in a unit."""
        rough = self.most / unit / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
        digits = max(0, -math.floor(math.log10(step)))
        for i in range(int(self.most / unit / step * (1 + 1e-9)) + 1):
            yield self(i * step * unit), f"{i * step:.{digits}f}"


def _end_seconds(plan: Plan) -> float:
    return max(plan.seconds, plan.plain.seconds)


def _path(timeline: Timeline, nbytes_at: np.ndarray, x_of: _Axis, y_of: _Axis) -> str:
    """Draw a line that changes in steps. Corners that look the same are joined."""
    xs, ys = memory_corners(timeline, nbytes_at)
    parts = [f"M{x_of(float(xs[0]))},{y_of(float(ys[0]))}"]
    before = (x_of(float(xs[0])), y_of(float(ys[0])))
    for x, y in zip(xs, ys, strict=True):
        place = (x_of(float(x)), y_of(float(y)))
        parts.append(f"H{place[0]}" if place[0] != before[0] else "")
        parts.append(f"V{place[1]}" if place[1] != before[1] else "")
        before = place
    return "".join(parts)


def _x_axis(plan: Plan, x_of: _Axis, floor: float) -> str:
    """Draw ticks of time, and the border between the passes."""
    unit, name = time_unit(x_of.most)
    border = x_of(boundary_seconds(plan.timeline))
    marks = "".join(
        f'<line class="grid" x1="{x}" x2="{x}" y1="{floor}" y2="{floor + 4}"/>'
        f'<text x="{x}" y="{floor + 17}" class="middle">{text}</text>'
        for x, text in x_of.ticks(unit, 8)
    )
    return (
        f'{marks}<text x="{LEFT - 8}" y="{floor + 17}" class="end">{name}</text>'
        f'<line class="border" x1="{border}" x2="{border}" y1="4" y2="{floor}"/>'
        f'<text x="{border - 5}" y="14" class="end">forward</text>'
        f'<text x="{border + 5}" y="14">backward</text>'
    )


def _y_axis(y_of: _Axis, scale: float, unit: str) -> str:
    marks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4}" class="end">{text}</text>'
        for y, text in y_of.ticks(scale, 8)
    )
    return f'{marks}<text x="{LEFT - 8}" y="{TOP - 8}" class="end">{unit}</text>'


def _svg(inside: str, height: float, label: str) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">{inside}</svg></div>'
    )


def _legend(keys: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f'<span><i class="{name}"></i>{escape(label)}</span>' for name, label in keys
    )
    return f'<p class="legend">{items}</p>'
