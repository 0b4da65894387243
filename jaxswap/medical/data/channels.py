"""Names of image channels, and the fixed order of channels.

Data sets call the same four sequences of a brain t1ce, T1c or t1gd, and store them in
any order. A network that was trained on one data set works on another one only if
channels are found by name.
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
"""All names of a brain channel in file names, in lower case."""


def brain_channel(name: str) -> str | None:
    """Return the usual name of a brain channel. None for other names.

    Example:
        >>> brain_channel("T1-Gd"), brain_channel("FLAIR"), brain_channel("CT")
        ('t1c', 't2f', None)
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return _CANONICAL.get(plain)


def order_channels(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Put channels into their fixed order.

    If all are brain channels, this is the order of `BRAIN_CHANNELS`. Otherwise they
    stay as they are.

    Args:
        names: The names in the data set, in its order.

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
