"""Plain data, as JSON holds it -> a `Target` with its `Rates`, every field checked."""

from typing import Any

from jaxswap._base.typed import read_fields
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
        >>> import dataclasses
        >>> from jaxswap._gpu.target import built_in_target
        >>> h100 = built_in_target("h100")
        >>> target_from_fields(
        ...     dataclasses.asdict(h100) | {"compute_capability": [9, 0]}) == h100
        True
    """
    return read_fields(Target, numbers, "")
