"""Plans of programs written by hand, for tests that need no JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from handmade import MIB, Builder, chain, rates, results_of

from jaxswap._gpu.target import Target, built_in_target, rates_of
from jaxswap._gpu.work import Work
from jaxswap._graph.graph import Action, Graph, Loop, Segment
from jaxswap._graph.placement import Placement
from jaxswap._graph.signature import signature_of
from jaxswap._plans.plan import Plan
from jaxswap._search.candidates import find_candidates
from jaxswap._search.limits import Limits
from jaxswap._search.measured import Compiled
from jaxswap._search.search import Search
from jaxswap._simulate.draft import Arranger

H100 = built_in_target("h100")
SLOW_LINK = dataclasses.replace(H100, name="slow", host_link_bytes_per_second=5e9)
COMPILED = Compiled(
    predicted_device_bytes=600 * MIB,
    device_bytes=640 * MIB,
    temp_bytes=500 * MIB,
    host_bytes=70 * MIB,
    swapped_bytes=128 * MIB,
    exposed_bytes=32 * MIB,
    compile_count=2,
)


def busy(graph: Graph) -> Graph:
    """Give heavy equations the arithmetic of bf16 products, so that they take time."""
    equations = [
        dataclasses.replace(eqn, work=Work.BF16_MATMUL) if eqn.is_heavy else eqn
        for eqn in graph.equations
    ]
    return dataclasses.replace(graph, equations=tuple(equations))


def plan_of(
    graph: Graph,
    actions: Mapping[int, Action] | None = None,
    *,
    target: Target = H100,
    limit_bytes: int = 1 << 40,
    **more: Any,
) -> Plan:
    """The plan with given actions; other large values are kept."""
    arranger = Arranger(graph, rates_of(target), MIB)
    candidates = find_candidates(graph, arranger.simulator.fusion, MIB)
    decided = list(candidates.fixed)
    for v, action in (actions or {}).items():
        decided[v] = action
    draft = arranger.arrange(decided, limit_bytes)
    return Plan(
        graph=graph,
        target=target,
        actions=draft.actions,
        swaps=draft.swaps,
        signature=signature_of(graph),
        **{"staleness": draft.staleness, **more},
    )


def mixed_plan(target: Target = H100, **more: Any) -> Plan:
    """Eight layers: one result swapped, one recomputed, the others kept."""
    graph = busy(chain(8))
    tanh = results_of(graph, "tanh")
    actions = {tanh[1]: Action.OFFLOAD, tanh[2]: Action.RECOMPUTE}
    return plan_of(graph, actions, target=target, **more)


def found_plan(budget_bytes: int) -> Plan:
    """Three layers, planned for a budget by the search."""
    graph = busy(chain(3))
    arranger = Arranger(graph, rates_of(H100), MIB)
    candidates = find_candidates(graph, arranger.simulator.fusion, MIB)
    found = Search(arranger, candidates).find(Limits(budget_bytes))
    return Plan(
        graph=graph,
        target=H100,
        actions=found.draft.actions,
        swaps=found.draft.swaps,
        signature=signature_of(graph),
        budget_bytes=budget_bytes,
        staleness=found.draft.staleness,
        hold_for=found.draft.hold_for,
        in_place_bytes=found.draft.in_place_bytes,
        bound_seconds=found.bound_seconds,
    )


def forward_plan() -> Plan:
    """A program without a backward pass and with nothing to decide on."""
    b = Builder()
    x = b.argument(4)
    return plan_of(b.graph([b.run("dot", [x, x], 4)]))


def empty_plan() -> Plan:
    """A program that returns its argument."""
    b = Builder()
    return plan_of(b.graph([b.argument()]))


def full_plan() -> Plan:
    """A plan in which no field has its default."""
    plan = mixed_plan(
        target=dataclasses.replace(H100, rates=rates()),
        budget_bytes=700 * MIB,
        reserve_bytes=3,
        host_budget_bytes=500 * MIB,
        bound_seconds=0.1 + 0.2,  # not a short decimal
        correction_bytes=-17,
        compiled=COMPILED,
        policy="LMS(swapout_threshold=1)",
    )
    actions = (Action.RECOMPUTE,) * len(body().values)
    block = Loop(dataclasses.replace(body(), trip_count=2), (Segment(2, actions),))
    loop = Loop(body(), (Segment(2, actions, 2), Segment(1, actions)), (block,))
    graph = dataclasses.replace(plan.graph, loops=(loop,))
    return dataclasses.replace(
        plan,
        graph=graph,
        signature=signature_of(graph),
        plain_graph=plan.graph,
        staleness=(4, MIB),
        hold_for=3,
        in_place_bytes=4096,
        placement=Placement(
            (("data", 2), ("depth", 4)), ("data",), ((("data",), ()), ((), ("depth",)))
        ),
    )


def body() -> Graph:
    """One iteration of a loop over three layers."""
    graph = chain(1)
    x, w = graph.arguments
    return dataclasses.replace(graph, carried=(x,), sliced=(w,), trip_count=3)
