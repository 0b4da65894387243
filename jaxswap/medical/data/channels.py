"""Names of image channels, and the one order that they are kept in.

The same four sequences of a brain are called t1ce, T1c or t1gd and come in any order. A
network that was trained on one data set is only right on another if channels are found
by name.
"""

from __future__ import annotations

from collections.abc import Sequence

BRAIN_CHANNELS = ("t1n", "t1c", "t2w", "t2f")
"""T1, T1 with contrast agent, T2 and T2-FLAIR, named as in BraTS from 2023 on."""

_NAMES = {
    "t1n": ("t1n", "t1", "t1w"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1wce"),
    "t2w": ("t2w", "t2"),
    "t2f": ("t2f", "flair", "t2flair"),
}
_CANONICAL = {alias: name for name, aliases in _NAMES.items() for alias in aliases}

BRAIN_SUFFIXES = tuple(_CANONICAL)
"""Everything that a brain channel is called in file names, in lower case."""


def brain_channel(name: str) -> str | None:
    """Find the usual name of a brain channel; None if it is something else.

    Example:
        >>> brain_channel("T1-Gd"), brain_channel("FLAIR"), brain_channel("CT")
        ('t1c', 't2f', None)
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return _CANONICAL.get(plain)


def order_channels(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Bring channels into their fixed order.

    If all are brain channels, that is the order of `BRAIN_CHANNELS`; otherwise they
    stay as they are.

    Args:
        names: What a data set calls its channels, in its order.

    Returns:
        The names in the fixed order, and for each its position in `names`.

    Raises:
        ValueError: If two channels have one name.

    Example:
        >>> order_channels(["FLAIR", "T1w", "t1gd", "T2w"])
        (('t1n', 't1c', 't2w', 't2f'), (1, 2, 3, 0))
        >>> order_channels(["CT"])
        (('CT',), (0,))
    """
    known = [brain_channel(name) for name in names]
    usual = [name for name in known if name is not None]
    if len(usual) < len(names):
        usual = list(names)
        order = list(range(len(names)))
    else:
        order = sorted(range(len(names)), key=lambda i: BRAIN_CHANNELS.index(usual[i]))
    twice = {name for name in usual if usual.count(name) > 1}
    if twice:
        raise ValueError(
            f"two channels are called {min(twice)} (of {', '.join(names)}); each needs "
            "its own name."
        )
    return tuple(usual[i] for i in order), tuple(order)
