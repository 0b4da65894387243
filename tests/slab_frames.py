"""Programs by slabs as numbers, written by hand."""

from fractions import Fraction

from jaxswap._slabs.frame import Axis, Frame, Kind, Step
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.levels import levels_of
from jaxswap._slabs.sweeps import Sweep, sweeps_of
from jaxswap._slabs.windows import SAME, Stencil

CONVOLVED = (Stencil(1, 1, 3),)
"""Three planes wide, with one plane of padding."""
FINE = Axis(16, Fraction(1), True)
GRID = Grid.of(16, 4, [Fraction(1)])


def convolution(x: int, y: int) -> Step:
    return Step(Kind.LOCAL, (x,), (y,), (CONVOLVED,), is_heavy=True)


def mean(x: int, y: int) -> Step:
    return Step(Kind.SUM, (x,), (y,), (SAME,))


def centred(x: int, m: int, y: int) -> Step:
    return Step(Kind.LOCAL, (x, m), (y,), (SAME, None))


# Argument 0; a convolution and its mean, twice; what depends on the cotangent 7.
NORMALIZED = Frame(
    steps=(
        convolution(0, 1),
        mean(1, 2),
        centred(1, 2, 3),
        convolution(3, 4),
        mean(4, 5),
        Step(Kind.WHOLE, (5,), (6,)),
        Step(Kind.WHOLE, (7, 5), (8,)),
        Step(Kind.LOCAL, (4, 8), (9,), (SAME, None)),
        Step(Kind.SUM, (3, 9), (10,), (CONVOLVED, SAME), counted=1),
    ),
    axes={v: FINE for v in (0, 1, 3, 4, 9)},
    wanted=frozenset({6, 10}),
    cotangents=frozenset({7}),
)


def planned(
    frame: Frame, stored: frozenset[int], grid: Grid = GRID
) -> tuple[Sweep, ...]:
    return sweeps_of(frame, levels_of(frame), grid, stored)
