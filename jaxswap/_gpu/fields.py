"""Plain data, as JSON holds it -> a `Target` with its `Rates`, every field checked."""

import dataclasses
from typing import Any

from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import Target


def target_from_fields(numbers: Any) -> Target:
    """Make a target from the fields that were written to JSON.

    Args:
        numbers: The fields by name, as `dataclasses.asdict` gives them. `rates` is such
            a mapping too, or None.

    Returns:
        The target.

    Raises:
        ValueError: If a field is missing or unknown, or has a value of a wrong type.
            The text names the field.

    Example:
        >>> from jaxswap._gpu.target import built_in_target
        >>> h100 = built_in_target("h100")
        >>> target_from_fields(
        ...     dataclasses.asdict(h100) | {"compute_capability": [9, 0]}) == h100
        True
    """
    fields = _fields(numbers, Target)
    fields["compute_capability"] = _pair(fields["compute_capability"])
    fields["operations"] = _operations(fields["operations"])
    if fields["rates"] is not None:
        rates = _fields(fields["rates"], Rates)
        rates["operations"] = _operations(rates["operations"])
        fields["rates"] = Rates(**rates)
    return Target(**fields)


_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    tuple[int, int]: (list, tuple),
    tuple[tuple[str, float], ...]: (list, tuple),
    Rates | None: (dict, type(None)),
}


def _pair(numbers: Any) -> tuple[int, int]:
    if len(numbers) != 2 or any(type(number) is not int for number in numbers):
        raise ValueError(f"`compute_capability` is {numbers!r}, not two integers")
    return numbers[0], numbers[1]


def _operations(pairs: Any) -> tuple[tuple[str, float], ...]:
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"`operations` holds {pair!r}, not a name and seconds")
    return tuple((name, seconds) for name, seconds in pairs)


def _fields(numbers: Any, kind: type) -> dict[str, Any]:
    """Check that `numbers` holds the fields of the dataclass `kind`, and no others."""
    if not isinstance(numbers, dict):
        raise ValueError(f"it holds no fields of a `{kind.__name__}`")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if odd := sorted(fields.keys() ^ numbers.keys()):
        raise ValueError(f"fields missing or unknown: {', '.join(map(repr, odd))}")
    for name, wanted in fields.items():
        value = numbers[name]
        is_fit = isinstance(value, _JSON_TYPES[wanted])
        if not is_fit or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"`{name}` is {value!r}")
    return dict(numbers)
