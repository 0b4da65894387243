"""Plain data, as JSON holds it -> values of the types that dataclasses ask for."""

import dataclasses
import enum
import functools
import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NotRequired

Readers = Mapping[Any, Callable[[Any, str], Any]]
"""How values of some types are read: from the content and its place in the file."""

_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxstring = 60
_PLAIN = {str: "a text", bool: "true or false", int: "an integer", float: "a number"}


def read_as(kind: Any, content: Any, where: str, readers: Readers | None = None) -> Any:
    """Make a value of a type from what JSON holds.

    Args:
        kind: A dataclass, a `TypedDict`, an enumeration, a `Literal`, `str`, `bool`,
            `int`, `float`, a tuple, a mapping with texts as keys, or a union of such
            types. `Any` is not looked at.
        content: What JSON holds.
        where: Its place in the file, such as `"swaps[3]"`, for messages. Empty for the
            whole.
        readers: How values of further types are read.

    Returns:
        The value. Numbers are finite.

    Raises:
        ValueError: If the content has another form. The text names the place.

    Example:
        >>> from jaxswap.extend import read_as
        >>> read_as(tuple[int, ...], [1, 2], "shape")
        (1, 2)
        >>> read_as(tuple[int, ...], [1, "2"], "shape")
        Traceback (most recent call last):
        ValueError: `shape[1]` is '2'; it needs an integer
    """
    readers = readers or {}
    if kind in readers:
        return readers[kind](content, where)
    if kind is Any:
        return content
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(arguments, content, where, readers)
    if origin is tuple:
        return _read_tuple(arguments, content, where, readers)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _require(isinstance(content, dict), where, content, "names and values")
        inside = {key: f"{where}.{key}" if where else key for key in content}
        return {
            key: read_as(arguments[1], value, inside[key], readers)
            for key, value in content.items()
        }
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        known = {member.value: member for member in kind}
        is_known = isinstance(content, str) and content in known
        _require(is_known, where, content, f"one of {', '.join(map(str, known))}")
        return known[content]
    if origin is Literal:
        is_known = isinstance(content, str) and content in arguments
        _require(is_known, where, content, f"one of {', '.join(map(str, arguments))}")
        return content
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return read_fields(typing.cast(type, kind), content, where, readers)
    return _read_plain(kind, content, where)


def read_fields(
    kind: type, content: Any, where: str, readers: Readers | None = None
) -> Any:
    """Make a dataclass or a `TypedDict` of its fields by name. See `read_as`."""
    if not isinstance(content, dict):
        place = f"`{where}`" if where else "it"
        raise ValueError(f"{place} holds no fields of a `{kind.__name__.lstrip('_')}`")
    left_out = _optional(kind) - content.keys()
    kinds = {name: x for name, x in field_types(kind).items() if name not in left_out}
    return kind(**read_named(kinds, content, where, readers))


def read_named(
    kinds: Mapping[str, Any],
    content: Mapping[str, Any],
    where: str,
    readers: Readers | None = None,
) -> dict[str, Any]:
    """Make a value of its type for each name, and refuse other names. See `read_as`."""
    if odd := sorted(kinds.keys() ^ content.keys()):
        prefix = f"`{where}` has " if where else ""
        raise ValueError(
            f"{prefix}fields missing or unknown: {', '.join(map(repr, odd))}"
        )
    begin = f"{where}." if where else ""
    return {
        name: read_as(kind, content[name], f"{begin}{name}", readers)
        for name, kind in kinds.items()
    }


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass or `TypedDict`, in their order."""
    hints = typing.get_type_hints(kind)
    if typing.is_typeddict(kind):
        return hints
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@functools.cache
def _optional(kind: Any) -> frozenset[str]:
    """Return the fields of a `TypedDict` that may be missing."""
    if not typing.is_typeddict(kind):
        return frozenset()
    # `__optional_keys__` does not know annotations that are texts.
    hints = typing.get_type_hints(kind, include_extras=True)
    noted = {name for name, x in hints.items() if typing.get_origin(x) is NotRequired}
    return kind.__optional_keys__ | noted


def _read_union(
    kinds: Sequence[Any], content: Any, where: str, readers: Readers
) -> Any:
    if content is None and types.NoneType in kinds:
        return None
    error: ValueError | None = None
    for kind in kinds:
        if kind is not types.NoneType:
            try:
                return read_as(kind, content, where, readers)
            except ValueError as raised:
                error = error or raised
    raise error or ValueError(f"`{where}` is {_REPR.repr(content)}; it needs nothing")


def _read_tuple(
    kinds: Sequence[Any], content: Any, where: str, readers: Readers
) -> tuple[Any, ...]:
    _require(isinstance(content, list | tuple), where, content, "a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(content)
    _require(len(content) == len(kinds), where, content, f"{len(kinds)} values")
    return tuple(
        read_as(kind, value, f"{where}[{i}]", readers)
        for i, (kind, value) in enumerate(zip(kinds, content, strict=True))
    )


def _read_plain(kind: Any, content: Any, where: str) -> Any:
    is_flag = isinstance(content, bool)
    wanted = (int, float) if kind is float else kind
    is_fit = isinstance(content, wanted) and is_flag == (kind is bool)
    if is_fit and kind is float:
        is_fit = math.isfinite(content)
    _require(is_fit, where, content, _PLAIN.get(kind, str(kind)))
    return content


def _require(is_fit: bool, where: str, content: Any, what: str) -> None:
    if not is_fit:
        place = f"`{where}`" if where else "it"
        raise ValueError(f"{place} is {_REPR.repr(content)}; it needs {what}")
