"""A schedule -> the same, with large results written over operands not read again.

XLA writes over an operand of its own accord only if it was made by code that is fused.
So what a convolution or a matrix product has made, and what has passed a barrier, stays
beside the result that is computed from it element by element, and is never needed
again: the normalization of a convolution's result takes two arrays at once. Written in
place it takes one. See `_graph.parts` for how.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxswap._schedule.instructions import (
    InPlace,
    Instruction,
    Run,
    Schedule,
    free_values,
)
from jaxswap._simulate.kernels import Fusion, Kernel, Steps
from jaxswap._simulate.lives import copied_until, freed_of
from jaxswap._simulate.lowering import lower


def written_in_place(fusion: Fusion, schedule: Schedule, least_bytes: int) -> Schedule:
    """Write results of at least so many bytes in place, wherever that is possible.

    Args:
        fusion: That of the program.
        schedule: Its instructions.
        least_bytes: Bytes of the smallest result that is worth a loop.
    """
    found = _replacements(fusion, lower(fusion, schedule), least_bytes)
    passes: list[tuple[Instruction, ...]] = []
    runs = 0
    for instructions in (schedule.forward, schedule.backward):
        issued: list[Instruction] = []
        for step in instructions:
            if isinstance(step, Run):
                step = dataclasses.replace(step, in_place=found.get(runs))
                runs += 1
            issued.append(step)
        passes.append(tuple(issued))
    forward, backward = passes
    device, _ = free_values(fusion.graph, backward)
    return dataclasses.replace(
        schedule, forward=forward, backward=backward, device_residuals=device
    )


def _replacements(fusion: Fusion, steps: Steps, least_bytes: int) -> dict[int, InPlace]:
    """Return what is written in place, by the number of the run that makes it."""
    values, freed, copied = fusion.graph.values, freed_of(steps), copied_until(steps)
    readers: dict[int, list[int]] = {}
    found: dict[int, InPlace] = {}
    for at, step in enumerate(steps.steps):
        if not isinstance(step, Kernel):
            continue
        is_fixed = any(steps.is_fixed[b] for b in step.makes)
        nbytes = values[steps.values[step.makes[0]]].nbytes
        possible = () if is_fixed or nbytes < least_bytes else step.may_replace
        for b in possible:
            is_last = freed[b] == at > copied.get(b, -1)
            if is_last and not steps.is_fixed[b]:
                awaited = _alive(readers.get(b, ()), steps, freed, at)
                leaves = tuple(sorted(step.leaves))
                names = step.may_replace[b]
                found[steps.runs[at]] = InPlace(names, leaves, awaited)
                break
        for b in step.reads:
            readers.setdefault(b, []).extend(step.makes)
    return found


def _alive(
    buffers: Iterable[int], steps: Steps, freed: np.ndarray, at: int
) -> tuple[int, ...]:
    """Return the values of those buffers that still hold memory at a step."""
    alive = (b for b in buffers if freed[b] >= at or steps.is_fixed[b])
    return tuple(dict.fromkeys(steps.values[b] for b in alive))
