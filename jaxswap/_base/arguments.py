"""Checks of arguments that several public functions take."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

_WITHOUT_MEANING = {
    "prevent_cse": "barriers already keep XLA from joining the two passes",
    "concrete": "whatever is no array is passed on as it is",
    "graph": "modules are always split as graphs",
    "graph_updates": "what is written to modules always arrives",
}
"""Keywords of `jax.checkpoint`, `nn.remat` and `nnx.remat`, and why they are no use."""


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


def refuse_idle(pairs: Mapping[str, bool]) -> None:
    """Refuse an argument that has no effect beside another one.

    Args:
        pairs: For two names in one text, the idle one first, whether both are given.

    Raises:
        ValueError: If a pair is given. The text names both.

    Example:
        >>> refuse_idle({"`target` and `policy`": False})
    """
    for names, are_given in pairs.items():
        if are_given:
            raise ValueError(
                f"{names} are given, and the first has no effect beside the second. "
                "Leave one of them out."
            )


def refuse_keywords(unknown: Mapping[str, Any]) -> NoReturn:
    """Raise for keywords that `offload` does not have, and say why it does not.

    Args:
        unknown: What the caller gave; at least one.

    Raises:
        TypeError: Always.
    """
    name = next(iter(unknown))
    reason = _WITHOUT_MEANING.get(name)
    if reason is None:
        raise TypeError(f"unexpected keyword argument `{name}`.")
    raise TypeError(
        f"unexpected keyword argument `{name}`: it has no use here, because {reason}. "
        "Leave it out."
    )
