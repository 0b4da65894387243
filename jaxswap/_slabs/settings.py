"""Which slabs a plan tries where nobody said how to cut: a few settings, in order."""

from __future__ import annotations

import dataclasses

from jaxswap._slabs.slabs import Slabs

LEVELS = (1, 2, 3)
"""How many levels are computed by slabs. Fewer are tried first: each level more means
more sweeps, which read and write more."""
THICKNESS = 8
"""Planes of a slab. Thinner ones would compute most of their planes twice."""
MOST_SLABS = 32
ALL = 1000
"""More values than sweeps store."""
CHOICES = ((0, 0), (4, 0), (8, 0), (16, 0), (ALL, 0), (0, ALL), (8, ALL))
"""How many values are recomputed, and how many are swapped, on the finest level."""
DEEP_CHOICES = ((0, 0), (8, 0), (0, ALL), (8, ALL))
"""The same with more levels, whose values take longer to be chosen from."""


def settings_of(length: int) -> tuple[Slabs, ...]:
    """Return the settings to try for an axis of so many planes, one after the other.

    There are none for an axis that is too short to be cut.
    """
    most = min(length // THICKNESS, MOST_SLABS)
    if most < 2:
        return ()
    # Windows of host arrays ask for slabs that divide the planes, in pairs.
    fair = (n for n in range(most, most // 2, -1) if n % 2 == 0 and length % n == 0)
    count = next(fair, most)
    return tuple(Slabs(count, levels) for levels in LEVELS)


def choices_of(slabs: Slabs, *, may_swap: bool) -> tuple[Slabs, ...]:
    """Return the slabs with what they leave open filled in, in several ways.

    Args:
        slabs: What is given.
        may_swap: Whether values may lie in host memory, where nothing is said of that.
    """
    found: list[Slabs] = []
    for recomputed, swapped in CHOICES if slabs.levels == 1 else DEEP_CHOICES:
        given = (slabs.recomputed, slabs.swapped)
        wanted = (recomputed, swapped if may_swap else 0)
        filled = [w if g is None else g for g, w in zip(given, wanted, strict=True)]
        if swapped and not may_swap and slabs.swapped is None:
            continue
        one = dataclasses.replace(slabs, recomputed=filled[0], swapped=filled[1])
        if one not in found:
            found.append(one)
    return tuple(found)
