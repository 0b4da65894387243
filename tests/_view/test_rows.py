"""What is said about each decision: costs, outcomes and reasons."""

import dataclasses

import pytest
from handmade import MIB, Builder, chain, results_of
from handmade_plans import (
    H100,
    SLOW_LINK,
    busy,
    forward_plan,
    found_plan,
    mixed_plan,
    plan_of,
)

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action, Value
from jaxswap._plans.plan import Plan, Row
from jaxswap._view.rows import Outcome, outcomes_of, rows_of, short_name, stalls_of

COPY_SECONDS = 64 * MIB / rates_of(H100).swap_out_bytes_per_second
COPY_SECONDS += rates_of(H100).copy_latency_seconds


def row_of(plan: Plan, v: int) -> Row:
    (row,) = [row for row in rows_of(plan) if row.value.index == v]
    return row


def test_every_buffer_of_the_forward_pass_has_a_row_in_order() -> None:
    plan = mixed_plan()
    dots, tanhs = (results_of(plan.graph, name) for name in ("dot", "tanh"))
    # The last result is read by what fuses with it, and never stored.
    stored = sorted({*dots, *tanhs[:-1]})
    assert [row.value.index for row in rows_of(plan)] == stored
    assert set(outcomes_of(plan)) == {row.value.index for row in rows_of(plan)}


def test_kept_value_tells_what_is_free_while_it_is_alive() -> None:
    plan = mixed_plan(budget_bytes=1024 * MIB, reserve_bytes=64 * MIB)
    row = row_of(plan, results_of(plan.graph, "tanh")[3])
    free = (1024 - 64) * MIB - plan.timeline.device_bytes
    assert (row.action, row.seconds, row.stall_seconds) == (Action.KEEP, 0.0, 0.0)
    assert row.why == f"fits: {format_bytes(free)} are free while it is alive"


def test_kept_value_tells_what_is_missing() -> None:
    plan = mixed_plan(budget_bytes=64 * MIB)
    missing = format_bytes(plan.timeline.device_bytes - 64 * MIB)
    row = row_of(plan, results_of(plan.graph, "tanh")[3])
    assert row.why == f"stays, though {missing} are missing then"


def test_kept_value_without_a_budget() -> None:
    row = row_of(mixed_plan(policy="mine"), results_of(mixed_plan().graph, "tanh")[3])
    assert row.why == "mine keeps it; there is no budget to meet"


def test_value_that_is_read_soon_tells_how_soon() -> None:
    plan = mixed_plan(budget_bytes=1024 * MIB)
    *_, before, last = results_of(plan.graph, "dot")
    copies = f"copies would take 2 x {format_seconds(COPY_SECONDS)}"
    assert row_of(plan, last).why == f"read again at once; {copies}"
    why = row_of(plan, results_of(plan.graph, "tanh")[-2]).why
    assert why.startswith("idle for ")
    assert why.endswith(copies)
    assert row_of(plan, before).why == "only the forward pass reads it"


def test_swapped_value_costs_its_copies_and_tells_what_hides_them() -> None:
    plan = mixed_plan()
    v = results_of(plan.graph, "tanh")[1]
    row = row_of(plan, v)
    copies = [t for t in plan.timeline.transfers if t.value == v]
    assert len(copies) >= 2
    assert row.seconds == pytest.approx(len(copies) * COPY_SECONDS)
    assert row.stall_seconds == 0
    away = copies[-1].end_seconds - copies[0].start_seconds
    took = format_seconds(COPY_SECONDS)
    work = f"copies ({len(copies)} x {took}) run beside {format_seconds(away)} of work"
    assert row.why == work


def test_swapped_value_that_is_waited_for_tells_what_a_recomputation_would_take() -> (
    None
):
    plan = mixed_plan(SLOW_LINK)
    v = results_of(plan.graph, "tanh")[1]
    row = row_of(plan, v)
    assert row.stall_seconds == pytest.approx(plan.timeline.stall_seconds)
    assert row.stall_seconds > 0
    alone = row_of(mixed_plan(), results_of(plan.graph, "tanh")[2]).seconds
    waited = f"waited {format_seconds(row.stall_seconds)}; a recomputation takes "
    assert row.why == f"{waited}{format_seconds(alone)} + 1 more"


def test_value_with_side_effects_is_not_to_run_twice() -> None:
    plan = mixed_plan(SLOW_LINK)
    v = results_of(plan.graph, "tanh")[1]
    equations = [
        dataclasses.replace(eqn, is_pure=v not in eqn.outputs)
        for eqn in plan.graph.equations
    ]
    graph = dataclasses.replace(plan.graph, equations=tuple(equations))
    plan = plan_of(graph, {v: Action.OFFLOAD}, target=SLOW_LINK)
    assert row_of(plan, v).why.endswith("; its operation must not run twice")


def test_stalls_count_for_the_value_that_is_waited_for() -> None:
    plan = mixed_plan(SLOW_LINK)
    stalls = stalls_of(plan.timeline)
    assert set(stalls) == {results_of(plan.graph, "tanh")[1]}
    assert stalls_of(mixed_plan().timeline) == {}


def test_recomputed_value_costs_its_recomputation() -> None:
    plan = mixed_plan()
    row = row_of(plan, results_of(plan.graph, "tanh")[2])
    assert row.seconds == pytest.approx(plan.timeline.recompute_seconds)
    took, copy = format_seconds(row.seconds), format_seconds(COPY_SECONDS)
    assert row.why == f"again in {took}; copies would take 2 x {copy}"


def test_value_that_only_the_backward_pass_makes_is_said_to_be() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    late = b.run("dot", [x, x], 64 * MIB)
    loss = b.run("sum", [x], 4)
    g = b.run("mul", [b.cotangent(), late], 64 * MIB, is_backward=True)
    graph = busy(b.graph([loss], [b.run("dot", [g, x], MIB, is_backward=True)]))
    plan = plan_of(graph, {late: Action.RECOMPUTE})
    row = row_of(plan, late)
    took = format_seconds(row.seconds)
    assert row.why == f"made in the backward pass alone, in {took}"
    assert outcomes_of(plan)[late] is Outcome.RECOMPUTE


def test_large_result_is_the_callers() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    plan = plan_of(b.graph([b.run("dot", [x, x], 64 * MIB)]))
    (row,) = rows_of(plan)
    assert row.why == "a result, which the caller holds"


def test_value_that_the_backward_pass_does_not_read_is_dropped() -> None:
    graph = busy(chain(8))
    v = results_of(graph, "dot")[2]
    for action in (Action.KEEP, Action.OFFLOAD):
        plan = plan_of(graph, {v: action})
        row = row_of(plan, v)
        assert outcomes_of(plan)[v] is Outcome.DROP
        assert (row.action, row.seconds) == (action, 0.0)
        assert row.why == "only the forward pass reads it"


def test_swapped_value_of_the_backward_pass_has_a_row() -> None:
    b = Builder()
    x = b.argument(64 * MIB)
    loss = b.run("sum", [x], 4)
    first = b.run("dot", [b.cotangent(), x], 64 * MIB, is_backward=True)
    g = first
    for _ in range(8):
        g = b.run("dot", [g, x], 64 * MIB, is_backward=True)
    last = b.run("dot", [g, first], MIB, is_backward=True)
    graph = busy(b.graph([loss], [last]))
    plan = plan_of(graph, {first: Action.OFFLOAD})
    assert [row.value.index for row in rows_of(plan)] == [first]
    assert outcomes_of(plan)[first] is Outcome.OFFLOAD
    slow = plan_of(graph, {first: Action.OFFLOAD}, target=SLOW_LINK)
    assert row_of(slow, first).why.endswith("no recomputation of backward values")


def test_rows_of_a_found_plan_add_up() -> None:
    plan = found_plan(220 * MIB)
    rows, timeline = rows_of(plan), plan.timeline
    outcomes = outcomes_of(plan)
    recomputations = [r for r in rows if outcomes[r.value.index] is Outcome.RECOMPUTE]
    swaps = [r for r in rows if outcomes[r.value.index] is Outcome.OFFLOAD]
    assert recomputations or swaps
    assert sum(r.seconds for r in recomputations) <= timeline.recompute_seconds * (
        1 + 1e-9
    )
    copied = sum(t.seconds for t in timeline.transfers)
    assert sum(r.seconds for r in swaps) == pytest.approx(copied)


def test_nothing_to_decide_on_makes_no_rows() -> None:
    assert rows_of(forward_plan()) == ()


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"name": "given", "scope": "Net/a"}, "given"),
        ({"scope": "Net/block/norm"}, "block/norm"),
        ({"scope": "Net"}, "Net"),
        ({"source": "/home/me/model.py:18:4 (f)"}, "tanh model.py:18"),
        ({}, "tanh"),
    ],
)
def test_short_name(more: dict[str, str], name: str) -> None:
    value = dataclasses.replace(Value(0, 4, (1,), None, "tanh"), **more)
    assert short_name(value) == name
