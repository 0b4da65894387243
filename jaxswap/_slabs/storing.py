"""Which values the sweeps store. All others are computed again where they are needed.

What is heavy to make is stored at first. Then values are taken out, one after the
other: each time the one that costs the fewest operations for its bytes. A value that is
computed again in a slab needs wider windows of what it is made of, so its planes at
both ends of a slab are computed twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from jaxswap._slabs.frame import Frame, Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.levels import Levels
from jaxswap._slabs.sweeps import Sweep, sweeps_of


def heavy_results(frame: Frame) -> frozenset[int]:
    """Return the results of heavy operations that exist as slabs only.

    Where nothing but a sum of two values reads such a result, the sum stands for it:
    one value to store in place of two.
    """
    floating, users = frame.floating, frame.users
    found = set()
    for step in frame.steps:
        if step.kind is not Kind.LOCAL or not step.is_heavy:
            continue
        for v in floating.intersection(step.outputs):
            while len(users.get(v, ())) == 1:
                user = frame.steps[users[v][0]]
                if not (user.is_sum_of_two and user.kind is Kind.LOCAL):
                    break
                (v,) = user.outputs
            found.add(v)
    return frozenset(found & floating)


def stored_values(
    frame: Frame, levels: Levels, grid: Grid, recomputed: int
) -> frozenset[int]:
    """Return the values that sweeps store if so many are computed again.

    Args:
        frame: The program.
        levels: When its operations can run.
        grid: How the axis is cut.
        recomputed: How many of the values that would be stored are computed again.
    """
    sets = itertools.islice(stored_sets(frame, levels, grid), recomputed + 1)
    return list(sets)[-1]


def stored_sets(frame: Frame, levels: Levels, grid: Grid) -> Iterator[frozenset[int]]:
    """Go over what sweeps store if nothing, one value, two... are computed again."""

    def of(stored: Collection[int]) -> tuple[frozenset[int], float]:
        sweeps = sweeps_of(frame, levels, grid, {*stored, *frame.compared})
        written = frozenset(v for sweep in sweeps for v in sweep.writes)
        return written & heavy, flops_of(frame, grid, sweeps)

    heavy = heavy_results(frame) - levels.assembled - frame.compared
    always = frame.compared & frame.floating
    stored, flops = of(heavy)
    yield stored | always
    while stored:
        tried = []
        for v in sorted(stored):
            left, more = of(stored - {v})
            saved = sum(frame.axes[v].nbytes for v in stored - left)
            tried.append(((more - flops) / saved, v, left, more))
        _, _, stored, flops = min(tried)
        yield stored | always


def flops_of(frame: Frame, grid: Grid, sweeps: Collection[Sweep]) -> float:
    """Return the operations of all sweeps; what slabs repeat counts each time."""
    total = 0.0
    for sweep in sweeps:
        for index in sweep.steps:
            step = frame.steps[index]
            share = 1.0
            if step.kind is Kind.LOCAL:
                v = step.outputs[0]
                share = sweep.windows[v].size / grid.pitch(frame.axes[v].rate)
            total += step.flops * share
    return total
