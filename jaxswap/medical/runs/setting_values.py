"""Values of settings as YAML has them: their types, and what they become."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxswap.medical.preparing.augment_config import AugmentConfig


def read_augmentation(value: Any) -> AugmentConfig | None:
    """Read true, false, or names and values of the augmentation."""
    if value is None or value is False:
        return None
    if isinstance(value, AugmentConfig):
        return value
    if value is True:
        return AugmentConfig()
    if not isinstance(value, Mapping):
        raise ValueError(
            f"`augment` is {value!r}; it is true, false, or names and values such as "
            "`rotation_probability: 0.2`."
        )
    known = {f.name for f in dataclasses.fields(AugmentConfig)}
    check_names(value, known, "augment.")
    made: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in value.items()
    }
    try:
        return AugmentConfig(**made)
    except (ValueError, TypeError) as error:
        raise ValueError(f"`augment`: {error}") from error


def read_names(name: str, value: Any) -> tuple[str, ...]:
    """Read names. YAML takes those of digits alone for numbers."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{name}` is {value!r}; it needs a list such as [case_1].")
    return tuple(map(str, value))


def read_three(name: str, value: Any) -> Any:
    """Read one number for all axes, or three of them."""
    wanted, such_as = (int, "[96, 96, 64]") if name == "shape" else (float, "[1, 1, 2]")
    numbers = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(numbers, list | tuple) or len(numbers) != 3:
        what = "three numbers"
    elif not all(isinstance(n, wanted | int) and 0 < n < math.inf for n in numbers):
        what = "three positive numbers"
    else:
        return tuple(wanted(n) for n in numbers)
    raise ValueError(f"`{name}` is {value!r}; it needs {what}, such as {such_as}.")


def check_names(values: Mapping[str, Any], known: set[str], prefix: str = "") -> None:
    """Refuse names that are not known, and name the nearest one that is."""
    for name in values:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, 1)
        hint = (
            f"did you mean `{prefix}{near[0]}`?"
            if near
            else (f"choose from {', '.join(sorted(known))}.")
        )
        raise ValueError(f"`{prefix}{name}` is no setting; {hint}")


def check_type(name: str, value: Any, annotation: str) -> Any:
    """Check a type against the default's. 1e4 is an integer, too."""
    is_free = value is None and "None" in annotation
    is_named = isinstance(value, Mapping) and "Mapping" in annotation
    if is_free or is_named or (name == "fold" and isinstance(value, str)):
        return value
    kinds = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
    wanted = kinds.get(annotation.split(" | ")[0])
    if wanted is None:
        is_mapping = annotation.startswith("Mapping")
        if is_mapping and not isinstance(value, Mapping):
            raise ValueError(f"`{name}` is {value!r}; it needs names and values.")
        return value
    if wanted == (int,) and isinstance(value, float) and value.is_integer():
        value = int(value)
    is_flag = isinstance(value, bool) and bool not in wanted
    if is_flag or not isinstance(value, wanted):
        raise ValueError(
            f"`{name}` is {value!r}, of type {type(value).__name__}; it needs "
            f"{annotation}."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{name}` is {value}; it needs a finite number.")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"`{name}` has more than 63 bits; it needs a smaller number.")
    return value


def to_plain(value: Any) -> Any:
    """Return a value in a form that YAML can write."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
