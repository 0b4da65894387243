"""The plan as an object: its numbers, and what becomes of it when it is edited."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from handmade import MIB, chain, results_of
from handmade_plans import COMPILED, busy, empty_plan, mixed_plan, plan_of

from jaxswap import KEEP, OFFLOAD, RECOMPUTE, Action, Plan
from jaxswap._graph.graph import Graph, Value

ROOMY = 1 << 40
GRAPH = busy(chain(8))
TANH = results_of(GRAPH, "tanh")


def named_graph() -> Graph:
    """The chain, with scopes by which values can be found."""
    values = [
        dataclasses.replace(v, scope="encoder" if v.index < TANH[4] else "decoder")
        for v in GRAPH.values
    ]
    return dataclasses.replace(GRAPH, values=tuple(values))


def kept_plan(**more: Any) -> Plan:
    given: dict[str, Any] = {"budget_bytes": ROOMY} | more
    return plan_of(named_graph(), **given)


def changed(plan: Plan, edited: Plan) -> dict[int, Action]:
    pairs = enumerate(zip(plan.actions, edited.actions, strict=True))
    return {v: then for v, (now, then) in pairs if now is not then}


def test_numbers_are_predicted_until_a_program_was_compiled() -> None:
    plan = mixed_plan(correction_bytes=5 * MIB)
    assert plan.device_bytes == plan.timeline.device_bytes + 5 * MIB
    assert plan.host_bytes == plan.timeline.host_bytes == 64 * MIB
    compiled = mixed_plan(correction_bytes=5 * MIB, compiled=COMPILED)
    assert compiled.device_bytes == COMPILED.device_bytes
    assert compiled.host_bytes == COMPILED.host_bytes
    assert compiled.seconds == plan.seconds == plan.timeline.seconds


def test_plain_keeps_everything() -> None:
    plan = mixed_plan()
    assert plan.plain.host_bytes == 0
    assert not plan.plain.transfers
    assert plan.plain.device_bytes > plan.timeline.device_bytes
    assert plan.plain.seconds < plan.seconds


@pytest.mark.parametrize(("share", "gap"), [(0.5, 0.5), (1.0, 0.0), (2.0, 0.0)])
def test_gap_is_what_the_bound_leaves(share: float, gap: float) -> None:
    plan = mixed_plan()
    bounded = dataclasses.replace(plan, bound_seconds=share * plan.seconds)
    assert bounded.gap == pytest.approx(gap)
    assert empty_plan().gap == 0.0


def test_staleness_of_the_draft_is_the_plans() -> None:
    plan = dataclasses.replace(mixed_plan(), staleness=(1, MIB))
    assert plan.draft.staleness == (1, MIB)
    assert mixed_plan().draft.staleness == mixed_plan().arranger.staleness


def test_schedule_is_given_for_the_same_program_alone() -> None:
    plan = mixed_plan()
    assert plan.schedule_of(plan.graph) is plan.draft.schedule
    relabelled = [dataclasses.replace(v, source="b.py:9 (f)") for v in GRAPH.values]
    again = dataclasses.replace(GRAPH, values=tuple(relabelled))
    assert plan.schedule_of(again) is plan.draft.schedule
    for other in (chain(8, nbytes=32 * MIB), chain(7)):
        with pytest.raises(ValueError, match="the plan was made for other") as caught:
            plan.schedule_of(other)
        text = str(caught.value)
        assert str(plan.signature) in text
        assert text.count("program ") == 2
        assert "jaxswap.plan" in text


@pytest.mark.parametrize("action", Action)
def test_action_of_one_value_is_changed_by_index_or_value(action: Action) -> None:
    plan = kept_plan()
    expected = {} if action is KEEP else {TANH[2]: action}
    for value in (TANH[2], plan.graph.values[TANH[2]]):
        edited = plan.with_action(value, action)
        assert changed(plan, edited) == expected
        assert edited.graph is plan.graph


def test_action_is_changed_by_a_part_of_the_label() -> None:
    plan = kept_plan()
    edited = plan.with_action("decoder/tanh", OFFLOAD)
    assert set(changed(plan, edited)) == set(TANH[4:])
    edited = plan.with_action("tanh", RECOMPUTE)
    assert {edited.actions[v] for v in TANH} == {RECOMPUTE}
    assert set(changed(plan, edited)) <= set(TANH)


def test_edited_plan_is_laid_out_and_simulated_anew() -> None:
    plan = kept_plan()
    edited = plan.with_action(TANH[0], OFFLOAD)
    assert {swap.value for swap in edited.swaps} == {TANH[0]}
    assert edited.host_bytes == 64 * MIB
    assert edited.timeline.device_bytes < plan.timeline.device_bytes
    assert edited.schedule_of(plan.graph) != plan.schedule_of(plan.graph)
    back = edited.with_action(TANH[0], KEEP)
    assert back.actions == plan.actions
    assert not back.swaps
    assert back.timeline.seconds == plan.timeline.seconds


def test_editing_leaves_the_plan_itself_as_it_is() -> None:
    plan = kept_plan()
    before = (plan.actions, plan.swaps, plan.seconds, plan.device_bytes)
    plan.with_action("tanh", OFFLOAD)
    assert (plan.actions, plan.swaps, plan.seconds, plan.device_bytes) == before


def test_edited_plan_is_no_longer_compiled_nor_the_policys() -> None:
    plan = kept_plan(compiled=COMPILED, policy="LMS()", correction_bytes=MIB)
    edited = plan.with_action(TANH[1], OFFLOAD)
    assert edited.compiled is None
    assert edited.policy == ""
    assert edited.device_bytes == edited.timeline.device_bytes + MIB
    kept = ("target", "signature", "budget_bytes", "reserve_bytes", "large_bytes")
    for name in (*kept, "host_budget_bytes", "bound_seconds", "correction_bytes"):
        assert getattr(edited, name) == getattr(plan, name), name


def test_copies_of_an_edited_plan_are_placed_below_its_budget() -> None:
    wide = kept_plan().with_action("tanh", OFFLOAD)
    least = kept_plan(budget_bytes=1).with_action("tanh", OFFLOAD)
    assert least.timeline.device_bytes < wide.timeline.device_bytes
    needed = least.timeline.device_bytes
    for more in (
        {"budget_bytes": needed},
        {"budget_bytes": needed + 64 * MIB, "reserve_bytes": 64 * MIB},
        {"budget_bytes": needed + 64 * MIB, "correction_bytes": 64 * MIB},
    ):
        edited = kept_plan(**more).with_action("tanh", OFFLOAD)
        assert edited.timeline.device_bytes == needed
    # Without a budget it is the GPU's memory that counts.
    free = kept_plan(budget_bytes=None).with_action("tanh", OFFLOAD)
    assert free.timeline.device_bytes == wide.timeline.device_bytes


BACKWARD = results_of(GRAPH, "mul", is_backward=True)[0]
SMALL = results_of(GRAPH, "sum")[0]


@pytest.mark.parametrize(
    "value",
    [
        "no such label",
        10**6,
        -1,
        GRAPH.arguments[0],
        BACKWARD,
        SMALL,
        GRAPH.values[BACKWARD],
        None,
        1.5,
    ],
)
def test_only_large_forward_values_can_be_changed(value: Any) -> None:
    with pytest.raises(ValueError, match="no value that the plan decides on") as caught:
        kept_plan().with_action(value, OFFLOAD)
    assert repr(value)[:20] in str(caught.value)
    assert "1.00 MiB" in str(caught.value)


@pytest.mark.parametrize("action", ["offload", None, 1, Action])
def test_only_actions_are_actions(action: Any) -> None:
    with pytest.raises(ValueError, match=r"must be jaxswap\.KEEP, jaxswap\.OFFLOAD"):
        kept_plan().with_action(TANH[0], action)


def test_value_of_another_program_is_found_by_its_index() -> None:
    other = chain(9).values[TANH[3]]
    assert isinstance(other, Value)
    plan = kept_plan()
    assert set(changed(plan, plan.with_action(other, OFFLOAD))) == {TANH[3]}


def test_it_is_shown_in_one_line() -> None:
    plan = mixed_plan(compiled=COMPILED)
    pattern = (
        r"Plan\(target='h100', device_bytes=\d+, host_bytes=\d+, seconds=[\d.e-]+\)"
    )
    assert re.fullmatch(pattern, repr(plan))
    assert str(COMPILED.device_bytes) in repr(plan)


def test_it_is_written_as_text_data_and_page(tmp_path: Path) -> None:
    plan = mixed_plan(budget_bytes=ROOMY)
    assert str(plan).startswith("plan for h100")
    summary = json.loads(json.dumps(plan.summary()))
    assert summary["budget_bytes"] == ROOMY
    assert len(summary["rows"]) == len(plan.rows)
    page = plan.to_html(tmp_path / "plan.html")
    assert (tmp_path / "plan.html").read_text() == page == plan.to_html()
    assert plan.save(tmp_path / "plan.json") == tmp_path / "plan.json"


@pytest.mark.parametrize("write", [Plan.to_html, Plan.save, Plan.plot])
def test_no_folder_is_made(tmp_path: Path, write: Any) -> None:
    suffix = "png" if write is Plan.plot else "json"
    with pytest.raises(FileNotFoundError, match="no folder"):
        write(mixed_plan(), tmp_path / "gone" / f"plan.{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_value_of_another_program_is_not_taken_for_the_one_of_its_index() -> None:
    """Values of loops' bodies are counted from zero as well."""
    plan = kept_plan()
    mine = plan.graph.values[TANH[1]]
    assert plan.with_action(mine, OFFLOAD).actions[TANH[1]] is OFFLOAD
    other = dataclasses.replace(mine, shape=(1, 2, 3))
    with pytest.raises(ValueError, match="no value that the plan decides on"):
        plan.with_action(other, OFFLOAD)
