"""The search keeps what is best in some respect and nothing else."""

import dataclasses
import itertools
from typing import cast

import pytest

from jaxswap._search.front import Front, swaps_any
from jaxswap._simulate.draft import Draft


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    device_bytes: int
    host_bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Leaving:
    value: int


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    timeline: Line
    fragmented_bytes: int
    swaps: tuple[Leaving, ...] = ()


def draft(
    device: int, host: int, seconds: float, *swapped: int, gap: int = 10
) -> Draft:
    line = Line(device, host, seconds)
    return cast(Draft, Made(line, gap, tuple(Leaving(v) for v in swapped)))


SMALL, FAST, HOSTLESS = draft(1, 5, 9.0), draft(9, 5, 1.0), draft(9, 0, 9.0)
GAPLESS, WORSE = draft(9, 5, 9.0, gap=0), draft(9, 5, 9.0)


@pytest.mark.parametrize(
    "order", list(itertools.permutations([SMALL, FAST, HOSTLESS, GAPLESS, WORSE]))
)
def test_what_is_best_in_one_respect_is_kept_in_any_order(order: list[Draft]) -> None:
    front = Front()
    for made in order:
        front.offer(made)
    assert set(front) == {SMALL, FAST, HOSTLESS, GAPLESS}


def test_of_equals_the_first_is_kept() -> None:
    front, first = Front(), draft(2, 2, 2.0)
    front.offer(first)
    front.offer(draft(2, 2, 2.0))
    assert list(front) == [first]


def test_some_can_be_forgotten() -> None:
    front = Front()
    for made in (draft(1, 5, 9.0, 3), FAST):
        front.offer(made)
    front.drop(lambda made: swaps_any(made, {3, 4}))
    assert list(front) == [FAST]
