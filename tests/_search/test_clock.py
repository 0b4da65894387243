"""How long a search may go on, by whichever clock."""

import time

import pytest

from jaxswap._search.clock import MOST_SLOWDOWN, Deadline, Instant


class Reading:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 10.0

    def __call__(self) -> float:
        return self.seconds


def test_a_deadline_is_over_when_its_clock_says_so() -> None:
    clock = Reading()
    deadline = Deadline.after(2.0, clock)
    assert not deadline.is_over
    clock.seconds = 12.0
    assert not deadline.is_over
    assert deadline.left_seconds == 0.0
    clock.seconds = 12.5
    assert deadline.is_over


def test_parts_of_the_time_end_sooner() -> None:
    clock = Reading()
    deadline = Deadline.after(2.0, clock)
    assert deadline.earlier(1.5).left_seconds == 0.5
    assert deadline.within(0.5).left_seconds == 0.5
    assert deadline.within(9.0).left_seconds == 2.0


@pytest.mark.parametrize(
    ("wall", "worked", "expected"),
    [(30.0, 10.0, 3.0), (10.0, 10.0, 1.0), (5.0, 0.0, MOST_SLOWDOWN)],
)
def test_where_wall_time_is_limited_other_load_is_made_up_for(
    wall: float, worked: float, expected: float
) -> None:
    start = Instant(time.perf_counter() - wall, time.thread_time() - worked)
    assert start.slowdown() == pytest.approx(expected, rel=1e-2)
