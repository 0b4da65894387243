"""The programs by which a device is measured."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxswap
from jaxswap._device import samples
from jaxswap._device.samples import Volume, sizes_for
from jaxswap._device.topology import place_on
from jaxswap._gpu.target import built_in_target

GIB = 2**30


@pytest.mark.parametrize("is_channels_first", [False, True])
@pytest.mark.parametrize("volume", [Volume((4, 6, 8), 5, 3), Volume((6, 8), 5, 3)])
def test_convolutions_have_both_gradients(
    volume: Volume, is_channels_first: bool
) -> None:
    def run(is_kernel_gradient: bool) -> Any:
        sample = samples.convolution(
            volume,
            jnp.bfloat16,
            lax.Precision.DEFAULT,
            is_kernel_gradient=is_kernel_gradient,
            is_channels_first=is_channels_first,
        )
        return sample.fn(*sample.args), sample.args

    (y, dx), (x, kernel, _) = run(is_kernel_gradient=False)
    assert y.shape == dx.shape == x.shape
    assert x.shape[1 if is_channels_first else -1] == 5
    gradient, _ = run(is_kernel_gradient=True)
    assert gradient.shape == kernel.shape
    assert bool(jnp.any(jnp.abs(gradient) > 5))  # a sum over all positions


def test_statistics_are_those_of_each_channel() -> None:
    sample = samples.statistics(Volume((8, 8, 8), 4, 2))
    (x,) = sample.args
    wide = x.astype(jnp.float32)
    mean, variance = sample.fn(x)
    assert jnp.allclose(mean, jnp.mean(wide, (1, 2, 3)), atol=1e-5)
    assert jnp.allclose(variance, jnp.var(wide, (1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("free_gib", [1, 2, 6, 16, 80])
def test_sizes_fit_in_free_memory(free_gib: int) -> None:
    sizes = sizes_for(free_gib * GIB)
    for rows, summands, columns in sizes.matmuls:
        values = rows * summands + summands * columns + rows * columns
        assert 4 * values <= free_gib * GIB / 2
    assert 4 * sizes.copy_bytes <= free_gib * GIB / 4
    for volume in sizes.volumes:
        assert 4 * 4 * math.prod(volume.shape) <= free_gib * GIB / 2
    assert [len(volume.spatial) for volume in sizes.volumes[-2:]] == [3, 2]


def test_quick_is_smaller() -> None:
    slow, quick = sizes_for(80 * GIB), sizes_for(80 * GIB, is_quick=True)
    assert max(quick.matmuls) < max(slow.matmuls)
    assert quick.copy_bytes < slow.copy_bytes
    assert len(quick.volumes) < len(slow.volumes)


def test_too_little_memory_is_said() -> None:
    with pytest.raises(ValueError, match=r"0\.50 GiB of the device's memory are free"):
        sizes_for(GIB // 2)


def entry(program: Callable[..., Any], target: str, *sizes: int) -> str:
    """What a GPU would run, in order."""
    args = place_on(
        built_in_target(target),
        tuple(jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes),
    )
    compiled = jax.jit(program).lower(*args).compile({**jaxswap.compiler_options()})
    text = compiled.as_text() or ""
    return text[text.index("ENTRY") :]


@pytest.mark.parametrize("target", ["h100", "a100-80"])
def test_gpu_copies_both_ways_at_once(target: str) -> None:
    text = entry(samples.exchanges(3), target, 1024, 2048)
    order = re.findall(r" copy-(start|done)\(", text)
    one, both = ["start", "done"], ["start", "start", "done", "done"]
    assert order == [*one, *[*both, *one, *one] * 3, *one]
    starts = [line for line in text.splitlines() if " copy-start(" in line]
    to_host = ["S(5)" in line.split(" = (")[1].split(",")[0] for line in starts]
    assert to_host[0]
    assert not to_host[-1]
    for link in range(3):
        first, second, out, back = to_host[1 + 4 * link : 5 + 4 * link]
        assert first != second
        assert out != back


def test_gpu_runs_every_link_of_a_chain() -> None:
    text = entry(samples.round_trips(5), "h100", 1024)
    assert len(re.findall(r" copy-start\(", text)) == 10


def test_layers_are_as_many_as_asked_for() -> None:
    jaxpr = jax.make_jaxpr(samples.layers(7))(jnp.ones((4, 4)))
    assert str(jaxpr).count("dot_general") == 7
