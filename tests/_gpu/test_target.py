"""GPUs as numbers."""

import dataclasses
import re

import pytest

from jaxswap._gpu.target import Target, built_in_target, target_names


@pytest.mark.parametrize(
    "name", ["a100-80", "A100-80", "a100_80", "A100 80", "a10080", "A100-80-"]
)
def test_names_are_found_in_any_spelling(name: str) -> None:
    assert built_in_target(name).name == "a100-80"


def test_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="`target` is 'v100'") as caught:
        built_in_target("v100")
    text = str(caught.value)
    assert all(name in text for name in target_names())
    assert "`jaxswap.Target`" in text


def test_names_that_the_documentation_uses_are_there() -> None:
    names = {"a100-40", "a100-80", "h100", "h200", "b200", "rtx4090"}
    assert names <= set(target_names())


@pytest.mark.parametrize("name", target_names())
def test_numbers_are_of_the_right_size(name: str) -> None:
    target = built_in_target(name)
    assert 2e10 < target.memory_bytes < 4e11
    assert 2e11 < target.memory_bytes_per_second < 2e13
    assert 1e10 < target.host_link_bytes_per_second < target.memory_bytes_per_second
    assert 1e9 < target.clock_hertz < 4e9
    bf16, tf32 = target.bf16_flops_per_second, target.tf32_flops_per_second
    assert target.fp32_flops_per_second <= tf32 < bf16
    # Two operations a lane and cycle: the peak follows from lanes, cores and clock.
    lanes = target.core_count * target.fpus_per_core
    assert target.fp32_flops_per_second == pytest.approx(
        2 * lanes * target.clock_hertz, rel=0.05
    )


def test_text_proto_has_the_numbers_and_balanced_braces() -> None:
    text = built_in_target("h100").to_text_proto()
    for line in (
        "core_count: 132",
        "device_memory_size: 84942979072",
        "memory_bandwidth: 3352320000000",
        "clock_rate_ghz: 1.98",
        "feature_extension: ACCELERATED_FEATURES",
        'platform_version: "Compute Capability 9.0a"',
        'device_description_str: "NVIDIA H100 80GB HBM3"',
    ):
        assert f"  {line}\n" in text or text.endswith(f"{line}\n")
    assert text.count("{") == text.count("}")
    assert not re.search(r"\d\.\d+e[+-]?\d", text)


def test_targets_are_compared_by_value() -> None:
    h100 = built_in_target("h100")
    assert dataclasses.replace(h100) == h100
    assert hash(dataclasses.replace(h100)) == hash(h100)
    slower = dataclasses.replace(h100, host_link_bytes_per_second=25e9)
    assert isinstance(slower, Target)
    assert slower != h100
