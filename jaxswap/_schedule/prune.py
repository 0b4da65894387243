"""Instructions of a backward pass -> those that are needed if some cotangents are zero.

Most cotangents that are zero belong to auxiliary results. They are known only when the
backward pass is called. At that time the forward pass is already scheduled.
"""

from collections.abc import Collection, Sequence

from jaxswap._graph.graph import Graph
from jaxswap._schedule.instructions import Barrier, Instruction, Run, SwapIn, SwapOut


def zeros_from(graph: Graph, cotangents: Collection[int]) -> set[int]:
    """Return the values of the backward pass that are zero if `cotangents` are zero.

    The backward pass is linear in the cotangents. If all inputs of an equation that
    depend on one are zero, its results are zero. Plain JAX never executes such an
    equation either.
    """
    zeros = set(cotangents)
    dependent = {*graph.cotangents}
    for eqn in graph.equations if zeros else ():
        given = [v for v in eqn.inputs if v in dependent]
        if given:
            dependent.update(eqn.outputs)
            if all(v in zeros for v in given):
                zeros.update(eqn.outputs)
    return zeros


def without_zeros(
    graph: Graph, steps: Sequence[Instruction], zeros: Collection[int]
) -> tuple[Instruction, ...]:
    """Remove the instructions that make `zeros`, and those that only they need."""
    if not zeros:
        return tuple(steps)
    device = {v for v in graph.gradients if v not in zeros}
    host: set[int] = set()
    kept: list[Instruction] = []
    for step in reversed(steps):
        match step:
            case Run(equation):
                eqn = graph.equations[equation]
                is_needed = not device.isdisjoint(eqn.outputs) or not eqn.is_pure
                if is_needed and not (
                    eqn.outputs and zeros.__contains__(eqn.outputs[0])
                ):
                    kept.append(step)
                    device.difference_update(eqn.outputs)
                    device.update(v for v in eqn.inputs if v not in zeros)
            case SwapOut(value) if value in host:
                kept.append(step)
                device.add(value)
            case SwapIn(value) if value in device:
                kept.append(step)
                device.discard(value)
                host.add(value)
            case Barrier(on_device, on_host):
                on_device = tuple(v for v in on_device if v in device)
                on_host = tuple(v for v in on_host if v in host)
                if on_device or on_host:
                    kept.append(Barrier(on_device, on_host))
    return tuple(reversed(kept))
