"""Drafts of a policy that the user chose: its decision, tuned to a budget."""

from jaxswap._base.units import format_bytes
from jaxswap._schedule.decision import Decision, Policy, Tunable
from jaxswap._search.attempt import Refined, Tried, is_within
from jaxswap._search.limits import Limits
from jaxswap._search.measured import compiled_of
from jaxswap._search.refine import Compile, Progress
from jaxswap._search.search import Found, Search


def tune(
    search: Search,
    policy: Policy,
    limits: Limits,
    compile_: Compile | None,
    progress: Progress,
) -> Refined:
    """Plan by a policy. A tunable policy gets the simulator to try its options."""
    graph, arranger = search.arranger.graph, search.arranger

    def fits(decision: Decision) -> bool:
        return search.sketcher.follow(decision).device_bytes <= limits.device_bytes

    if isinstance(policy, Tunable):
        decision = policy.tune(graph, fits)
    else:
        decision = policy.decide(graph)
    draft = arranger.follow(decision)
    device_bytes = draft.timeline.device_bytes
    bound = min(search.kept.timeline.seconds, draft.timeline.seconds)
    found = Found(draft, bound, device_bytes <= limits.device_bytes)
    if compile_ is None:
        return Refined(draft, bound, 0, 0, None, found.fits)
    progress(f"compiling a plan of {format_bytes(device_bytes)} predicted")
    measured = compile_(draft)
    compiled = compiled_of(measured, device_bytes, 1)
    is_fit = is_within(measured, Limits(limits.device_bytes))
    return Tried(found, compiled, is_fit).refined
