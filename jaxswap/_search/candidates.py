"""Graph -> the values that a plan decides on, and what becomes of the others.

A candidate is a large buffer of the forward pass. Large values that fuse are never
stored: each reader makes them from buffers, at no cost. Small ones stay. Of the
backward pass, large buffers may leave while they lie idle.
"""

import dataclasses

from jaxswap._graph.graph import Action, Equation, Graph
from jaxswap._simulate.kernels import Fusion, is_alias, is_fusible

CAST_SHARE = 1 / 64
"""Share of a large value's bytes from which on what is made of arguments alone, by
operations that fuse, is recomputed rather than stored."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What can be decided on.

    Attributes:
        forward: Values of the forward pass, in the order of their making.
        backward: Values of the backward pass that may leave the device.
        fixed: The action of every value if all candidates are kept.
        recomputable: Candidates that may be computed twice.
    """

    forward: tuple[int, ...]
    backward: tuple[int, ...]
    fixed: tuple[Action, ...]
    recomputable: frozenset[int]


def find_candidates(graph: Graph, fusion: Fusion, large_bytes: int) -> Candidates:
    """Sort the values of a graph.

    Args:
        graph: The traced program.
        fusion: What of it becomes a buffer.
        large_bytes: Bytes from which on a value is worth a decision.
    """
    executed = graph.ancestors(graph.outputs)
    actions = [Action.KEEP] * len(graph.values)
    forward: list[int] = []
    backward: list[int] = []
    derived: set[int] = set()
    for eqn in graph.equations:
        for v in eqn.outputs:
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
            if any(source in derived for source in eqn.inputs):
                derived.add(v)
    producers = graph.producers()
    pure = frozenset(v for v in forward if producers[v].is_pure)
    return Candidates(tuple(forward), tuple(backward), tuple(actions), pure)


def _is_recomputed(
    eqn: Equation, is_large: bool, is_executed: bool, derived: set[int]
) -> bool:
    """Whether a value that is no candidate is recomputed by whoever reads it.

    Views and large values that fuse always; small ones if the forward pass itself
    has no use for them and nothing large is needed to make them.
    """
    if eqn.is_view:
        return True
    if not is_fusible(eqn):
        return False
    return is_large or not (is_executed or any(v in derived for v in eqn.inputs))
