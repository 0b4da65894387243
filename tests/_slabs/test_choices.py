"""What is worth storing, swapping and computing again, at a GPU's rates."""

import dataclasses
import itertools
from fractions import Fraction

import pytest
from slab_frames import CONVOLVED, GRID, mean

from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import built_in_target, rates_of
from jaxswap._gpu.work import Work
from jaxswap._slabs.choices import (
    Choice,
    bytes_of,
    choices_of,
    seconds_of,
    worth_trying,
)
from jaxswap._slabs.frame import Axis, Frame, Kind, Step
from jaxswap._slabs.levels import levels_of
from jaxswap._slabs.storing import Storage
from jaxswap._slabs.sweeps import Sweeping, sweeps_of
from jaxswap._slabs.windows import SAME

NBYTES = 1 << 30
FINE = Axis(16, Fraction(1), True, NBYTES)
RATES = rates_of(built_in_target("h100"))


def heavy(x: int, y: int, seconds: float) -> Step:
    flops = seconds * RATES.bf16_convolution_flops_per_second
    return Step(
        Kind.LOCAL,
        (x,),
        (y,),
        (CONVOLVED,),
        is_heavy=True,
        flops=flops,
        tile_flops=flops,
        work=Work.BF16_CONVOLUTION,
    )


def chain(*seconds: float) -> Frame:
    """Convolutions with a mean of each, which their gradients read again."""
    steps, count = [], len(seconds)
    for i, each in enumerate(seconds):
        steps += [heavy(2 * i, 2 * i + 2, each), mean(2 * i + 2, 2 * i + 3)]
    last = 2 * count + 2  # The cotangent.
    for i in reversed(range(count)):
        out = last + 1 + i
        steps.append(Step(Kind.SUM, (2 * i + 2, last), (out,), (SAME, None)))
    outs = frozenset(range(last + 1, last + 1 + count)) | {2 * count + 1}
    axes = {2 * i: FINE for i in range(count + 1)}
    return Frame(tuple(steps), axes, outs, frozenset({last}))


FRAME = chain(0.001, 0.01, 0.1)
LEVELS = levels_of(FRAME)
ALL = sweeps_of(FRAME, LEVELS, GRID, frozenset({2, 4, 6}))


def tried(rates: Rates = RATES, *, limit_bytes: float, **numbers: int) -> list[Choice]:
    storage = Storage(Sweeping(FRAME, LEVELS, GRID))
    choices = choices_of(storage, rates, **numbers)
    return list(worth_trying(choices, limit_bytes))


def test_each_choice_takes_much_less_memory_than_all_faster_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bytes_by_speed() -> list[float]:
        found = tried(limit_bytes=1.2 * NBYTES)
        return [c.nbytes for c in sorted(found, key=lambda c: c.seconds)]

    many = bytes_by_speed()
    assert len(many) > 2
    monkeypatch.setattr("jaxswap._slabs.choices.APART", 0.6)
    monkeypatch.setattr("jaxswap._slabs.choices.CLOSELY_APART", 0.6)
    few = bytes_by_speed()
    for faster, smaller in itertools.pairwise(few):
        assert smaller <= 0.6 * faster
    assert len(few) < len(many)


def test_what_is_quick_to_compute_is_computed_again_before_it_is_copied() -> None:
    found = tried(limit_bytes=2.2 * NBYTES)
    assert any(c.recomputed and not c.swapped for c in found)
    slow = dataclasses.replace(RATES, bf16_convolution_flops_per_second=1e9)
    found = tried(slow, limit_bytes=2.2 * NBYTES)
    assert found[1].swapped
    assert not found[1].recomputed


def test_choices_lie_closer_together_near_the_limit() -> None:
    choices = [Choice(4, n, 0, 1 + n, 200.0 - 5 * n) for n in range(30)]
    found = [c.nbytes for c in worth_trying(choices, limit_bytes=100)]
    assert found == [140, 125, 110, 105, 100, 95, 90, 85, 75, 65, 55]


def test_where_everything_fits_the_fastest_is_enough() -> None:
    (one,) = tried(limit_bytes=100 * NBYTES)
    assert (one.recomputed, one.swapped) == (0, 0)


def test_given_numbers_are_kept() -> None:
    for limit_bytes in (0, NBYTES):
        found = tried(limit_bytes=limit_bytes, recomputed=1, swapped=0)
        assert [(c.recomputed, c.swapped) for c in found] == [(1, 0)]


def test_a_sweep_takes_its_computation_or_its_copies() -> None:
    without = seconds_of(FRAME, GRID, ALL, RATES, frozenset())
    assert without >= 0.111
    link = NBYTES / RATES.swap_in_bytes_per_second
    with_copies = seconds_of(FRAME, GRID, ALL, RATES, frozenset({2, 4, 6}))
    assert without + link < with_copies < without + 9 * link


def test_values_in_host_memory_take_only_windows() -> None:
    kept = bytes_of(FRAME, LEVELS, GRID, ALL, frozenset())
    assert 3 * NBYTES <= kept < 4 * NBYTES
    swapped = bytes_of(FRAME, LEVELS, GRID, ALL, frozenset({2, 4, 6}))
    assert 0 < swapped < 2 * NBYTES


@pytest.mark.parametrize("name", ["h100", "h200"])
def test_measured_operations_count_as_measured(name: str) -> None:
    rates: Rates = dataclasses.replace(
        rates_of(built_in_target(name)), operations=(("conv", 5.0),)
    )
    steps = tuple(
        dataclasses.replace(s, operation="conv") if s.is_heavy else s
        for s in FRAME.steps
    )
    frame = dataclasses.replace(FRAME, steps=steps)
    assert seconds_of(frame, GRID, ALL, rates, frozenset()) >= 15
