"""Checks of arguments that several public functions take."""

import math
from typing import Any


def at_least_one(count: Any, name: str) -> int:
    """Return a count that is an integer above zero.

    Args:
        count: What the caller gave.
        name: The argument's name.

    Raises:
        ValueError: If it is anything else. The text names the argument.

    Example:
        >>> at_least_one(4, "most_compiles")
        4
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"`{name}` is {count!r}; an integer of at least 1 is needed.")
    return count


def positive_seconds(seconds: Any, name: str) -> float:
    """Return a time that is a positive, finite number.

    Args:
        seconds: What the caller gave.
        name: The argument's name.

    Raises:
        ValueError: If it is anything else. The text names the argument.

    Example:
        >>> positive_seconds(6, "search_seconds")
        6.0
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < math.inf:
        raise ValueError(
            f"`{name}` is {seconds!r}; a positive, finite number of seconds is needed."
        )
    return float(seconds)
