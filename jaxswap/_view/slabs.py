"""What a plan computes slab by slab, as text and as a section of a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from html import escape

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._plans.plan import Plan
from jaxswap._slabs.facts import SlabFacts
from jaxswap._view.sweep_rows import SweepRow, sweep_rows

REASONS = 3
"""How many reasons are told why something runs on whole arrays."""
MADE_WIDTH = 61
"""The width of the last column of the table of sweeps."""


def slab_lines(plan: Plan) -> Iterator[str]:
    """Say how values are cut into slabs, and what runs on whole arrays."""
    slabs, facts = plan.slabs, plan.graph.slab_facts
    if slabs is None or facts is None:
        return
    axis = "the longest axis" if slabs.axis is None else f"dimension {slabs.axis}"
    axis = "the named axis" if isinstance(slabs.axis, tuple) else axis
    levels = "the finest level" if slabs.levels == 1 else f"{slabs.levels} levels"
    ways = {"recomputed": slabs.recomputed, "in host memory": slabs.swapped}
    again = "".join(f", {count} results {way}" for way, count in ways.items() if count)
    yield (
        f"{facts.count} of {facts.thickness} planes along {axis} of {facts.length}, on "
        f"{levels}{again}"
    )
    rows = sweep_rows(plan)
    yield (
        f"{len(rows)} sweeps over all slabs take "
        f"{format_seconds(sum(row.seconds for row in rows))} simulated, read "
        f"{format_bytes(sum(row.read_bytes for row in rows))} and write "
        f"{format_bytes(sum(row.written_bytes for row in rows))}"
    )
    yield from _whole_lines(facts)


def _whole_lines(facts: SlabFacts) -> Iterator[str]:
    for reason in facts.whole[:REASONS]:
        yield f"on whole arrays: {reason}"
    if len(facts.whole) > REASONS:
        yield f"on whole arrays: {len(facts.whole) - REASONS} other operations"


def sweep_lines(plan: Plan) -> Iterator[str]:
    """Write a table of the sweeps."""
    rows = sweep_rows(plan)
    if not rows:
        return
    yield ""
    yield (
        f"  {'sweep':>10}  {'simulated':>9}  {'reads':>9}  {'writes':>9}  "
        "what it makes < planes of what it reads"
    )
    for row in rows:
        first, *more = textwrap.wrap(
            f"{_makes(row)} < {_reads(row) or 'nothing'}", MADE_WIDTH
        )
        wrote = format_bytes(row.written_bytes) if row.writes else "-"
        read = format_bytes(row.read_bytes) if row.reads else "-"
        mark = "b" if row.is_backward else "f"
        yield (
            f"  {row.name:>8} {mark}  {format_seconds(row.seconds):>9}  {read:>9}  "
            f"{wrote:>9}  {first}"
        )
        for line in more:
            yield " " * 49 + line
    yield (
        "  f, b: forward, backward pass; d: cotangent; 8+1+1: 8 planes, and 1 more on "
        "both sides"
    )


def _makes(row: SweepRow) -> str:
    parts = [made.name for made in row.writes]
    if row.sums:
        nbytes = format_bytes(sum(made.nbytes for made in row.sums))
        sums = "sum" if len(row.sums) == 1 else "sums"
        parts.append(f"{len(row.sums)} {sums} ({nbytes})")
    return ", ".join(parts)


def _reads(row: SweepRow) -> str:
    return ", ".join(f"{one.name} {one.planes}" for one in row.reads)


def sweep_table(plan: Plan) -> str:
    """Write the sweeps as a section of a page; nothing if there are none."""
    rows = sweep_rows(plan)
    if not rows:
        return ""
    heads = ("sweep", "pass", "seconds", "reads", "writes", "makes", "planes read")
    numbers = ("seconds", "reads", "writes")
    head = "".join(
        f'<th{" class=number" if name in numbers else ""} scope="col">{name}</th>'
        for name in heads
    )
    lines = "".join(f"<li>{escape(line)}</li>" for line in slab_lines(plan))
    return (
        f"<h2>Sweeps over slabs</h2><ul>{lines}</ul>"
        '<p class="quiet">Seconds are simulated. 8+1+1: each slab reads 8 planes of '
        "its own, and 1 of its neighbours on both sides.</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_table_row, rows))}</tbody></table></div>"
    )


def _table_row(row: SweepRow) -> str:
    numbers = (
        row.name,
        "backward" if row.is_backward else "forward",
        format_seconds(row.seconds),
        format_bytes(row.read_bytes),
        format_bytes(row.written_bytes),
    )
    cells = "".join(
        f"<td{' class=number' if at > 1 else ''}>{escape(text)}</td>"
        for at, text in enumerate(numbers)
    )
    texts = "".join(f"<td>{escape(text)}</td>" for text in (_makes(row), _reads(row)))
    return f"<tr>{cells}{texts}</tr>"
