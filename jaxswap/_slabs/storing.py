"""Which values the sweeps store. All others are computed again where they are needed.

What is heavy to make is stored at first. Then values are taken out, one after the
other: each time the one that costs the fewest operations for its bytes. A value that is
computed again in a slab needs wider windows of what it is made of, so its planes at
both ends of a slab are computed twice.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterator

from jaxswap._slabs.frame import Frame, Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.sweeps import Sweep, Sweeping


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


class Storage:
    """What the sweeps of a program store if nothing, one value, two... are left out.

    Args:
        sweeping: Plans the sweeps.
    """

    def __init__(self, sweeping: Sweeping) -> None:
        self.sweeping = sweeping
        self._found: list[frozenset[int]] = []
        self._following = _stored_sets(sweeping)

    def sets(self, most: int) -> list[frozenset[int]]:
        """Return what is stored if up to so many values are computed again.

        There are fewer if no value is left.
        """
        missing = max(0, most + 1 - len(self._found))
        self._found += itertools.islice(self._following, missing)
        return self._found[: most + 1]

    def stored(self, recomputed: int) -> frozenset[int]:
        """Return what is stored if so many values are computed again, or all."""
        return self.sets(recomputed)[-1]


def _stored_sets(sweeping: Sweeping) -> Iterator[frozenset[int]]:
    """Go over what sweeps store if nothing, one value, two... are computed again."""
    frame, levels = sweeping.frame, sweeping.levels

    def of(stored: Collection[int]) -> tuple[frozenset[int], float]:
        sweeps = sweeping.sweeps({*stored, *frame.compared})
        written = frozenset(v for sweep in sweeps for v in sweep.writes)
        return written & heavy, sum(map(flops, sweeps))

    flops = functools.cache(functools.partial(flops_of, frame, sweeping.grid))
    heavy = heavy_results(frame) - levels.assembled - frame.compared
    always = frame.compared & frame.floating
    stored, operations = of(heavy)
    yield stored | always
    while stored:
        tried = []
        for v in sorted(stored):
            left, more = of(stored - {v})
            saved = sum(frame.axes[v].nbytes for v in stored - left)
            tried.append(((more - operations) / saved, v, left, more))
        _, _, stored, operations = min(tried)
        yield stored | always


def flops_of(frame: Frame, grid: Grid, sweep: Sweep) -> float:
    """Return the operations of a sweep; what slabs repeat counts each time."""
    total = 0.0
    for index in sweep.steps:
        step = frame.steps[index]
        share = 1.0
        if step.kind is Kind.LOCAL:
            v = step.outputs[0]
            share = sweep.windows[v].size / grid.pitch(frame.axes[v].rate)
        total += step.flops * share
    return total
