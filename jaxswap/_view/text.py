"""`Plan` -> text for people.

Every number says where it comes from. *Simulated*: from the planner's model of the GPU.
*Predicted*: from that model and from programs compiled before. *Compiled*: from XLA.
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._gpu.target import rates_of
from jaxswap._plans.plan import Plan, Row
from jaxswap._view.basis import basis_line, pinning_line
from jaxswap._view.facts import (
    copied,
    fused,
    guessed,
    in_pieces,
    lossy_values,
    predicted_bytes,
    times,
    totals,
    written_in_place,
)
from jaxswap._view.inside import inside_lines
from jaxswap._view.loop_rows import loop_lines
from jaxswap._view.rows import Outcome, outcomes_of, short_name
from jaxswap._view.slabs import slab_lines, sweep_lines

WIDTH = 110
"""The most columns of a line of a report."""
SHOWN = 25
"""The most lines of a report's table."""
NAME_WIDTH = 22
REASON_WIDTH = WIDTH - 41 - NAME_WIDTH
"""The width that the other columns leave."""


@dataclasses.dataclass(frozen=True)
class _Group:
    """Rows that a report shows as one line: with the same place, size and outcome."""

    rows: tuple[Row, ...]
    outcome: Outcome
    nbytes: int
    seconds: float


def describe(plan: Plan) -> str:
    """Write a plan for people.

    Args:
        plan: The plan.

    Returns:
        Lines of at most 110 columns: the main numbers, and the largest decisions by
        module.
    """
    rows, outcomes = plan.rows, outcomes_of(plan)
    facts = [
        ("device memory", _device_lines(plan)),
        ("host memory", _host_lines(plan)),
        ("step", _step_lines(plan)),
        ("lower bound", _bound_lines(plan)),
        ("copies", _copy_lines(plan)),
        ("XLA options", _option_lines(plan)),
        ("in place", _in_place_lines(plan)),
        ("in pieces", _in_pieces_lines(plan)),
        ("decisions", _decision_lines(plan, rows, outcomes)),
        ("inside calls", inside_lines(plan)),
        ("slabs", slab_lines(plan)),
        ("guessed costs", _guess_lines(plan)),
    ]
    lines = [_title(plan)]
    for name, texts in facts:
        for i, text in enumerate(texts):
            wrapped = textwrap.wrap(text, WIDTH - 17)
            for j, part in enumerate(wrapped):
                lines.append(f"  {'' if i or j else name:<14} {part}")
    table = _table(_groups_of(rows, outcomes))
    return "\n".join([*lines, *table, *sweep_lines(plan), *loop_lines(plan)])


def _groups_of(rows: Sequence[Row], outcomes: dict[int, Outcome]) -> list[_Group]:
    """Group rows with the same place, size and outcome, in the order of the program."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        value, outcome = row.value, outcomes[row.value.index]
        key = (value.scope, value.label, value.nbytes, outcome)
        found.setdefault(key, []).append(row)
    return [
        _Group(
            rows=tuple(group),
            outcome=outcomes[group[0].value.index],
            nbytes=sum(row.value.nbytes for row in group),
            seconds=sum(row.seconds for row in group),
        )
        for group in found.values()
    ]


def _title(plan: Plan) -> str:
    rates = rates_of(plan.target).basis
    policy = f", policy {plan.policy}" if plan.policy else ""
    target = plan.target
    title = f"plan for {target.name} ({target.device_name}), with {rates} rates"
    return title + policy


def _device_lines(plan: Plan) -> Iterator[str]:
    predicted = predicted_bytes(plan)
    plain = format_bytes(plan.plain.device_bytes)
    yield (
        f"{format_bytes(predicted)} predicted; {plain} simulated with everything kept"
    )
    seen = plan.compiled
    if seen is not None:
        share = predicted / seen.device_bytes - 1 if seen.device_bytes else 0.0
        yield (
            f"{format_bytes(seen.device_bytes)} compiled, of which "
            f"{format_bytes(seen.temp_bytes)} temporaries; "
            f"prediction off by {share:+.1%}; compilations: {seen.compile_count}"
        )
    if plan.budget_bytes is None:
        yield "no budget"
        return
    limit = plan.budget_bytes - plan.reserve_bytes
    free = limit - plan.device_bytes
    left = f"{format_bytes(free)} to spare" if free >= 0 else ""
    reserve = f" less {format_bytes(plan.reserve_bytes)} in reserve"
    yield (
        f"{format_bytes(plan.budget_bytes)} budget"
        f"{reserve if plan.reserve_bytes else ''}: "
        + (left or f"EXCEEDED by {format_bytes(-free)}")
    )


def _host_lines(plan: Plan) -> Iterator[str]:
    seen, limit = plan.compiled, plan.host_budget_bytes
    parts = [f"{format_bytes(plan.timeline.host_bytes)} simulated"]
    parts += [f"{format_bytes(seen.host_bytes)} compiled"] if seen else []
    parts += [f"{format_bytes(limit)} budget"] if limit is not None else []
    yield "; ".join(parts)
    yield from pinning_line(plan)


def _step_lines(plan: Plan) -> Iterator[str]:
    found = times(plan.timeline)
    seconds = found["seconds"] or 1.0
    parts = ", ".join(
        f"{format_seconds(found[f'{part}_seconds'])} {word} "
        f"({found[f'{part}_seconds'] / seconds:.0%})"
        for part, word in (
            ("compute", "compute"),
            ("recompute", "recompute"),
            ("stall", "waiting"),
        )
    )
    yield f"{format_seconds(plan.seconds)} simulated: {parts}"
    plain = plan.plain.seconds
    factor = f": {plan.seconds / plain:.2f} x as long" if plain else ""
    yield f"{format_seconds(plain)} simulated with everything kept{factor}"
    yield basis_line(plan)


def _bound_lines(plan: Plan) -> Iterator[str]:
    bound = format_seconds(plan.bound_seconds)
    if plan.bound_seconds:
        yield f"{bound} by the planner's model; the gap is {plan.gap:.1%} of this plan"


def _copy_lines(plan: Plan) -> Iterator[str]:
    if not plan.timeline.transfers:
        yield "none"
    else:
        ways = {"out": False, "in": True}
        found = {way: copied(plan, inward) for way, inward in ways.items()}
        yield "simulated: " + ", ".join(
            f"{copied['count']} {way} ({format_bytes(copied['bytes'])} in "
            f"{format_seconds(copied['seconds'])})"
            for way, copied in found.items()
        )
    if lossy := lossy_values(plan):
        size = format_bytes(sum(value.nbytes for value in lossy))
        labels = dict.fromkeys(value.label for value in lossy)
        yield (
            f"rounded to {plan.graph.compress} on the way, so lossy: {len(lossy)} in "
            f"{size}: {', '.join(labels)}"
        )
    seen = plan.compiled
    if seen is not None and (seen.swapped_bytes or plan.timeline.transfers):
        yield (
            f"compiled: {format_bytes(seen.swapped_bytes)} both ways, "
            f"{format_bytes(seen.exposed_bytes)} of it exposed"
        )


def _decision_lines(
    plan: Plan, rows: Sequence[Row], outcomes: dict[int, Outcome]
) -> Iterator[str]:
    parts = [
        f"{count} {outcome.value} ({format_bytes(nbytes)})"
        for outcome, (count, nbytes) in totals(rows, outcomes).items()
        if count
    ]
    yield (
        f"{len(rows)} large values (of {format_bytes(plan.large_bytes)} and more): "
        + (", ".join(parts) or "none")
    )
    count, nbytes = fused(plan)
    if count:
        yield (
            f"{count} more ({format_bytes(nbytes)}) are never stored: they fuse into "
            "what reads them"
        )


def _option_lines(plan: Plan) -> Iterator[str]:
    if plan.compiler_options:
        yield f"{', '.join(plan.compiler_options)}; jaxswap.jit sets them"


def _in_place_lines(plan: Plan) -> Iterator[str]:
    count = written_in_place(plan)
    if count:
        yield f"{count} results are written over operands that are not read again"


def _in_pieces_lines(plan: Plan) -> Iterator[str]:
    if values := in_pieces(plan):
        names = ", ".join(dict.fromkeys(value.label for value in values))
        size = format_bytes(sum(value.nbytes for value in values))
        yield f"{len(values)} values of {size} are stored in pieces: {names}"


def _guess_lines(plan: Plan) -> Iterator[str]:
    names = guessed(plan)
    if names:
        yield f"{', '.join(names)}: seconds follow from bytes alone"


def _table(groups: Sequence[_Group]) -> Iterator[str]:
    """Write the largest groups, under their modules. Then count what was left out."""
    if not groups:
        return
    order = sorted(groups, key=lambda g: (g.outcome is Outcome.DROP, -g.nbytes))
    shown = [group for group in groups if group in order[:SHOWN]]
    yield ""
    yield (
        f"  {'bytes':>13}  {'action':<9}  {'simulated':>9}  "
        f"{'value':<{NAME_WIDTH}}  why (seconds simulated)"
    )
    top = _common([group.rows[0].value.scope for group in groups])
    module = ""
    for group in shown:
        inside = group.rows[0].value.scope.split("/")[len(top) :]
        path = "/".join([*top, *inside[:1]])
        if path != module:
            module = path
            yield f"  {_shorten(module or '(no module)', WIDTH - 2)}"
        yield from _group_lines(group, module)
    rest = order[SHOWN:]
    if rest:
        count = sum(len(group.rows) for group in rest)
        nbytes = format_bytes(sum(group.nbytes for group in rest))
        seconds = format_seconds(sum(group.seconds for group in rest))
        yield f"  and {count} more values, {nbytes} in all, {seconds} simulated"


def _common(scopes: Sequence[str]) -> list[str]:
    """Return the modules that all paths begin with, without the last one of each."""
    paths = [scope.split("/")[:-1] for scope in scopes if scope]
    found: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        found.append(parts[0])
    return found


def _group_lines(group: _Group, module: str) -> Iterator[str]:
    value, count = group.rows[0].value, len(group.rows)
    size = format_bytes(value.nbytes)
    size = f"{count} x {size}" if count > 1 else size
    seconds = format_seconds(group.seconds) if group.seconds else "-"
    reasons = list(dict.fromkeys(row.why for row in group.rows))
    why = reasons[0] if len(reasons) == 1 else f"e.g. {reasons[0]}"
    inside = value.scope.removeprefix(module).strip("/")
    if not inside:
        inside = short_name(dataclasses.replace(value, scope="")).rsplit("/", 1)[-1]
    first, *more = textwrap.wrap(why, REASON_WIDTH)
    yield (
        f"  {size:>13}  {group.outcome.value:<9}  {seconds:>9}  "
        f"{_shorten(inside, NAME_WIDTH):<{NAME_WIDTH}}  {first}"
    )
    for line in more:
        yield " " * (WIDTH - REASON_WIDTH) + line


def _shorten(text: str, width: int) -> str:
    """Cut the beginning off a text that is too long, since its end says more."""
    return text if len(text) <= width else "..." + text[3 - width :]
