"""Windows against what is counted plane by plane."""

import itertools

import pytest

from jaxswap._slabs.windows import Stencil, Window, reads

STENCILS = [
    Stencil(*numbers)
    for numbers in itertools.product((1, 2, 3), (-1, 0, 2), (1, 2, 4), (1, 2, 3))
]


def planes_read(stencil: Stencil, plane: int) -> set[int]:
    """Planes of the operand that one plane of the result reads."""
    first = plane * stencil.stride - stencil.before
    places = range(first, first + stencil.extent)
    return {p // stencil.dilation for p in places if p % stencil.dilation == 0}


@pytest.mark.parametrize("window", [Window(0, 4), Window(-3, 2), Window(2, 3)])
def test_a_window_reads_the_planes_that_its_planes_read(window: Window) -> None:
    for stencil in STENCILS:
        found = stencil.reads(window)
        each = [planes_read(stencil, q) for q in range(window.start, window.stop)]
        wanted = set().union(*each)
        assert wanted <= set(range(found.start, found.stop))
        if wanted and stencil.extent >= stencil.stride:  # which leaves no place out
            assert (found.start, found.stop) == (min(wanted), max(wanted) + 1)
        assert found.size >= 1


def test_padding_fills_up_what_the_first_and_last_plane_read() -> None:
    window = Window(-2, 3)
    for stencil in STENCILS:
        low, high = stencil.padding(window)
        planes = (stencil.reads(window).size - 1) * stencil.dilation + 1
        places = low + planes + high - stencil.extent
        assert places // stencil.stride + 1 == window.size
        assert places % stencil.stride == 0


def test_stencils_follow_one_another_back_to_the_operand() -> None:
    wider, coarser = Stencil(1, 1, 3), Stencil(1, 0, 1, 2)
    assert reads((wider, coarser), Window(0, 4)) == Window(0, 3)
    assert reads((), Window(0, 4)) == Window(0, 4)


def test_windows_unite() -> None:
    assert Window(-1, 2).union(Window(0, 4)) == Window(-1, 4)
