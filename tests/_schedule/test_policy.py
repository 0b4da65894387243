"""What policies decide, and which of their arguments they refuse."""

import dataclasses
import re
from typing import Any

import pytest
from handmade import MIB, Builder, chain, results_of

import jaxswap
from jaxswap._graph.graph import Action, Graph, Value
from jaxswap._schedule.policy import as_policy
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._schedule.timing import Distance


def actions_of(graph: Graph, policy: Any) -> tuple[Action, ...]:
    return as_policy(policy).decide(graph).actions


def test_default_swaps_heavy_results_and_recomputes_cheap_ones() -> None:
    graph = chain(4)
    actions = actions_of(graph, None)
    assert {actions[v] for v in results_of(graph, "dot")} == {Action.OFFLOAD}
    assert {actions[v] for v in results_of(graph, "tanh")} == {Action.RECOMPUTE}
    assert {actions[v] for v in results_of(graph, "slope")} == {Action.RECOMPUTE}


def test_default_keeps_small_values() -> None:
    graph = chain(4, nbytes=MIB // 2)
    actions = actions_of(graph, None)
    assert {actions[v] for v in results_of(graph, "dot")} == {Action.KEEP}


def test_default_keeps_what_is_small_beside_the_largest() -> None:
    b = Builder()
    x = b.argument()
    large, small = b.run("dot", [x], 640 * MIB), b.run("dot", [x], 2 * MIB)
    actions = actions_of(b.graph([large, small]), None)
    assert (actions[large], actions[small]) == (Action.OFFLOAD, Action.KEEP)


def test_default_swaps_the_sum_of_a_residual_connection_itself() -> None:
    b = Builder()
    x = b.argument()
    left, right = b.run("dot", [x], 64 * MIB), b.run("dot", [x], 64 * MIB)
    total = b.run("add", [left, right], 64 * MIB)
    out = b.run("dot", [total], 64 * MIB)
    g = b.run("dot", [b.cotangent(), total], 64 * MIB, is_backward=True)
    actions = actions_of(b.graph([out], [g]), None)
    assert actions[total] is Action.OFFLOAD


def test_default_recomputes_a_product_whose_factors_are_there_anyway() -> None:
    b = Builder()
    x = b.argument()
    left, right = b.run("dot", [x], 64 * MIB), b.run("dot", [x], 64 * MIB)
    gated = b.run("mul", [left, right], 64 * MIB)
    out = b.run("dot", [gated], 64 * MIB)
    ct = b.cotangent()
    g = b.run("dot", [ct, gated], 64 * MIB, is_backward=True)
    one = b.run("mul", [g, left], 64 * MIB, is_backward=True)
    other = b.run("mul", [g, right], 64 * MIB, is_backward=True)
    actions = actions_of(b.graph([out], [one, other]), None)
    assert actions[gated] is Action.RECOMPUTE


def test_default_swaps_a_skip_connection_even_if_it_is_cheap() -> None:
    b = Builder()
    x = b.argument()
    first = b.run("dot", [x], 64 * MIB)
    skip = b.run("tanh", [first], 64 * MIB)
    h = skip
    for _ in range(9):
        h = b.run("dot", [h], 64 * MIB)
    out = b.run("add", [h, skip], 64 * MIB)
    actions = actions_of(b.graph([out]), None)
    assert actions[skip] is Action.OFFLOAD


def test_function_decides_value_by_value() -> None:
    graph = chain(3)
    seen: list[Value] = []

    def policy(value: Value) -> Action:
        seen.append(value)
        return Action.OFFLOAD if value.primitive == "tanh" else Action.RECOMPUTE

    actions = actions_of(graph, policy)
    assert {actions[v] for v in results_of(graph, "tanh")} == {Action.OFFLOAD}
    assert {actions[v] for v in results_of(graph, "dot")} == {Action.RECOMPUTE}
    assert not [v for v in seen if v.is_argument]
    assert {actions[v] for v in graph.arguments} == {Action.KEEP}


def test_an_action_stands_for_all_values() -> None:
    graph = chain(3)
    actions = actions_of(graph, jaxswap.OFFLOAD)
    assert {actions[v] for v in results_of(graph, "tanh")} == {Action.OFFLOAD}


def test_lms_swaps_what_is_executed_and_puts_off_the_rest() -> None:
    graph = chain(3)
    decision = jaxswap.LMS(4, 2, 1).decide(graph)
    assert {decision.actions[v] for v in results_of(graph, "dot")} == {Action.OFFLOAD}
    assert {decision.actions[v] for v in results_of(graph, "slope")} == {
        Action.RECOMPUTE
    }
    timing = decision.timing
    assert timing.distance is Distance.LEVEL
    assert (timing.swapout_threshold, timing.swapin_ahead, timing.swapin_groupby) == (
        4,
        2,
        1,
    )


@pytest.mark.parametrize(
    ("sync_mode", "expected"),
    [(0, (False, False)), (1, (True, False)), (2, (False, True)), (3, (True, True))],
)
def test_lms_sync_modes(sync_mode: int, expected: tuple[bool, bool]) -> None:
    timing = jaxswap.LMS(sync_mode=sync_mode).decide(chain(2)).timing
    assert (timing.sync_swapout, timing.sync_swapin) == expected


def test_lms_filters_by_producer() -> None:
    graph = chain(3)
    graph = dataclasses.replace(
        graph,
        values=tuple(
            dataclasses.replace(v, scope="encoder/x" if v.index < 7 else "decoder/y")
            for v in graph.values
        ),
    )

    def swapped(policy: jaxswap.LMS) -> set[int]:
        actions = policy.decide(graph).actions
        return {i for i, a in enumerate(actions) if a is Action.OFFLOAD}

    everything = swapped(jaxswap.LMS())
    encoder = swapped(jaxswap.LMS(include=("encoder",)))
    assert encoder == {v for v in everything if v < 7} != everything
    assert swapped(jaxswap.LMS(exclude=("encoder",))) == everything - encoder
    only = swapped(jaxswap.LMS(include=("dot",)))
    assert only == set(results_of(graph, "dot"))


def test_lms_never_swaps_vectors_or_small_tensors() -> None:
    graph = chain(3)
    flat = dataclasses.replace(
        graph, values=tuple(dataclasses.replace(v, shape=(9,)) for v in graph.values)
    )
    assert Action.OFFLOAD not in jaxswap.LMS().decide(flat).actions
    big = jaxswap.LMS(min_bytes=65 * MIB).decide(graph)
    assert Action.OFFLOAD not in big.actions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"swapout_threshold": 0},
            "`swapout_threshold` is 0; an integer of at least 1",
        ),
        ({"swapin_ahead": -1}, "`swapin_ahead` is -1; an integer of at least 1"),
        ({"swapin_groupby": -1}, "`swapin_groupby` is -1; an integer of at least 0"),
        ({"min_bytes": "1GiB"}, "`min_bytes` is '1GiB'; an integer of at least 0"),
        ({"swapin_ahead": True}, "`swapin_ahead` is True"),
        ({"sync_mode": 4}, "`sync_mode` is 4; it must be 0 (asynchronous)"),
        ({"include": "("}, "`include` holds '(', which is not a regular expression"),
    ],
)
def test_lms_refuses_what_is_out_of_range(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        jaxswap.LMS(**arguments)


@pytest.mark.parametrize("policy", [jaxswap.LMS, SwapHeavy])
def test_policy_class_is_refused(policy: Any) -> None:
    with pytest.raises(TypeError, match=r"pass an instance of it, such as \w+\(\)"):
        jaxswap.offload(lambda x: x, policy=policy)


def test_other_objects_are_refused_as_policy() -> None:
    with pytest.raises(TypeError, match="`policy` is 'swap'; it must be None"):
        jaxswap.offload(lambda x: x, policy="swap")  # type: ignore[arg-type]


def test_function_that_returns_no_action_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`policy` returned True for the value 'dot'"):
        actions_of(chain(2), lambda value: True)
