"""Which slabs a plan tries where nobody said how to cut: a few settings, in order."""

from __future__ import annotations

from jaxswap._slabs.slabs import Slabs

LEVELS = (1, 2, 3)
"""How many levels are computed by slabs. Fewer are tried first: each level more means
more sweeps, which read and write more."""
THICKNESS = 8
"""Planes of a slab. Thinner ones would compute most of their planes twice."""
MOST_SLABS = 32
ALL = 1000
"""More values than sweeps store."""


def settings_of(length: int) -> tuple[Slabs, ...]:
    """Return the settings to try for an axis of so many planes, one after the other.

    There are none for an axis that is too short to be cut.
    """
    count = _count(length)
    return tuple(Slabs(count, levels) for levels in LEVELS) if count > 1 else ()


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
    count = _count(length)
    if count < 2:
        return ()
    ways = ((1, 8), (1, ALL), (2, ALL))
    return tuple(Slabs(count, levels, recomputed=again) for levels, again in ways)


def _count(length: int) -> int:
    """Return how many slabs an axis is cut into; fewer than two if it is too short."""
    most = min(length // THICKNESS, MOST_SLABS)
    # Windows of host arrays ask for slabs that divide the planes, in pairs.
    fair = (n for n in range(most, most // 2, -1) if n % 2 == 0 and length % n == 0)
    return next(fair, most)
