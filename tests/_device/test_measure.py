"""Measuring a device: the arithmetic, and what comes out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._device import samples
from jaxswap._device.charge import charged, converted_bytes
from jaxswap._device.measure import both_ways_shares, measure_rates
from jaxswap._device.samples import Sizes, Volume
from jaxswap._device.stopwatch import Stopwatch
from jaxswap._gpu.rates import numbers

TINY = Sizes(
    matmuls=((32, 32, 32), (64, 16, 16)),
    volumes=(Volume((4, 4, 4), 4), Volume((8, 8), 4, 2)),
    copy_bytes=2**14,
)


@pytest.mark.parametrize(
    ("out_share", "in_share"),
    [(1.0, 1.0), (0.5, 0.5), (0.8, 0.8), (0.9, 0.6), (0.6, 0.9), (0.44, 0.97)],
)
def test_shares_follow_from_two_overlaps(out_share: float, in_share: float) -> None:
    """Copies of 1 and 2 seconds: the shorter one ends after 1 / its share."""
    first = (1.0, 2.0, 1 / out_share + 2.0 - in_share / out_share)
    second = (2.0, 1.0, 1 / in_share + 2.0 - out_share / in_share)
    found = both_ways_shares(first, second)
    assert found == (pytest.approx(out_share), pytest.approx(in_share))


@pytest.mark.parametrize("both_seconds", [0.5, 1.9, 9.0, 100.0])
def test_shares_are_shares_whatever_was_measured(both_seconds: float) -> None:
    for share in both_ways_shares((1.0, 2.0, both_seconds), (2.0, 1.0, 2.5)):
        assert 0 < share <= 1


def test_measuring_a_device_gives_rates() -> None:
    lines: list[str] = []
    devices: set[Any] = set()
    second = jax.devices()[1]

    class Spy(Stopwatch):
        def seconds(self, run: Callable[[], Any]) -> float:
            devices.update(*(leaf.devices() for leaf in jax.tree.leaves(run())))
            return super().seconds(run)

    watch = Spy(repeats=1, sample_seconds=0.0)
    sizes = dataclasses.replace(TINY, volumes=(Volume((4, 4, 4), 2),))
    rates = measure_rates(second, 4, sizes, watch, progress=lines.append, source="here")
    assert rates.is_measured  # `Rates` refuses what is not positive and finite
    assert rates.source == "here"
    assert devices == {second}
    assert len(lines) == len(numbers())
    assert lines[0] == "tiles at once: 4"
    assert lines[1].startswith("bf16 matmul: ")


def test_rates_are_what_the_simulator_charges_by_time() -> None:
    """On a clock that ticks at each look, every program takes one second."""
    ticks = iter(range(10**6))
    watch = Stopwatch(clock=lambda: float(next(ticks)), repeats=1)
    rates = measure_rates(jax.devices()[0], 4, TINY, watch)
    for name, dtype, precision in samples.PRECISIONS:
        # Columns are filled up to 64, and one tile on four multiprocessors takes twice
        # as long as its share of four.
        tile_flops = 2 * (32 * 32 * 64 + 64 * 16 * 64)
        assert getattr(rates, f"{name}_matmul_flops_per_second") == 2 * tile_flops / 2
        for kind, is_gradient in (("convolution", False), ("kernel_gradient", True)):
            number = f"{name}_{kind}_flops_per_second"
            work = 0.0
            for volume in TINY.volumes:
                one = samples.convolution(
                    volume, dtype, precision, is_kernel_gradient=is_gradient
                )
                work += charged(one.fn, one.args, number)
            assert getattr(rates, number) == work / 2
    assert rates.swap_out_bytes_per_second == 2**14
    assert rates.swap_in_bytes_per_second == 2**14
    # A layer is three kernels to the simulator, a round trip two copies.
    assert 3 * rates.launch_seconds == pytest.approx(2 * rates.copy_latency_seconds)


def test_what_is_charged_is_what_the_simulator_predicts() -> None:
    x = jnp.ones((1, 8, 8, 8, 16), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 3, 16, 32), jnp.bfloat16)

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )

    def first(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NCDHW", "DHWIO", "NCDHW")
        )

    args, turned = (x, kernel), (jnp.moveaxis(x, -1, 1), kernel)
    # 512 voxels, 32 columns, 27 places of 16 channels, filled up to 32.
    number = "bf16_convolution_flops_per_second"
    assert charged(convolve, args, number) == 2 * 512 * 32 * 27 * 32
    assert charged(first, turned, number) == 2 * 512 * 32 * 27 * 32
    moved = x.nbytes + kernel.nbytes + 2 * x.nbytes
    assert charged(convolve, args, "memory_bytes_per_second") == moved
    # Operands and result are read and written once more.
    assert converted_bytes(first, turned) == 2 * moved
    assert converted_bytes(convolve, args) == 0
