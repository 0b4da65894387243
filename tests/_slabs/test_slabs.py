"""What users say of slabs."""

from typing import Any

import pytest

from jaxswap import Slabs
from jaxswap._slabs.slabs import parse_slabs


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("count", 0),
        ("levels", 0),
        ("axis", -1),
        ("recomputed", -1),
        ("axis", 1.5),
        ("swapped", -1),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is {number!r}"):
        Slabs(**{name: number})


@pytest.mark.parametrize("axes", [(), (None, None), (0, -1), (True,), (None, "x")])
def test_axes_of_arguments_are_integers(axes: Any) -> None:
    with pytest.raises(ValueError, match="for each argument it needs an integer"):
        Slabs(axis=axes)


def test_what_is_no_slabs_is_refused() -> None:
    assert parse_slabs(None) is None
    assert parse_slabs(Slabs(count=2)) == Slabs(2)
    with pytest.raises(TypeError, match="`slabs` is 16; it needs"):
        parse_slabs(16)


def test_slabs_can_be_written_as_text() -> None:
    assert parse_slabs("2x16") == Slabs(16, levels=2)
    assert parse_slabs(" Auto ") == "auto"
    assert parse_slabs("none") is None


@pytest.mark.parametrize("text", ["16", "0x16", "2x", "2x16x3", "2 x 16", "-1x4", ""])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f'`slabs` is "{text}"; it needs "auto"'):
        parse_slabs(text)
