"""Which slabs a plan tries where nobody said how to cut: a few settings, in order."""

from __future__ import annotations

from jaxswap._slabs.slabs import Slabs

LEVELS = (1, 2, 3)
"""How many levels are computed by slabs. Fewer are tried first: each level more means
more sweeps, which read and write more."""
THICKNESS = 8
"""Planes of a slab. Thinner ones would compute most of their planes twice."""
MOST_SLABS = 32


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
