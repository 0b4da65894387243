"""Plain data, as JSON holds it -> `Target` and its `Rates`, checked field by field."""

import dataclasses
from typing import Any

from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import Target


def target_from_fields(numbers: Any) -> Target:
    """Make a target of what `dataclasses.asdict` made of one, by way of JSON.

    Args:
        numbers: The fields by name, the rates among them as such a mapping too.

    Returns:
        The target.

    Raises:
        ValueError: If fields are missing or unknown, or one has a value that does not
            fit; the text names it.

    Example:
        >>> from jaxswap._gpu.target import built_in_target
        >>> h100 = built_in_target("h100")
        >>> target_from_fields(
        ...     dataclasses.asdict(h100) | {"compute_capability": [9, 0]}) == h100
        True
    """
    fields = _fields(numbers, Target)
    fields["compute_capability"] = _pair(fields["compute_capability"])
    if fields["rates"] is not None:
        fields["rates"] = Rates(**_fields(fields["rates"], Rates))
    return Target(**fields)


_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    tuple[int, int]: (list,),
    Rates | None: (dict, type(None)),
}


def _pair(numbers: list[Any]) -> tuple[int, int]:
    if len(numbers) != 2 or any(type(number) is not int for number in numbers):
        raise ValueError(f"`compute_capability` is {numbers!r}")
    return numbers[0], numbers[1]


def _fields(numbers: Any, kind: type) -> dict[str, Any]:
    """Check that `numbers` are the fields of the dataclass `kind`."""
    if not isinstance(numbers, dict):
        raise ValueError(f"no fields of a `{kind.__name__}` in it")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if odd := sorted(fields.keys() ^ numbers.keys()):
        raise ValueError(f"missing or unknown: {', '.join(map(repr, odd))}")
    for name, wanted in fields.items():
        value = numbers[name]
        is_fit = isinstance(value, _JSON_TYPES[wanted])
        if not is_fit or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"`{name}` is {value!r}")
    return dict(numbers)
