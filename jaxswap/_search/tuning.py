"""Drafts of a policy that the user chose: its decision, tuned to a budget."""

import dataclasses

from jaxswap._base.units import format_bytes
from jaxswap._schedule.decision import Decision, Policy, Tunable
from jaxswap._search.attempt import Refined, Task, Tried
from jaxswap._search.limits import Limits
from jaxswap._search.refine import Compile, Progress
from jaxswap._search.search import Found, Search


def tune(
    search: Search,
    policy: Policy,
    task: Task,
    compile_: Compile | None,
    progress: Progress,
) -> Refined:
    """Plan by a policy. A tunable policy gets the simulator to try its options."""
    graph, arranger = search.arranger.graph, search.arranger

    def fits(decision: Decision) -> bool:
        return search.sketcher.follow(decision).device_bytes <= task.limits.device_bytes

    if isinstance(policy, Tunable):
        decision = policy.tune(graph, fits)
    else:
        decision = policy.decide(graph)
    draft = arranger.follow(decision)
    device_bytes = draft.timeline.device_bytes
    bound = min(search.kept.timeline.seconds, draft.timeline.seconds)
    found = Found(draft, bound, device_bytes <= task.limits.device_bytes)
    if compile_ is None:
        return Refined.believed(found)
    progress(f"compiling a plan of {format_bytes(device_bytes)} predicted")
    # A policy decides alone: host memory is no reason to refuse its plan.
    alone = dataclasses.replace(task, limits=Limits(task.limits.device_bytes))
    return Tried.of(found, compile_(draft), device_bytes, 1, alone).refined
