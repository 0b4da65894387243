"""Pinned host memory before the first step."""

from typing import Any

import jax
import numpy as np
import pytest

import jaxswap
from tests.handmade_plans import mixed_plan


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every array that was put anywhere."""
    seen: list[Any] = []
    put = jax.device_put

    def recorded(x: Any, sharding: Any) -> Any:
        seen.append(put(x, sharding))
        return seen[-1]

    monkeypatch.setattr(jax, "device_put", recorded)
    return seen


def shape_and_place(array: jax.Array) -> tuple[Any, ...]:
    (device,) = array.sharding.device_set
    return array.shape, array.dtype, array.sharding.memory_kind, device


def test_each_device_pins_what_a_plan_needs_and_frees_it(puts: list[Any]) -> None:
    plan = mixed_plan()
    assert plan.host_bytes > 0
    jaxswap.pin_host_memory(plan, devices=jax.devices()[:2])
    assert [shape_and_place(array) for array in puts] == [
        ((plan.host_bytes,), np.uint8, "pinned_host", device)
        for device in jax.devices()[:2]
    ]
    assert all(array.is_deleted() for array in puts)


def test_bytes_may_be_text(puts: list[Any]) -> None:
    jaxswap.pin_host_memory("1MiB")
    assert [array.nbytes for array in puts] == [2**20]


def test_nothing_is_pinned_for_nothing(puts: list[Any]) -> None:
    jaxswap.pin_host_memory(0)
    assert puts == []


@pytest.mark.parametrize("amount", [None, 1.5, "much", -1])
def test_what_is_no_amount_is_refused_by_name(amount: Any) -> None:
    with pytest.raises(ValueError, match=f"`amount` is {amount!r}"):
        jaxswap.pin_host_memory(amount)
