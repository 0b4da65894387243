"""A plan as text and as data: every number, where it comes from, and no more."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from handmade import MIB, chain, results_of
from handmade_plans import (
    COMPILED,
    H100,
    SLOW_LINK,
    busy,
    empty_plan,
    forward_plan,
    found_plan,
    mixed_plan,
    plan_of,
)

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action, Graph
from jaxswap._plans.plan import Plan
from jaxswap._view.data import summary
from jaxswap._view.rows import Outcome
from jaxswap._view.text import SHOWN, describe


def fact(plan: Plan, name: str) -> str:
    """What the report says under a name, on one line."""
    lines = describe(plan).split("\n\n")[0].splitlines()
    found: list[str] = []
    is_there = False
    for line in lines[1:]:
        if line[2:16].strip():
            is_there = line[2:16].strip() == name
        if is_there:
            found.append(line[16:].strip())
    return " ".join(found)


def table(plan: Plan) -> list[str]:
    return describe(plan).split("\n\n")[1].splitlines()[1:]


def scoped(graph: Graph) -> Graph:
    """Put values into modules by their primitive."""
    values = [
        dataclasses.replace(v, scope=f"Net/part{i % 2}/{v.primitive}")
        for i, v in enumerate(graph.values)
    ]
    return dataclasses.replace(graph, values=tuple(values))


def test_title_tells_gpu_rates_and_policy() -> None:
    title = describe(mixed_plan()).splitlines()[0]
    assert title == f"plan for h100 ({H100.device_name}), with published rates"
    rates = dataclasses.replace(rates_of(H100), is_measured=True)
    measured = dataclasses.replace(H100, rates=rates)
    title = describe(mixed_plan(measured, policy="mine")).splitlines()[0]
    assert title.endswith(", with calibrated rates, policy mine")


def test_device_memory_is_predicted_and_compared() -> None:
    plan = mixed_plan(correction_bytes=8 * MIB)
    kept = format_bytes(plan.plain.device_bytes)
    predicted = format_bytes(plan.timeline.device_bytes + 8 * MIB)
    assert fact(plan, "device memory") == (
        f"{predicted} predicted; {kept} simulated with everything kept no budget"
    )


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [(1024 * MIB, "to spare"), (256 * MIB, "EXCEEDED by")],
)
def test_budget_is_met_or_exceeded(budget: int, verdict: str) -> None:
    plan = mixed_plan(budget_bytes=budget, reserve_bytes=32 * MIB)
    said = fact(plan, "device memory")
    assert f"{format_bytes(budget)} budget less 32.0 MiB in reserve: " in said
    free = budget - 32 * MIB - plan.timeline.device_bytes
    assert format_bytes(abs(free)) in said
    assert verdict in said


def test_compiled_numbers_are_told_apart_from_predicted_ones() -> None:
    plan = mixed_plan(compiled=COMPILED, host_budget_bytes=100 * MIB)
    said = fact(plan, "device memory")
    assert said.startswith("600 MiB predicted; ")
    assert "640 MiB compiled, of which 500 MiB temporaries" in said
    assert "prediction off by -6.2%; compilations: 2" in said
    host = "64.0 MiB simulated; 70.0 MiB compiled; 100 MiB budget"
    assert fact(plan, "host memory").startswith(host)
    assert fact(plan, "copies").endswith(
        "compiled: 128 MiB both ways, 32.0 MiB of it exposed"
    )


def test_step_is_split_into_its_shares() -> None:
    plan = mixed_plan(SLOW_LINK)
    timeline = plan.timeline
    again = timeline.recompute_seconds
    parts = (timeline.compute_seconds - again, again, timeline.stall_seconds)
    assert min(parts) > 0
    said = fact(plan, "step")
    for seconds, word in zip(parts, ("compute", "recompute", "waiting"), strict=True):
        share = seconds / timeline.seconds
        assert f"{format_seconds(seconds)} {word} ({share:.0%})" in said
    factor = timeline.seconds / plan.plain.seconds
    assert f"with everything kept: {factor:.2f} x as long" in said


def test_a_report_says_what_its_seconds_rest_on() -> None:
    plan = mixed_plan()
    said = fact(plan, "step")
    assert "nothing measured by operation; the rest follows from published" in said
    assert "700 us more for each call that is waited for" in said
    graph = plan.graph
    equations = tuple(
        dataclasses.replace(e, operation="a product" if e.work else "")
        for e in graph.equations
    )
    known = dataclasses.replace(
        plan,
        graph=dataclasses.replace(graph, equations=equations),
        target=dataclasses.replace(H100, operations=(("a product", 1e-3),)),
    )
    measured = summary(known)["measured_seconds"]
    assert measured >= 0.9 * sum(bool(e.work) for e in equations) * 1e-3
    assert f"{format_seconds(measured)} (" in fact(known, "step")
    assert summary(plan)["measured_seconds"] == 0.0


def test_a_report_says_what_the_first_step_waits_for() -> None:
    plan = mixed_plan()
    seconds = plan.host_bytes / rates_of(H100).pinning_bytes_per_second
    waits = f"the first step waits {format_seconds(seconds)} until this memory is"
    assert waits in fact(plan, "host memory")
    assert "first step" not in fact(empty_plan(), "host memory")


def test_no_wait_is_no_rounding_error() -> None:
    assert "0 s waiting (0%)" in fact(mixed_plan(), "step")


def test_bound_and_gap() -> None:
    plan = mixed_plan()
    assert fact(plan, "lower bound") == ""
    half = dataclasses.replace(plan, bound_seconds=plan.seconds / 2)
    assert "the gap is 50.0% of this plan" in fact(half, "lower bound")


def test_copies_are_counted_each_way() -> None:
    said = fact(mixed_plan(), "copies")
    assert "1 out (64.0 MiB in 1.26 ms), 2 in (128 MiB in 2.52 ms)" in said
    assert fact(plan_of(busy(chain(3))), "copies") == "none"


def test_decisions_are_counted_by_what_happens() -> None:
    said = fact(mixed_plan(), "decisions")
    assert said.startswith("15 large values (of 1.00 MiB and more): 7 keep (448 MiB), ")
    assert "1 offload (64.0 MiB), 1 recompute (64.0 MiB), 6 drop (384 MiB)" in said
    # Eight slopes and the last result.
    assert said.endswith(
        "9 more (576 MiB) are never stored: they fuse into what reads them"
    )


def test_guessed_costs_are_named_once() -> None:
    plan = mixed_plan()
    equations = [
        dataclasses.replace(eqn, is_known=eqn.primitive != "tanh")
        for eqn in plan.graph.equations
    ]
    graph = dataclasses.replace(plan.graph, equations=tuple(equations))
    assert fact(plan, "guessed costs") == ""
    assert fact(plan_of(graph), "guessed costs").startswith("tanh: ")


def test_like_rows_are_one_line_and_others_are_not() -> None:
    lines = table(mixed_plan(budget_bytes=1024 * MIB))
    kept = [line for line in lines if " keep " in line and "tanh" in line]
    assert len(kept) == 1
    assert kept[0].startswith("   5 x 64.0 MiB  keep")
    assert "e.g. " in kept[0]
    assert sum("offload" in line for line in lines) == 1


def test_rows_stand_under_their_modules() -> None:
    graph = scoped(busy(chain(8)))
    lines = table(plan_of(graph, {results_of(graph, "tanh")[1]: Action.OFFLOAD}))
    assert lines[0] == "  Net/part1"
    assert "  Net/part0" in lines
    (swapped,) = [line for line in lines if "offload" in line]
    assert swapped[39:43] == "tanh"


def test_only_the_largest_rows_are_shown() -> None:
    graph = busy(chain(20))
    values = [dataclasses.replace(v, name=f"v{v.index}") for v in graph.values]
    plan = plan_of(dataclasses.replace(graph, values=tuple(values)))
    lines = [line for line in table(plan) if line[:39].strip()]
    assert len(lines) == SHOWN + 1
    rest = len(plan.rows) - SHOWN
    assert rest > 0
    size = format_bytes(rest * 64 * MIB)
    assert lines[-1] == f"  and {rest} more values, {size} in all, 0 s simulated"
    kept = [row for row in summary(plan)["rows"] if row["outcome"] == "keep"]
    assert len([line for line in lines if " keep " in line]) == len(kept)


def test_no_line_is_too_long() -> None:
    graph = busy(chain(6))
    long = "module/" * 30 + "name"
    values = [dataclasses.replace(v, scope=long, name="n" * 200) for v in graph.values]
    graph = dataclasses.replace(graph, values=tuple(values))
    equations = [
        dataclasses.replace(e, is_known=False, primitive=f"{e.primitive}_{e.index}" * 3)
        for e in graph.equations
    ]
    graph = dataclasses.replace(graph, equations=tuple(equations))
    plans = (mixed_plan(SLOW_LINK, compiled=COMPILED, budget_bytes=1), plan_of(graph))
    for plan in plans:
        assert max(map(len, describe(plan).splitlines())) <= 110


def test_plan_without_decisions_can_be_described() -> None:
    said = fact(forward_plan(), "decisions")
    assert said == "0 large values (of 1.00 MiB and more): none"
    for plan in (forward_plan(), empty_plan()):
        assert json.dumps(summary(plan), allow_nan=False)
        assert describe(plan)


def numbers(data: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in plain data, with the key that it stands under."""
    if isinstance(data, dict):
        for name, item in data.items():
            yield from numbers(item, name)
    elif isinstance(data, list):
        for item in data:
            yield from numbers(item, key)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield key, data


def test_summary_is_json_with_units_in_its_keys() -> None:
    data = summary(mixed_plan(SLOW_LINK, compiled=COMPILED, budget_bytes=1024 * MIB))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    ends = ("bytes", "seconds", "share", "count", "shape", "value")
    assert not [key for key, _ in numbers(data) if not key.endswith(ends)]


def test_summary_agrees_with_the_plan() -> None:
    plan = found_plan(220 * MIB)
    data = summary(plan)
    assert data["budget_bytes"] == 220 * MIB
    assert data["predicted_device_bytes"] == plan.timeline.device_bytes
    after = data["simulated"]
    assert after["seconds"] == plan.seconds
    parts = [after[f"{part}_seconds"] for part in ("compute", "recompute", "stall")]
    assert sum(parts) == pytest.approx(plan.seconds)
    assert data["plain"]["device_bytes"] == plan.plain.device_bytes
    assert data["compiled"] is None
    totals = {outcome.value: 0 for outcome in Outcome}
    for row in data["rows"]:
        totals[row["outcome"]] += row["bytes"]
    assert totals == {name: o["bytes"] for name, o in data["outcomes"].items()}
    outward = [t for t in plan.timeline.transfers if not t.is_inward]
    assert after["out"]["count"] == len(outward)
    moved = sum(plan.graph.values[t.value].nbytes for t in outward)
    assert after["out"]["bytes"] == moved


def test_summary_keeps_what_was_compiled() -> None:
    data = summary(mixed_plan(compiled=COMPILED))
    fields = dataclasses.asdict(COMPILED)
    assert data["compiled"] == json.loads(json.dumps(fields))
    assert data["predicted_device_bytes"] == COMPILED.predicted_device_bytes
