"""Labels that the user names: `{"left": 17, "right": [53, 1053]}`.

Files may hold any integers, also above 255, and several values of one label. Each label
gets one number of a byte. Predictions are written with these numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jaxswap.medical.data.label_maps import LabelMap, make_label_map
from jaxswap.medical.data.plain_files import parse_yaml

_MOST = 255
_EXAMPLE = "such as {left: 17, right: [53, 1053]}"


def make_named_map(
    labels: Mapping[str, Any], name: str = "the given names"
) -> LabelMap:
    """Make a map of labels that files hold under any values.

    The number of a label is its lowest value up to 255. A label without one gets the
    lowest number that nothing else has. So both files with these numbers and the
    original ones can be read.

    Args:
        labels: For each name its value in files, or several. Values of `background` are
            read as 0.
        name: Name of the map.

    Returns:
        The map. Each label is a region.

    Raises:
        ValueError: If a value is no integer of 0 or more, or belongs to two labels.

    Example:
        >>> found = make_named_map({"left": 17, "right": [1053, 2053]})
        >>> found.labels, found.aliases
        ({'right': 1, 'left': 17}, {1053: 1, 2053: 1})
    """
    members = {str(label): _values(label, given) for label, given in labels.items()}
    used: dict[int, str] = {}
    for label, values in members.items():
        for value in values:
            if value in used:
                raise ValueError(
                    f"`labels` gives {value} to both {used[value]} and {label}."
                )
            used[value] = label
    if 0 in used and used[0] != "background":
        raise ValueError(f"`labels` gives 0 to {used[0]}, but 0 is the background.")
    free = iter(number for number in range(1, _MOST + 1) if number not in used)
    numbers = {"background": 0}
    for label, values in members.items():
        if label != "background":
            numbers[label] = min(min(values), _MOST + 1)
            if numbers[label] > _MOST:
                numbers[label] = next(free, _MOST + 1)
    aliases = {
        value: numbers[label]
        for value, label in used.items()
        if value != numbers[label]
    }
    made = make_label_map(name, numbers)
    return LabelMap(name, made.labels, made.regions, made.is_exclusive, aliases)


def parse_labels(text: str) -> dict[str, Any]:
    """Read labels from a command line.

    Args:
        text: YAML, such as `{left: 17, right: 53}`.

    Returns:
        Names and values, for `make_named_map`.

    Raises:
        ValueError: If it holds no names and values.
    """
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"`labels` is {text!r}, no YAML; {_EXAMPLE}.") from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"`labels` is {text!r}; it needs names and values, {_EXAMPLE}."
        )
    return dict(content)


def _values(label: str, given: Any) -> list[int]:
    values = given if isinstance(given, list | tuple) else [given]
    if not values or any(type(value) is not int or value < 0 for value in values):
        raise ValueError(
            f"`labels` has {label}: {json.dumps(given, default=str)}; each name needs "
            f"one or more integers of files, {_EXAMPLE}."
        )
    return list(values)
