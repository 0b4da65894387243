"""Values are cut along the first axis that can be divided evenly."""

import pytest

from jaxswap._graph.pieces import axis_of, checked_pieces


@pytest.mark.parametrize(
    ("shape", "count", "axis"),
    [((8, 3), 4, 0), ((1, 192, 16), 2, 1), ((6, 8), 4, 1), ((5, 7), 2, None)],
)
def test_the_first_axis_that_can_be_divided_is_cut(
    shape: tuple[int, ...], count: int, axis: int | None
) -> None:
    assert axis_of(shape, count) == axis


@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_what_has_no_such_axis_is_not_cut(shape: tuple[int, ...]) -> None:
    assert axis_of(shape, 2) is None


def test_no_number_and_one_stand_for_whole_values() -> None:
    assert checked_pieces(None) == checked_pieces(1) == 1
    assert checked_pieces(4) == 4


@pytest.mark.parametrize("wrong", [0, -2, 2.0, "two", True])
def test_what_is_no_number_of_pieces_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"`pieces` is .* such as 4, or None"):
        checked_pieces(wrong)
