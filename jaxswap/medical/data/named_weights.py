"""Weights that settings give to regions or labels by their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def read_weights(
    setting: str, given: Mapping[str, Any], names: Iterable[str]
) -> dict[str, float]:
    """Return the weight of each name, 1 where none is given.

    Args:
        setting: Name of the setting, for messages.
        given: Weights by name.
        names: All names.

    Raises:
        ValueError: If a name is unknown, a weight is no number from 0 on, or all are 0.

    Example:
        >>> read_weights("class_weights", {"core": 3}, ["edema", "core"])
        {'edema': 1.0, 'core': 3.0}
    """
    weights = dict.fromkeys(names, 1.0)
    for name, weight in given.items():
        if name not in weights:
            near = difflib.get_close_matches(str(name), weights, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"names: {list(weights)}."
            raise ValueError(f"`{setting}` has {name!r}, which is unknown; {hint}")
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < float("inf"):
            raise ValueError(
                f"`{setting}` gives {name!r} the weight {weight!r}; it needs a number "
                "from 0 on."
            )
        weights[name] = float(weight)
    if not any(weights.values()):
        raise ValueError(f"`{setting}` gives all the weight 0; one must have more.")
    return weights
