"""Timing programs, with a clock that only programs move."""

from collections.abc import Callable

import pytest

from jaxswap._device.stopwatch import Stopwatch


class FakeTime:
    """A clock that only programs move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = 0

    def read(self) -> float:
        return self.now

    def program(self, *seconds: float) -> Callable[[], None]:
        """Takes each of `seconds` in turn, and the last one from then on."""
        left = list(seconds)

        def run() -> None:
            self.runs += 1
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_first_runs_do_not_count() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=3, sample_seconds=0.01)
    assert watch.seconds(time.program(9.0, 5.0, 2.0)) == pytest.approx(2.0)
    assert time.runs == 2 + 1 + 3


def test_short_programs_are_repeated_within_a_sample() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=3, sample_seconds=0.01)
    assert watch.seconds(time.program(0.002)) == pytest.approx(0.002)
    assert time.runs == 2 + 1 + 3 * 5


def test_a_disturbed_sample_does_not_count() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=3, sample_seconds=0.01)
    assert watch.seconds(time.program(1, 1, 1, 1, 50.0, 1)) == pytest.approx(1)


def test_a_program_that_takes_no_time_has_a_rate() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    assert 0 < watch.seconds(time.program(0.0)) <= 1e-9
    assert time.runs == 2 + 1 + 1000


def test_a_link_is_what_a_longer_chain_adds() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    lengths = []

    def chain(count: int) -> Callable[[], None]:
        lengths.append(count)
        return time.program(0.5 + 0.01 * count)

    assert watch.seconds_per_link(chain, (4, 36)) == pytest.approx(0.01)
    assert lengths == [4, 36]


def test_a_link_is_timed_in_runs_that_do_not_overlap() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1, sample_seconds=1.0)
    watch.seconds_per_link(lambda count: time.program(1e-6 * count), (4, 36))
    assert time.runs == 2 * (2 + 1 + 5)


def test_a_link_that_takes_no_time_has_a_rate() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    assert watch.seconds_per_link(lambda count: time.program(1.0 / count), (4, 36)) > 0


def test_the_first_run_costs_what_it_takes_beyond_a_later_one() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    assert watch.first_seconds(time.program(5.0, 2.0)) == pytest.approx(3.0)


def test_a_call_is_waited_for() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1, sample_seconds=1.0)
    assert watch.call_seconds(time.program(1e-6)) == pytest.approx(1e-6)
    assert time.runs == 2 + 1 + 5
