"""Graph -> the values that a plan decides on, and the actions of all others.

A candidate is a large array of the forward pass that needs a buffer. Large values that
XLA fuses are never stored: each reader makes them from buffers, at no cost. Small
values stay. In the backward pass, large buffers may leave while they lie idle. Weights
in a narrower type are small, but there are many: they are candidates where making them
again would take long.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxswap._graph.graph import Action, Equation, Graph
from jaxswap._simulate.kernels import Fusion, is_alias, is_fusible

CAST_SHARE = 1 / 64
"""A value that fusing operations make from arguments alone is recomputed if it has at
least this share of the bytes that make a value large."""
LONG_SHARE = 1 / 200
"""Such values are candidates if all of them together take at least this share of the
step. Below it, more decisions would not be worth a longer search."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What can be decided on.

    Attributes:
        forward: Values of the forward pass, in the order in which they are made.
        backward: Values of the backward pass that may leave the device.
        fixed: The actions of all values if every candidate is kept.
        recomputable: Candidates that may be computed twice.
    """

    forward: tuple[int, ...]
    backward: tuple[int, ...]
    fixed: tuple[Action, ...]
    recomputable: frozenset[int]


def find_candidates(
    graph: Graph,
    fusion: Fusion,
    large_bytes: int,
    seconds_of: Mapping[int, float] | None = None,
) -> Candidates:
    """Separate the values to decide on from those that need no decision.

    Args:
        graph: The traced program.
        fusion: Which of its values become buffers.
        large_bytes: A value of at least this size is worth a decision.
        seconds_of: Seconds of each equation. Left out, no smaller value is a candidate.
    """
    executed = graph.ancestors(graph.outputs)
    actions = [Action.KEEP] * len(graph.values)
    forward: list[int] = []
    backward: list[int] = []
    casts: list[int] = []
    derived: set[int] = set()
    for eqn in graph.equations:
        for v in () if eqn.is_join else eqn.outputs:
            is_large = graph.values[v].nbytes >= large_bytes
            is_buffer = v in fusion.materialized and v not in fusion.base
            if eqn.is_backward:
                if is_large and is_buffer and not is_alias(eqn):
                    backward.append(v)
            elif is_large and is_buffer and not is_alias(eqn):
                forward.append(v)
                derived.add(v)
            elif _is_recomputed(eqn, is_large, eqn.index in executed, derived):
                actions[v] = Action.RECOMPUTE
            elif (
                is_fusible(eqn)
                and derived.isdisjoint(eqn.inputs)
                and graph.values[v].nbytes >= large_bytes * CAST_SHARE
            ):  # Made of arguments alone, such as weights in a narrower type.
                actions[v] = Action.RECOMPUTE
                if is_buffer and not is_alias(eqn):
                    casts.append(v)
            if any(source in derived for source in eqn.inputs):
                derived.add(v)
    producers = graph.remakers()
    if _take_long(casts, graph, seconds_of or {}):
        for v in casts:
            actions[v] = Action.KEEP
        forward = sorted((*forward, *casts), key=lambda v: producers[v].index)
    pure = frozenset(v for v in forward if producers[v].is_pure)
    return Candidates(tuple(forward), tuple(backward), tuple(actions), pure)


def _is_recomputed(
    eqn: Equation, is_large: bool, is_executed: bool, derived: set[int]
) -> bool:
    """Whether a value that is no candidate is recomputed by its readers.

    Views and large values that XLA fuses always are. Small ones are if the forward
    pass itself does not read them and nothing large is needed to make them.
    """
    if eqn.is_view:
        return True
    if not is_fusible(eqn):
        return False
    return is_large or not (is_executed or any(v in derived for v in eqn.inputs))


def _take_long(
    values: Sequence[int], graph: Graph, seconds_of: Mapping[int, float]
) -> bool:
    """Whether making some values takes a share of the step that is worth decisions."""
    makers = graph.producers()
    seconds = sum(seconds_of.get(makers[v].index, 0.0) for v in values)
    return seconds > LONG_SHARE * sum(seconds_of.values())
