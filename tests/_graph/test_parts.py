"""Arrays are cut along the first axis that can be divided."""

import pytest

from jaxswap._graph.parts import cut_of


@pytest.mark.parametrize(
    ("shape", "cut"),
    [
        ((64, 3), (0, 2)),
        ((1, 192, 192, 16), (1, 2)),
        ((9, 4), (0, 3)),
        ((25,), (0, 5)),
        ((11, 13, 7), (2, 7)),
    ],
)
def test_the_first_axis_that_can_be_divided_is_cut(
    shape: tuple[int, ...], cut: tuple[int, int]
) -> None:
    assert cut_of(shape) == cut


@pytest.mark.parametrize("shape", [(), (1, 1), (11, 13), (0, 11)])
def test_nothing_is_cut_that_cannot_be_divided(shape: tuple[int, ...]) -> None:
    assert cut_of(shape) is None
