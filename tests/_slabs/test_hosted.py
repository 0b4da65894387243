"""Which values can lie in host memory, and the planes beyond their ends."""

import dataclasses
from fractions import Fraction

from slab_frames import GRID, NORMALIZED, planned

from jaxswap._slabs.frame import Frame, Kind, Step
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.hosted import Margins, margins_of, swappable, swapped_values

SWEEPS = planned(NORMALIZED, frozenset({1, 4}))


def test_what_sweeps_write_and_read_by_windows_can_leave() -> None:
    assert swappable(NORMALIZED, GRID, SWEEPS) == {1, 4}


def test_a_result_stays() -> None:
    frame = dataclasses.replace(NORMALIZED, wanted=NORMALIZED.wanted | {4})
    assert swappable(frame, GRID, SWEEPS) == {1}


def test_what_is_read_whole_stays() -> None:
    whole = Step(Kind.WHOLE, (4,), (11,))
    frame = Frame((*NORMALIZED.steps, whole), NORMALIZED.axes, NORMALIZED.wanted)
    assert swappable(frame, GRID, SWEEPS) == {1}


def test_margins_hold_slabs_that_reach_beyond_a_value() -> None:
    # Slabs of 6 planes reach to 18, and the windows of the one behind to 18 + 7.
    grid = Grid.of(16, 3, [Fraction(1)])
    sweeps = planned(NORMALIZED, frozenset({1, 4}), grid)
    found = margins_of(NORMALIZED, grid, sweeps, {1, 4})
    assert found == {1: Margins(6, 9), 4: Margins(6, 8)}


def test_margins_hold_a_slab_before_and_the_windows_of_one_behind() -> None:
    # Windows of value 1 are (-1, 5): the slab behind the last one ends at 16 + 5.
    found = margins_of(NORMALIZED, GRID, SWEEPS, {1, 4})
    assert found == {1: Margins(4, 5), 4: Margins(4, 4)}


def test_what_is_copied_least_for_its_time_there_leaves_first() -> None:
    # Value 1 is copied three times in two sweeps, value 4 two times in one.
    first = swapped_values(NORMALIZED, GRID, SWEEPS, swapped=1)
    assert first == {1}
    assert swapped_values(NORMALIZED, GRID, SWEEPS, swapped=9) == {1, 4}
