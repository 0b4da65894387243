"""When each operation can run: how many sweeps must have ended before.

A sum over the axis is known when the sweep has ended that makes it. So what reads a sum
runs one sweep later. So does what reads a value whole that is made in slabs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxswap._slabs.frame import Frame, Kind, Step


@dataclass(frozen=True)
class Levels:
    """The order of the sweeps.

    Attributes:
        steps: For each step, the sweeps that must have ended before.
        ready: For each value, the sweeps that must have ended before a slab of it can
            be made or read.
        forward_count: Sweeps of the forward pass.
        is_backward: For each step, whether it depends on a cotangent.
        assembled: Values made in slabs of which the whole array is needed.
        ends: For each sweep, the steps whose results are whole when it has ended.
    """

    steps: tuple[int, ...]
    ready: dict[int, int]
    forward_count: int
    is_backward: tuple[bool, ...]
    assembled: frozenset[int]
    ends: Mapping[int, Sequence[int]]

    @property
    def count(self) -> int:
        """How many sweeps there can be."""
        ends = [self.ready[v] for v in self.assembled]
        return 1 + max([*self.steps, *ends], default=0)


def levels_of(frame: Frame) -> Levels:
    """Return when each operation of a program can run."""
    is_backward = _dependent(frame)
    floating = frame.floating
    assembled = frame.wanted & floating
    for step in frame.steps:
        if step.kind is Kind.WHOLE:
            assembled |= floating.intersection(step.inputs)
    found: dict[int, int] = {}
    ready: dict[int, int] = {}
    forward_count = 0
    for index, step in enumerate(frame.steps):
        if not is_backward[index]:
            found[index] = _place(frame, step, ready, floating)
            ended = found[index] + _is_root(step, floating)
            forward_count = max(forward_count, ended)
    ends = [ready[v] + 1 for v in assembled if v in ready]
    forward_count = max([forward_count, *ends])
    ready.update(dict.fromkeys(frame.cotangents, forward_count))
    for index, step in enumerate(frame.steps):
        if is_backward[index]:
            found[index] = _place(frame, step, ready, floating)
    ordered = tuple(found[index] for index in range(len(frame.steps)))
    roots: dict[int, list[int]] = {}
    for index, step in enumerate(frame.steps):
        if _is_root(step, floating):
            roots.setdefault(found[index], []).append(index)
    return Levels(ordered, ready, forward_count, is_backward, assembled, roots)


def _place(
    frame: Frame, step: Step, ready: dict[int, int], floating: frozenset[int]
) -> int:
    """Return the level of a step, and note when its results are ready."""
    is_whole = step.kind is Kind.WHOLE
    level = max(
        (ready.get(v, 0) + (is_whole and v in floating) for v in step.inputs),
        default=0,
    )
    is_after = _is_root(step, floating)
    ready.update(dict.fromkeys(step.outputs, level + is_after))
    return level


def _is_root(step: Step, floating: frozenset[int]) -> bool:
    """Whether the results of a step are whole when its sweep has ended."""
    is_local = step.kind is Kind.LOCAL
    return step.kind is Kind.SUM or (is_local and floating.isdisjoint(step.outputs))


def _dependent(frame: Frame) -> tuple[bool, ...]:
    reached = set(frame.cotangents)
    found = []
    for step in frame.steps:
        is_reached = not reached.isdisjoint(step.inputs)
        if is_reached:
            reached.update(step.outputs)
        found.append(is_reached)
    return tuple(found)
