"""Plain data become values of their types, or the odd place is named."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from jaxswap._base.typed import read_as


@dataclasses.dataclass(frozen=True)
class Point:
    """A place."""

    x: float
    axis: Literal["x", "y"] = "x"


class Row(TypedDict):
    """A row, of which something may be missing."""

    points: tuple[Point, ...]
    name: NotRequired["str"]


class Partial(TypedDict, total=False):
    """Of this, all may be missing."""

    seconds: float


@pytest.mark.parametrize(
    ("kind", "content", "read"),
    [
        (Row, {"points": [{"x": 1, "axis": "y"}]}, {"points": (Point(1, "y"),)}),
        (Row, {"points": [], "name": "a"}, {"points": (), "name": "a"}),
        (Partial, {}, {}),
        (Mapping[str, Partial], {"a": {"seconds": 2}}, {"a": {"seconds": 2}}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Any, [[{}]], [[{}]]),
    ],
)
def test_what_fits_is_read(kind: Any, content: Any, read: Any) -> None:
    assert read_as(kind, content, "") == read


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (Row, {"name": "a"}, "fields missing or unknown: 'points'"),
        (Row, {"points": [], "nam": ""}, "fields missing or unknown: 'nam'"),
        (Row, [], "it holds no fields of a `Row`"),
        (Row, {"points": [3]}, r"`points\[0\]` holds no fields of a `Point`"),
        (
            Row,
            {"points": [{"x": "1", "axis": "x"}]},
            r"`points\[0\]\.x` is '1'; it",
        ),
        (
            Row,
            {"points": [{"x": 1, "axis": "z"}]},
            "is 'z'; it needs one of x, y",
        ),
        (Row, {"points": [{"x": float("nan"), "axis": "x"}]}, "is nan; it needs a num"),
        (Partial, {"seconds": True}, "`seconds` is True; it needs a number"),
        (dict[str, int], {"a": 1.5}, "`a` is 1.5; it needs an integer"),
        (dict[str, int], [1], r"it is \[1\]; it needs names and values"),
        (int, "3", "it is '3'; it needs an integer"),
    ],
)
def test_what_does_not_fit_is_named(kind: Any, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_as(kind, content, "")
