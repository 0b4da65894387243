"""GPUs of one machine share its links and its memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxswap
from jaxswap._gpu.host_memory import HostMemoryError, check_host_memory
from jaxswap._gpu.node import Node, find_node, is_node, node_names
from jaxswap._gpu.target import rates_of


@pytest.mark.parametrize("name", node_names())
def test_alone_a_gpu_has_what_its_own_link_carries(name: str) -> None:
    node = find_node(name)
    alone, rates = rates_of(node.gpu_among(1)), rates_of(node.gpu)
    assert alone.swap_in_bytes_per_second == rates.swap_in_bytes_per_second
    assert alone.bf16_matmul_flops_per_second == rates.bf16_matmul_flops_per_second


@pytest.mark.parametrize("name", node_names())
def test_more_busy_gpus_never_have_more_each(name: str) -> None:
    node = find_node(name)
    found = [rates_of(node.gpu_among(n)) for n in range(1, node.gpu_count + 1)]
    both = [r.swap_in_bytes_per_second * r.swap_in_both_ways_share for r in found]
    assert both == sorted(both, reverse=True)


def test_two_gpus_behind_one_switch_have_half_of_it_each() -> None:
    node = find_node("dgx-a100")
    four, eight = (rates_of(node.gpu_among(n)) for n in (4, 8))
    assert four.swap_out_bytes_per_second == pytest.approx(26.775e9)
    assert eight.swap_out_bytes_per_second == pytest.approx(13.3875e9)


def test_all_copies_of_a_socket_fit_its_memory() -> None:
    node = find_node("dgx-h100")
    rates = rates_of(node.gpu_among(8))
    each = rates.swap_in_bytes_per_second + rates.swap_out_bytes_per_second
    total = 4 * each * rates.swap_in_both_ways_share
    assert total <= 0.8 * node.socket_memory_bytes_per_second * 1.001
    assert rates.swap_in_both_ways_share < rates_of(node.gpu).swap_in_both_ways_share


def test_memory_of_the_host_is_divided() -> None:
    node = find_node("dgx-h100")
    assert node.host_bytes_each(8) == int(0.9 * 2e12) // 8
    assert node.busy(64) == 8
    assert node.busy(2) == 2


def test_names_are_found_however_they_are_written() -> None:
    assert find_node("DGX H100") is find_node("dgx-h100")
    assert is_node("ac922")
    assert is_node(find_node("ac922"))
    assert not is_node("h100")
    assert not is_node(None)
    with pytest.raises(ValueError, match="choose one of ac922, dgx-a100, dgx-h100"):
        find_node("dgx-1")


def test_wrong_numbers_are_named() -> None:
    node = find_node("dgx-h100")
    with pytest.raises(ValueError, match="`host_memory_bytes` of the node 'dgx-h100'"):
        dataclasses.replace(node, host_memory_bytes=0)
    with pytest.raises(ValueError, match="`gpus_per_link`=3 does not divide"):
        dataclasses.replace(node, gpus_per_link=3)
    with pytest.raises(ValueError, match="`busy` is 9"):
        node.gpu_among(9)


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def arguments(devices: int) -> tuple[Any, Any]:
    mesh = AbstractMesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 8
    rows = jax.ShapeDtypeStruct(
        (8192 * devices, 1024),
        jnp.float32,
        sharding=NamedSharding(mesh, P("data")),
    )
    return weights, rows


def planned(target: str | Node, devices: int, **options: Any) -> jaxswap.Plan:
    options = {"compile": False, "progress": False} | options
    return jaxswap.plan(loss, *arguments(devices), target=target, **options)


def test_a_full_machine_swaps_slower_than_one_of_its_gpus() -> None:
    """The same work for each GPU; what they share is divided."""
    node = dataclasses.replace(find_node("dgx-a100"), name="slow")
    swapped: dict[str, Any] = {"policy": jaxswap.OFFLOAD}
    seconds = {n: planned(node, n, **swapped).seconds for n in (2, 8)}
    assert seconds[8] > 1.3 * seconds[2]
    assert planned(node, 8, **swapped).target.name == "slow:8"


def test_host_memory_of_a_machine_is_that_of_all_its_gpus() -> None:
    each = planned("dgx-h100", 8, policy=jaxswap.OFFLOAD).host_bytes
    small = dataclasses.replace(
        find_node("dgx-h100"), name="small", host_memory_bytes=4 * each
    )
    planned(small, 2, policy=jaxswap.OFFLOAD)
    with pytest.raises(HostMemoryError, match="host budget"):
        planned(small, 8, policy=jaxswap.OFFLOAD)


def test_here_the_gpus_of_a_process_fill_one_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB", "1")
    check_host_memory(2**29, device_count=2)
    with pytest.raises(HostMemoryError, match=r"512 MiB for each of 4 GPUs"):
        check_host_memory(2**29, device_count=4)
