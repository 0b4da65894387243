"""Which slabs a plan tries where nobody said how to cut: a few settings, in order."""

from __future__ import annotations

from jaxswap._slabs.slabs import Slabs

LEVELS = (1, 2, 3)
"""How many levels are computed by slabs. Fewer are tried first: each level more means
more sweeps, which read and write more."""
FEW = 8
"""Few slabs are tried, too. Thick ones compute few planes twice, and hold more."""
THICKNESS = 8
"""Planes of a slab. Thinner ones would compute most of their planes twice."""
MOST_SLABS = 32
ALL = 1000
"""More values than sweeps store."""


def settings_of(length: int) -> tuple[tuple[Slabs, ...], ...]:
    """Return the settings to try for an axis of so many planes, one after the other.

    Each holds numbers of slabs, the most first, of which some are chosen together.
    There are none for an axis that is too short to be cut.
    """
    counts = ((levels, _count(length, levels)) for levels in LEVELS)
    return tuple(
        tuple(Slabs(n, levels) for n in sorted({most, min(FEW, most)}, reverse=True))
        for levels, most in counts
        if most > 1
    )


def slabs_to_predict(length: int) -> tuple[Slabs, ...]:
    """Return slabs to try for a function that is only called, in order.

    Without a backward pass hardly anything is stored for long. So memory is saved by
    what is computed again: of each sweep, all that it needs.

    Args:
        length: Planes of the axis that is cut.

    Returns:
        The slabs, those that compute least first. None for an axis that is too short.

    Example:
        >>> from jaxswap.extend import slabs_to_predict
        >>> [slabs.levels for slabs in slabs_to_predict(192)]
        [1, 1, 2]
    """
    ways = ((1, 8), (1, ALL), (2, ALL))
    counts = ((levels, again, _count(length, levels)) for levels, again in ways)
    return tuple(
        Slabs(count, levels, recomputed=again)
        for levels, again, count in counts
        if count > 1
    )


def _count(length: int, levels: int) -> int:
    """Return how many slabs an axis is cut into; fewer than two if it is too short.

    Windows of host arrays ask for an even number. Of those, the slabs reach least far
    beyond the axis, and they hold whole planes of the level below.
    """
    most = min(length // THICKNESS, MOST_SLABS)
    unit = 2**levels
    fair = range(most - most % 2, most // 2, -2)
    return min(fair, key=lambda n: n * -(-length // (n * unit)) * unit, default=0)
