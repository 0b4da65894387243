"""Which values can lie in host memory, and the planes beyond their ends."""

import dataclasses
from fractions import Fraction

from slab_frames import FINE, GRID, NORMALIZED, planned

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


def test_slabs_must_divide_the_planes() -> None:
    assert not swappable(NORMALIZED, Grid.of(16, 3, [Fraction(1)]), SWEEPS)
    axes = {**NORMALIZED.axes, 4: dataclasses.replace(FINE, planes=17)}
    frame = dataclasses.replace(NORMALIZED, axes=axes)
    assert swappable(frame, GRID, SWEEPS) == {1}


def test_margins_hold_a_slab_before_and_the_windows_of_one_behind() -> None:
    # Windows of value 1 are (-1, 5): the slab behind the last one ends at 16 + 5.
    found = margins_of(NORMALIZED, GRID, SWEEPS, {1, 4})
    assert found == {1: Margins(4, 5), 4: Margins(4, 4)}


def test_what_is_copied_least_for_its_time_there_leaves_first() -> None:
    # Value 1 is copied three times in two sweeps, value 4 two times in one.
    first = swapped_values(NORMALIZED, GRID, SWEEPS, swapped=1)
    assert first == {1}
    assert swapped_values(NORMALIZED, GRID, SWEEPS, swapped=9) == {1, 4}
