"""The published systems as policies: what each decides, and TFLMSv2's search."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import MIB, Builder, chain, results_of
from handmade_plans import H100, busy

import jaxswap
from jaxswap import policies
from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.decision import Decision, Policy
from jaxswap._schedule.instructions import Run
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._simulate.kernels import Kernel

GRAPH = busy(chain(6))
LEVELS = len(GRAPH.equations) + 1
NAMES = (*policies.PUBLISHED, *policies.JAX_OWN)
SWAPPING = ("TFLMSv2", "Imai2018", "SwapEverything", "SaveOnCpu", "OffloadDots")
Dials = tuple[int, int, int, int]
"""Threshold, ahead, groupby, sync mode."""


def make(name: str, **dials: Any) -> Any:
    return getattr(policies, name)(**dials)


@functools.cache
def arranger() -> Arranger:
    return Arranger(GRAPH, rates_of(H100), MIB)


def follow(policy: Policy) -> Draft:
    return arranger().follow(policy.decide(GRAPH))


def kept() -> Draft:
    return arranger().draft([Action.KEEP] * len(GRAPH.values), ())


def offloaded(policy: Policy, graph: Graph = GRAPH) -> set[int]:
    actions = policy.decide(graph).actions
    return {v for v, action in enumerate(actions) if action is Action.OFFLOAD}


def recomputed(draft: Draft) -> set[str]:
    return {
        GRAPH.equations[step.equation].primitive
        for step in draft.schedule.backward
        if isinstance(step, Run) and step.is_recomputed
    }


def dials_of(decision: Decision) -> Dials:
    timing = decision.timing
    mode = timing.sync_swapout + 2 * timing.sync_swapin
    return (
        timing.swapout_threshold,
        timing.swapin_ahead,
        timing.swapin_groupby,
        mode,
    )


def tuned(fits: Callable[[Dials], bool], **options: int) -> tuple[Dials, list[Dials]]:
    """The dials that TFLMSv2 settles on, and those that it tried."""
    tried: list[Dials] = []

    def recorded(decision: Decision) -> bool:
        tried.append(dials_of(decision))
        return fits(tried[-1])

    return dials_of(policies.TFLMSv2(**options).tune(GRAPH, recorded)), tried


OFF = (LEVELS, 1, 0, 0)


def test_tflms_swaps_nothing_if_nothing_need_be_swapped() -> None:
    found, tried = tuned(lambda dials: True)
    assert tried == [OFF]
    assert found == OFF
    decision = policies.TFLMSv2().tune(GRAPH, lambda decision: True)
    assert not arranger().follow(decision).swaps


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_tflms_takes_the_first_mode_in_which_maximal_swapping_fits(mode: int) -> None:
    found, tried = tuned(lambda dials: dials != OFF and dials[3] >= mode)
    assert tried[: mode + 2] == [OFF, *((1, 1, 0, m) for m in range(mode + 1))]
    assert {dials[3] for dials in tried[mode + 2 :]} == {mode}
    assert found[3] == mode
    is_ahead_searched = {dials[1:3] for dials in tried} != {(1, 0)}
    assert is_ahead_searched is (mode < 2)  # not if swap-ins are waited for


def test_tflms_swaps_all_it_can_if_nothing_fits() -> None:
    found, tried = tuned(lambda dials: False)
    assert tried == [OFF, *((1, 1, 0, mode) for mode in range(4))]
    assert found == (1, 1, 0, 3)


def test_tflms_searches_threshold_then_ahead_then_groupby() -> None:
    def fits(dials: Dials) -> bool:
        threshold, ahead, groupby, _ = dials
        return threshold <= 5 and ahead <= 3 and groupby <= 4

    found, tried = tuned(fits)
    assert found[:2] == (5, 3)
    assert found[3] == 0
    assert 0 < found[2] <= 4
    # One dial at a time: the earlier ones are settled, the later ones at their start.
    first_ahead = next(i for i, dials in enumerate(tried) if dials[1] != 1)
    first_groupby = next(i for i, dials in enumerate(tried) if dials[2] != 0)
    assert {dials[1:] for dials in tried[1:first_ahead]} == {(1, 0, 0)}
    middle = tried[first_ahead:first_groupby]
    assert {(dials[0], *dials[2:]) for dials in middle} == {(5, 0, 0)}
    assert {dials[:2] for dials in tried[first_groupby:]} == {(5, 3)}


def test_tflms_tries_thresholds_by_bisection() -> None:
    _, tried = tuned(lambda dials: dials[0] <= 5)
    of_threshold = [dials[0] for dials in tried[2:] if dials[1:] == (1, 0, 0)]
    assert of_threshold == [20, 10, 5, 7, 6]


def test_tflms_ahead_ends_at_its_limit() -> None:
    found, tried = tuned(lambda dials: dials != OFF, most_ahead=7)
    assert found[:2] == (LEVELS - 1, 7)
    assert max(dials[1] for dials in tried) == 7


def test_tflms_stops_at_the_first_groupby_that_fits() -> None:
    found, tried = tuned(lambda dials: dials[0] < LEVELS and dials[2] <= 5)
    of_groupby = [dials[2] for dials in tried if dials[2]]
    assert of_groupby[0] == LEVELS
    assert all(groupby > 5 for groupby in of_groupby[:-1])
    assert of_groupby[-1] == found[2] <= 5
    assert tried[-1] == found
    all_fit, _ = tuned(lambda dials: dials != OFF)
    assert all_fit[2] == LEVELS
    none_fits, _ = tuned(lambda dials: dials != OFF and not dials[2])
    assert none_fits[2] == 0


def test_tflms_puts_off_and_never_recomputes() -> None:
    assert recomputed(follow(policies.TFLMSv2())) == {"slope"}
    assert offloaded(policies.TFLMSv2(min_bytes=65 * MIB)) == set()


def test_imai_swaps_the_first_part_of_the_forward_pass_alone() -> None:
    tanh, dot = results_of(GRAPH, "tanh"), results_of(GRAPH, "dot")
    assert offloaded(policies.Imai2018()) == {*tanh[:3], *dot[:3]}
    assert offloaded(policies.Imai2018(share=1.0)) == offloaded(jaxswap.LMS())
    assert offloaded(policies.Imai2018(share=0.0)) == set()
    assert {swap.value for swap in follow(policies.Imai2018()).swaps} == {*tanh[:3]}
    assert recomputed(follow(policies.Imai2018())) == {"slope"}


def test_imai_leaves_cotangents_alone_and_starts_copies_ahead() -> None:
    timing = policies.Imai2018(swapin_ahead=5).decide(GRAPH).timing
    assert not timing.swap_cotangents
    assert timing.swapin_ahead == 5


def test_full_remat_stores_the_arguments_alone() -> None:
    draft = follow(policies.FullRemat())
    large = [v for v in draft.schedule.device_residuals if GRAPH.values[v].nbytes > 4]
    assert large
    assert set(large) <= set(GRAPH.arguments)
    assert not draft.schedule.host_residuals
    assert not draft.swaps
    assert recomputed(draft) >= {"dot", "tanh", "slope"}
    assert draft.timeline.seconds > kept().timeline.seconds


def test_swap_everything_swaps_each_large_residual_that_lies_idle() -> None:
    draft = follow(policies.SwapEverything())
    tanh = results_of(GRAPH, "tanh")
    # The last two are read before a copy could be hidden behind a product.
    assert {swap.value for swap in draft.swaps} == set(tanh[:-2])
    assert recomputed(draft) == {"slope"}
    assert all(back.gate is not None for swap in draft.swaps for back in swap.returns)
    assert draft.timeline.device_bytes < kept().timeline.device_bytes
    assert offloaded(policies.SwapEverything(min_bytes=65 * MIB)) == set()
    least = policies.SwapEverything(min_bytes=64 * MIB)
    assert offloaded(least) == offloaded(policies.SwapEverything())


def test_save_on_cpu_swaps_residuals_alone() -> None:
    residuals = set(GRAPH.residuals()) - set(GRAPH.arguments)
    executed = {v for v in residuals if GRAPH.values[v].primitive != "slope"}
    assert offloaded(policies.SaveOnCpu()) == executed
    assert offloaded(policies.SaveOnCpu(min_bytes=65 * MIB)) == set()


def copies_beside_products(draft: Draft, *, is_inward: bool) -> int:
    """How many copies of one direction run while a product does."""
    timeline = draft.timeline
    products = [
        (float(start), float(start + seconds))
        for step, start, seconds in zip(
            timeline.steps.steps, timeline.starts, timeline.seconds_of, strict=True
        )
        if isinstance(step, Kernel) and seconds > 1e-3
    ]
    assert len(products) == 17  # and one whose result nobody needs
    copies = [copy for copy in timeline.transfers if copy.is_inward is is_inward]
    assert copies
    return sum(
        any(
            start < copy.end_seconds - 1e-9 and copy.start_seconds + 1e-9 < end
            for start, end in products
        )
        for copy in copies
    )


def test_save_on_cpu_waits_for_every_copy_back() -> None:
    draft = follow(policies.SaveOnCpu())
    assert all(back.gate is None for swap in draft.swaps for back in swap.returns)
    assert copies_beside_products(draft, is_inward=True) == 0
    assert copies_beside_products(follow(policies.SwapEverything()), is_inward=True)
    inward = [copy.seconds for copy in draft.timeline.transfers if copy.is_inward]
    assert draft.timeline.stall_seconds >= 0.99 * sum(inward)


def test_dots_saveable_keeps_products_and_recomputes_the_rest() -> None:
    draft = follow(policies.DotsSaveable())
    stored = {v for v in draft.schedule.device_residuals if GRAPH.values[v].nbytes > 4}
    assert stored - set(GRAPH.arguments) == set(results_of(GRAPH, "dot"))
    assert not draft.swaps
    assert recomputed(draft) == {"tanh", "slope"}


def test_offload_dots_swaps_products_and_recomputes_the_rest() -> None:
    dots = results_of(GRAPH, "dot")
    assert offloaded(policies.OffloadDots()) == set(dots)
    draft = follow(policies.OffloadDots())
    assert {swap.value for swap in draft.swaps} >= set(dots[:-2])
    assert recomputed(draft) == {"tanh", "slope"}


@pytest.mark.parametrize("name", NAMES)
def test_every_decision_can_be_scheduled_and_simulated(name: str) -> None:
    draft = follow(make(name))
    timeline = draft.timeline
    assert timeline.seconds >= kept().timeline.seconds * (1 - 1e-9)
    assert timeline.device_bytes <= kept().timeline.device_bytes
    assert len(draft.actions) == len(GRAPH.values)
    ran = [s.equation for s in draft.schedule.forward if isinstance(s, Run)]
    ran += [s.equation for s in draft.schedule.backward if isinstance(s, Run)]
    assert set(ran) == GRAPH.ancestors((*GRAPH.outputs, *GRAPH.gradients))


@pytest.mark.parametrize("name", NAMES)
def test_decisions_on_programs_without_anything_to_decide(name: str) -> None:
    b = Builder()
    x = b.argument(4)
    empty = b.graph([x])
    assert len(make(name).decide(empty).actions) == 1
    b.run("dot", [x, x], 4)
    one = b.graph([1])
    draft = Arranger(one, rates_of(H100), 1).follow(make(name).decide(one))
    assert not draft.swaps


def test_policies_are_listed_by_name() -> None:
    defined = {
        name
        for name, value in vars(policies).items()
        if dataclasses.is_dataclass(value) and value.__module__ == policies.__name__
    }
    assert defined == set(NAMES)
    assert set(policies.ALL) == {*NAMES, "SwapHeavy"}
    for name in NAMES:
        assert isinstance(make(name), Policy)
        assert make(name) == make(name)  # its name and dials are all there is to it
        assert repr(make(name)).startswith(f"{name}(")


WEIGHTS = [
    jnp.asarray(np.random.default_rng(seed).normal(size=(512, 512)) / 23, jnp.float32)
    for seed in range(6)
]
X = jnp.asarray(np.random.default_rng(9).normal(size=(512, 512)), jnp.float32)


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.mean(x**2)


@functools.cache
def expected() -> Any:
    return jax.jit(jax.value_and_grad(loss))(WEIGHTS, X)


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_the_plain_function(name: str) -> None:
    grad = jax.value_and_grad(jaxswap.offload(loss, policy=make(name)))
    for step in (jax.jit(grad), grad):
        actual = step(WEIGHTS, X)
        pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected()), strict=True)
        for a, e in pairs:
            scale = float(jnp.max(jnp.abs(e)))
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_policies_that_swap_send_large_values_to_the_host(name: str) -> None:
    grad = jax.grad(jaxswap.offload(loss, policy=make(name)))
    text = str(jax.make_jaxpr(grad)(WEIGHTS, X))
    assert ("device_put" in text) is (name in SWAPPING)
