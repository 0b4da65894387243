"""A policy in place of the planner's choice: its own decision, tuned to a budget."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Graph
from jaxswap._schedule.policy import Decision, Policy
from jaxswap._search.refine import Compile, Progress, Refined, compiled_of, refined_of
from jaxswap._search.search import Search
from jaxswap._simulate.draft import Draft


@runtime_checkable
class Tunable(Protocol):
    """A policy whose dials are set by trying what fits."""

    def tune(self, graph: Graph, fits: Callable[[Decision], bool]) -> Decision:
        """Return the decision for the dials that the policy settles on."""
        ...


def tune(
    search: Search,
    policy: Policy,
    limit_bytes: int,
    compile_: Compile | None,
    progress: Progress,
) -> Refined:
    """Plan by a policy. One that can be tuned is given the simulator to try on."""
    graph, arranger = search.arranger.graph, search.arranger

    def fits(decision: Decision) -> bool:
        return arranger.follow(decision).timeline.device_bytes <= limit_bytes

    if isinstance(policy, Tunable):
        decision = policy.tune(graph, fits)
    else:
        decision = policy.decide(graph)
    draft: Draft = arranger.follow(decision)
    device_bytes = draft.timeline.device_bytes
    bound = search.kept.timeline.seconds
    if compile_ is None:
        is_fit = device_bytes <= limit_bytes
        return Refined(draft, min(bound, draft.timeline.seconds), 0, 0, None, is_fit)
    progress(f"compiling a plan of {format_bytes(device_bytes)} predicted")
    seen = compile_(draft)
    compiled = compiled_of(seen, device_bytes, 1)
    is_fit = seen.device_bytes <= limit_bytes
    bound = min(bound, draft.timeline.seconds)
    return refined_of(draft, bound, seen, compiled, fits=is_fit)
