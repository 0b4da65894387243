"""Rates: what they accept, and how they follow from published peaks."""

import dataclasses
import json
import math
from typing import Any

import pytest

from jaxswap._gpu.fields import target_from_fields
from jaxswap._gpu.published import usual_rates
from jaxswap._gpu.rates import Rates, numbers, rate_text
from jaxswap._gpu.target import (
    built_in_target,
    find_device,
    published_rates,
    rates_of,
    target_names,
)

NUMBERS = list(numbers())


def some_rates(**changes: Any) -> Rates:
    return dataclasses.replace(published_rates(built_in_target("h100")), **changes)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan, "fast", None, True])
def test_a_number_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` of `Rates` is {value!r}: give a "):
        some_rates(**{name: value})


def test_there_are_twenty_one_numbers() -> None:
    assert len(NUMBERS) == 21


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan, 1])
def test_an_operation_that_takes_no_time_is_refused_by_name(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"`operations` .* for 'a product'"):
        some_rates(operations=(("a product", seconds),))


def test_error_says_the_unit() -> None:
    with pytest.raises(ValueError, match="number of bytes a second"):
        some_rates(memory_bytes_per_second=-1)
    with pytest.raises(ValueError, match="number of operations a second"):
        some_rates(tf32_matmul_flops_per_second=-1)
    with pytest.raises(ValueError, match="number of seconds"):
        some_rates(launch_seconds=-1)


def test_share_is_at_most_one() -> None:
    assert some_rates(swap_in_both_ways_share=1).swap_in_both_ways_share == 1
    with pytest.raises(ValueError, match=r"`swap_in_both_ways_share` .* is 1.01: give"):
        some_rates(swap_in_both_ways_share=1.01)


def test_rates_survive_json() -> None:
    operations = (("a product", 0.25), ("another", 1e-3))
    rates = some_rates(
        launch_seconds=1 / 3, operations=operations, is_measured=True, source="mine"
    )
    target = dataclasses.replace(built_in_target("h100"), rates=rates)
    read = json.loads(json.dumps(dataclasses.asdict(target)))
    assert target_from_fields(read) == target


def test_each_rate_is_a_share_of_its_own_peak() -> None:
    rates = usual_rates(
        bf16_flops_per_second=1e3,
        tf32_flops_per_second=1e5,
        fp32_flops_per_second=1e7,
        memory_bytes_per_second=1e9,
        host_link_bytes_per_second=1e8,
        core_count=7,
        source="a test",
    )
    matmul = rates.bf16_matmul_flops_per_second / 1e3
    convolution = rates.bf16_convolution_flops_per_second / 1e3
    assert 0 < convolution < matmul < 1
    assert rates.tf32_matmul_flops_per_second == pytest.approx(matmul * 1e5)
    assert rates.fp32_matmul_flops_per_second == pytest.approx(matmul * 1e7)
    assert rates.tf32_convolution_flops_per_second == pytest.approx(convolution * 1e5)
    assert 0 < rates.fp32_convolution_flops_per_second < 1e7
    gradient = rates.bf16_kernel_gradient_flops_per_second / 1e3
    assert 0 < gradient < convolution
    assert rates.tf32_kernel_gradient_flops_per_second == pytest.approx(gradient * 1e5)
    assert 0 < rates.fp32_kernel_gradient_flops_per_second < 1e7
    assert rates.reduction_bytes_per_second < rates.memory_bytes_per_second
    assert rates.conversion_bytes_per_second < rates.memory_bytes_per_second
    assert 0.5e9 < rates.memory_bytes_per_second < 1e9
    assert rates.swap_out_bytes_per_second == rates.swap_in_bytes_per_second
    assert 0.5e8 < rates.swap_in_bytes_per_second < 1e8
    assert not rates.is_measured
    assert rates.source == "a test"
    assert rates.tiles_at_once == 7


@pytest.mark.parametrize(
    ("name", "least", "most"),
    # What `nvbandwidth` reports for such links (sources in `_rates`).
    [("a100-80", 24e9, 27e9), ("h100", 48e9, 57e9), ("gh200", 273e9, 377e9)],
)
def test_copies_are_as_fast_as_others_measured(
    name: str, least: float, most: float
) -> None:
    assert least < rates_of(built_in_target(name)).swap_out_bytes_per_second < most


def test_both_ways_at_once_cost_most_where_host_memory_is_the_limit() -> None:
    on_package, on_link = (
        rates_of(built_in_target(name)).swap_in_both_ways_share
        for name in ("gh200", "h100")
    )
    assert on_package < 0.5 < on_link < 1


def test_convolutions_come_nearer_to_the_peak_before_hopper() -> None:
    old, new = built_in_target("a100-80"), built_in_target("h100")
    shares = [
        rates_of(target).bf16_convolution_flops_per_second
        / target.bf16_flops_per_second
        for target in (old, new)
    ]
    assert shares[0] > 1.5 * shares[1]


@pytest.mark.parametrize("name", target_names())
def test_nothing_built_in_is_measured_or_above_its_peak(name: str) -> None:
    target = built_in_target(name)
    rates = rates_of(target)
    assert target.rates is None
    assert not rates.is_measured
    assert target.device_name in rates.source
    assert rates.bf16_matmul_flops_per_second < target.bf16_flops_per_second
    assert rates.tf32_matmul_flops_per_second < target.tf32_flops_per_second
    assert rates.fp32_matmul_flops_per_second < target.fp32_flops_per_second
    assert rates.memory_bytes_per_second < target.memory_bytes_per_second
    assert rates.swap_in_bytes_per_second < target.host_link_bytes_per_second


def test_measured_rates_are_used_and_compared() -> None:
    measured = some_rates(is_measured=True, launch_seconds=2e-6)
    h100 = built_in_target("h100")
    mine = dataclasses.replace(h100, rates=measured)
    assert rates_of(mine) is measured
    assert published_rates(mine) == rates_of(h100)
    assert mine != h100
    assert hash(mine) == hash(dataclasses.replace(h100, rates=measured))


@pytest.mark.parametrize("name", target_names())
def test_a_gpu_is_found_by_what_its_driver_reports(name: str) -> None:
    target = built_in_target(name)
    assert find_device(target.device_name) is target
    assert find_device(target.device_name + " MIG 1g.10gb") is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("bf16_matmul_flops_per_second", 712e12, "bf16 matmul: 712.0 TFLOP/s"),
        ("memory_bytes_per_second", 3.0171e12, "memory: 3017.1 GB/s"),
        ("copy_latency_seconds", 1.05e-5, "copy latency: 10.5 us"),
        ("swap_in_both_ways_share", 0.756, "swap in both ways share: 0.76"),
    ],
)
def test_rates_are_written_with_units(name: str, value: float, text: str) -> None:
    assert name in NUMBERS
    assert rate_text(name, value) == text
