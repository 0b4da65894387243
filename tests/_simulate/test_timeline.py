"""What is read off a simulated timeline, from one written out by hand."""

import dataclasses

import numpy as np

from jaxswap._simulate.kernels import Kernel, PlannedCopy, Steps, Wait
from jaxswap._simulate.timeline import Timeline, Transfer

STEPS = Steps(
    steps=(
        Kernel(0, is_recomputed=False, reads=(), makes=(0,)),
        PlannedCopy(0, 0, is_inward=False),
        Kernel(1, is_recomputed=False, reads=(0,), makes=(1,)),
        Wait((0,)),
        PlannedCopy(0, 2, is_inward=True),
        Kernel(1, is_recomputed=True, reads=(), makes=(3,)),
        Kernel(2, is_recomputed=False, reads=(2, 3), makes=(4,)),
    ),
    forward_count=4,
    values=(0, 1, 0, 1, 2),
    last_reads=(2, 2, 6, 6, 6),
    runs=(0, 1, 1, 2, 2, 2, 3),
    is_fixed=(False, False, False, False, True),
)
TIMELINE = Timeline(
    steps=STEPS,
    starts=np.array([0.0, 2, 2, 6, 6, 6, 9]),
    seconds_of=np.array([2.0, 0, 3, 0, 0, 1, 4]),
    stalls=np.array([0.0, 0, 0, 1, 0, 0, 2]),
    transfers=(Transfer(0, False, 1, 2.0, 4.0), Transfer(0, True, 4, 6.0, 3.0)),
    device_bytes_at=np.array([17, 17, 22, 10, 17, 22, 22]),
    host_bytes_at=np.array([0, 7, 7, 7, 7, 0, 0]),
    freed=np.array([2, 2, 6, 6, 6]),
    caller_bytes=10,
    seconds=13.0,
)


def test_peaks_are_the_most_that_any_step_needs() -> None:
    assert TIMELINE.device_bytes == 22
    assert TIMELINE.host_bytes == 7


def test_program_without_steps_holds_what_the_caller_holds() -> None:
    nothing = np.zeros(0)
    empty = Timeline(
        steps=Steps((), 0, (), (), (), ()),
        starts=nothing,
        seconds_of=nothing,
        stalls=nothing,
        transfers=(),
        device_bytes_at=nothing,
        host_bytes_at=nothing,
        freed=nothing,
        caller_bytes=10,
        seconds=0.0,
    )
    assert (empty.device_bytes, empty.host_bytes) == (10, 0)
    assert (empty.compute_seconds, empty.stall_seconds) == (0, 0)


def test_time_is_computation_recomputations_among_it_and_stalls() -> None:
    assert TIMELINE.compute_seconds == 2 + 3 + 1 + 4
    assert TIMELINE.recompute_seconds == 1
    assert TIMELINE.stall_seconds == 13 - 10


def test_stalls_include_copies_that_outlast_computation() -> None:
    longer = dataclasses.replace(TIMELINE, seconds=15.0)
    assert longer.stall_seconds == longer.stalls.sum() + 2


def test_transfer_ends_when_its_seconds_are_over() -> None:
    assert [t.end_seconds for t in TIMELINE.transfers] == [6, 9]


def test_each_buffer_is_made_by_a_kernel_or_a_copy_back() -> None:
    assert TIMELINE.made() == [0, 2, 4, 5, 6]


def test_alive_are_the_buffers_between_making_and_freeing() -> None:
    alive = [TIMELINE.alive(at) for at in range(len(STEPS.steps))]
    assert alive == [[0], [0], [0, 1], [], [2], [2, 3], [2, 3]]
    # A buffer that is freed before it is made is never held but where it is made.
    freed = dataclasses.replace(TIMELINE, freed=np.array([0, 0, 6, 6, 6]))
    assert [freed.alive(at) for at in range(4)] == [[0], [], [1], []]
