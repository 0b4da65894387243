"""What users say of slabs."""

from typing import Any

import pytest

from jaxswap import Slabs
from jaxswap._slabs.slabs import checked_slabs


@pytest.mark.parametrize(
    ("name", "number"),
    [("count", 0), ("levels", 0), ("axis", -1), ("recomputed", -1), ("axis", 1.5)],
)
def test_numbers_out_of_range_are_refused(name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is {number!r}"):
        Slabs(**{name: number})


def test_what_is_no_slabs_is_refused() -> None:
    assert checked_slabs(None) is None
    assert checked_slabs(Slabs(count=2)) == Slabs(2)
    with pytest.raises(TypeError, match="`slabs` is 16; it needs"):
        checked_slabs(16)


def test_slabs_can_be_written_as_text() -> None:
    assert checked_slabs("2x16") == Slabs(16, levels=2)
    assert checked_slabs(" Auto ") == "auto"
    assert checked_slabs("none") is None


@pytest.mark.parametrize("text", ["16", "0x16", "2x", "2x16x3", "2 x 16", "-1x4", ""])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f'`slabs` is "{text}"; it needs "auto"'):
        checked_slabs(text)
