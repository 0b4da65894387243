"""The linear model on instances small enough to solve in the head.

Six segments of one second; the forward pass makes the items in the first, the backward
pass reads them in the last. Bytes and rates are small whole numbers.
"""

import dataclasses

import numpy as np
import pytest

from jaxswap._search.linear_model import bound_seconds, solve
from jaxswap._search.model import Item, Model

ITEM = Item(
    nbytes=10,
    made=0,
    gap=(1, 4),
    away=(),
    use=5,
    is_needed=True,
    recompute_seconds=None,
    roots=(),
)


def model(*items: Item, base: float = 0.0, rate: float = 10.0) -> Model:
    """All items stay in the gap between their uses: that is what `base` comes on."""
    device_bytes = np.full(6, base + sum(i.nbytes for i in items if i.is_needed))
    return Model(np.ones(6), device_bytes, items, rate, rate)


def test_what_fits_stays() -> None:
    answer = solve(model(ITEM), 10)
    assert answer is not None
    assert answer.leaves.tolist() == [0]
    assert answer.recomputations.tolist() == [0]
    assert answer.extra_seconds == pytest.approx(0)


def gap_only(limit_in_gap: float, *items: Item, rate: float = 10.0) -> Model:
    """A model whose memory is tight between the uses alone, by `limit_in_gap`."""
    made = model(*items, rate=rate)
    extra = np.array([-100.0, -100, limit_in_gap, limit_in_gap, -100, -100])
    return dataclasses.replace(made, device_bytes=made.device_bytes + extra)


def test_value_leaves_for_nothing_where_the_link_is_fast() -> None:
    answer = solve(gap_only(0.0, ITEM, rate=100.0), 5)
    assert answer is not None
    assert answer.leaves.tolist() == [1]
    assert answer.extra_seconds == pytest.approx(0, abs=0.01)


def test_value_is_computed_again_where_the_link_is_slow() -> None:
    item = dataclasses.replace(ITEM, recompute_seconds=0.5)
    answer = solve(gap_only(0.0, item, rate=0.1), 5)
    assert answer is not None
    assert answer.recomputations.tolist() == [1]
    assert answer.extra_seconds == pytest.approx(0.5)


def test_computation_waits_where_nothing_else_helps() -> None:
    answer = solve(gap_only(0.0, ITEM, rate=1.0), 5)
    assert answer is not None
    assert answer.leaves.tolist() == [1]
    assert answer.extra_seconds > 5


def test_a_recomputation_needs_its_root() -> None:
    root = dataclasses.replace(ITEM, is_needed=False, use=5)
    user = dataclasses.replace(ITEM, nbytes=20, recompute_seconds=0.1, roots=(0,))
    answer = solve(gap_only(0.0, root, user, rate=1e-3), 15)
    assert answer is not None
    assert answer.recomputations.tolist() == [0, 1]
    assert answer.stays.tolist() == [1, 0]


def test_runs_of_recomputations_can_be_limited() -> None:
    run = [
        dataclasses.replace(ITEM, recompute_seconds=0.1, roots=roots)
        for roots in ((), (0,), (1,))
    ]
    tight = gap_only(0.0, *run, rate=1e-3)
    free = solve(tight, 5)
    limited = solve(tight, 5, depth=1)
    assert free is not None
    assert limited is not None
    assert free.recomputations.tolist() == [1, 1, 1]
    assert limited.excess_bytes > 1


def test_host_memory_limits_what_leaves() -> None:
    items = (ITEM, dataclasses.replace(ITEM, recompute_seconds=0.2))
    answer = solve(gap_only(0.0, *items, rate=100.0), 5, host_limit_bytes=10)
    assert answer is not None
    assert answer.leaves.tolist() == [1, 0]
    assert answer.recomputations.tolist() == [0, 1]


def test_grounded_item_stays() -> None:
    item = dataclasses.replace(ITEM, can_leave=False)
    answer = solve(gap_only(0.0, item, rate=100.0), 5)
    assert answer is not None
    assert answer.leaves.tolist() == [0]
    assert answer.excess_bytes == pytest.approx(5)


def test_excess_is_told_where_nothing_fits() -> None:
    answer = solve(model(ITEM), 4)
    assert answer is not None
    assert answer.excess_bytes >= 5.9


def test_bound_is_below_what_was_found() -> None:
    item = dataclasses.replace(ITEM, recompute_seconds=0.5)
    tight = gap_only(0.0, item, item, rate=0.1)
    answer = solve(tight, 15)
    assert answer is not None
    bound = bound_seconds(tight, 15)
    assert 0 < bound <= answer.extra_seconds + 1e-9


def test_bound_says_nothing_where_nothing_fits() -> None:
    assert bound_seconds(model(ITEM), 4) == 0.0
