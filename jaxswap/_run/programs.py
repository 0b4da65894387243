"""A source -> the programs among which a plan is searched for."""

from jaxswap._graph.graph import Inside
from jaxswap._run.source import Source
from jaxswap._schedule.decision import Policy, loops_by
from jaxswap._search.loops import WAYS, keep_all
from jaxswap._trace.describe import Traced


def programs_of(source: Source, plain: Traced, policy: Policy | None) -> list[Traced]:
    """Trace a function with its loops, checkpoints and branches run in several ways.

    Args:
        source: The function.
        plain: The same, traced as JAX runs it.
        policy: Decides on loops. `None`: the ways that the planner tries.

    Returns:
        The programs. `plain` is the first if it is among them.
    """
    if policy is not None:
        if not plain.graph.loops:
            return [plain]
        return [source.traced(loops_by(policy))]
    return [
        program for inside in source.insides for program in _ways(source, plain, inside)
    ]


def _ways(source: Source, plain: Traced, inside: Inside) -> list[Traced]:
    """Trace a function once for each different way to run its loops."""
    is_plain = inside is Inside.AS_WRITTEN
    kept = plain if is_plain else source.traced(keep_all, inside)
    ways = {
        tuple(way(loop.graph) for loop in kept.graph.loops): way
        for way in reversed(WAYS[1:])
    }
    ways.pop(tuple(loop.segments for loop in kept.graph.loops), None)
    return [kept, *(source.traced(way, inside) for way in reversed(ways.values()))]
