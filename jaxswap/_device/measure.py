"""How fast a device multiplies, convolves, reads, launches kernels and copies.

In come a device, sizes and a stopwatch, out come `Rates`. Everything is measured in
compiled programs, where swaps happen. It works on a CPU too, whose numbers only show
that it does.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxswap import _compat
from jaxswap._device import samples
from jaxswap._device.charge import charged, converted_bytes
from jaxswap._device.samples import PRECISIONS, Sample, Sizes
from jaxswap._device.stopwatch import Run, Stopwatch, compiled_run
from jaxswap._gpu.options import CHANNELS_LAST
from jaxswap._gpu.rates import Rates, rate_text
from jaxswap._trace.options import stores_channels_last

_FEWEST_SHARE = 0.05
_MANY = 128


def measure_rates(
    device: Any,
    core_count: int,
    sizes: Sizes,
    stopwatch: Stopwatch | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    source: str = "",
) -> Rates:
    """Measure everything.

    Args:
        device: The `jax.Device`; nothing else should run on it.
        core_count: Its multiprocessors.
        sizes: How large the programs are.
        stopwatch: Times them.
        progress: Is told each result, one line of text each.
        source: What the rates are to say of where they come from.

    Returns:
        Measured rates.
    """
    watch = Stopwatch() if stopwatch is None else stopwatch
    numbers: dict[str, Any] = {}
    with jax.default_device(device):
        for name, value in _measurements(core_count, sizes, watch):
            numbers[name] = value
            if progress is not None:
                progress(rate_text(name, value))
    return Rates(**numbers, is_measured=True, source=source)


def both_ways_shares(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the share of its rate that each direction keeps while both run.

    The shorter copy ends first, and the other one goes on alone at its full rate.

    Args:
        first: Seconds of a copy to the host alone, of a longer one from the host
            alone, and until both are done that start at once.
        second: The same, where the copy to the host is the longer one.

    Returns:
        Of copies to the host, and of copies from there. 1 if neither notices the other,
        0.5 if one waits for the other.
    """
    out_seconds, in_seconds, both_seconds = first
    hindered_in = max(0.0, both_seconds - in_seconds) / out_seconds
    out_seconds, in_seconds, both_seconds = second
    hindered_out = max(0.0, both_seconds - out_seconds) / in_seconds
    # hindered_in is (1 - in share) / out share, and hindered_out the other way round.
    rest = 1 - hindered_in * hindered_out
    if abs(rest) < 1e-6:
        out_share = in_share = 1 / (2 + (hindered_in + hindered_out - 2) / 2)
    else:
        out_share, in_share = (1 - hindered_out) / rest, (1 - hindered_in) / rest
    return _as_share(out_share), _as_share(in_share)


def _as_share(value: float) -> float:
    return min(1.0, max(_FEWEST_SHARE, value))


def _measurements(
    core_count: int, sizes: Sizes, watch: Stopwatch
) -> Iterator[tuple[str, float]]:
    """Names and values of the fields of `Rates`, on the default device."""
    yield "tiles_at_once", core_count
    for name, dtype, precision in PRECISIONS:
        products = [samples.matmul(size, dtype, precision) for size in sizes.matmuls]
        yield _rate(f"{name}_matmul_flops_per_second", products, watch, core_count)
    for kind, is_gradient in (("convolution", False), ("kernel_gradient", True)):
        for name, dtype, precision in PRECISIONS:
            convolutions = [
                samples.convolution(
                    volume, dtype, precision, is_kernel_gradient=is_gradient
                )
                for volume in sizes.volumes
            ]
            yield _rate(f"{name}_{kind}_flops_per_second", convolutions, watch)
    for number, make in (
        ("memory_bytes_per_second", samples.addition),
        ("reduction_bytes_per_second", samples.statistics),
    ):
        yield _rate(number, [make(volume) for volume in sizes.volumes], watch)
    yield "conversion_bytes_per_second", _conversion_rate(sizes, watch)
    tiny = jnp.ones((64, 64), jnp.float32)
    kernels = charged(samples.layers(1), (tiny,), "launch_seconds")
    layer = watch.seconds_per_link(_chain(samples.layers, tiny), (4, 36))
    yield "launch_seconds", layer / kernels
    call = samples.many_arguments(_MANY)
    yield "call_seconds", watch.call_seconds(compiled_run(call.fn, call.args))
    round_trip = watch.seconds_per_link(_chain(samples.round_trips, tiny), (4, 36))
    yield "copy_latency_seconds", round_trip / 2
    yield from _copy_rates(sizes.copy_bytes, watch)


def _rate(
    name: str, found: list[Sample], watch: Stopwatch, core_count: int = 1
) -> tuple[str, float]:
    """The rate at which the simulator predicts the seconds of all samples together."""
    seconds = sum(watch.seconds(compiled_run(one.fn, one.args)) for one in found)
    work = sum(charged(one.fn, one.args, name, core_count) for one in found)
    return name, work / seconds


def _conversion_rate(sizes: Sizes, watch: Stopwatch) -> float:
    """Bytes a second by which a convolution takes longer with its channels first."""
    _, dtype, precision = PRECISIONS[0]
    first, last = (
        samples.convolution(
            sizes.volumes[0],
            dtype,
            precision,
            is_kernel_gradient=False,
            is_channels_first=is_first,
        )
        for is_first in (True, False)
    )
    as_written = {CHANNELS_LAST: False} if stores_channels_last() else {}
    seconds = watch.seconds(compiled_run(first.fn, first.args, **as_written))
    seconds -= watch.seconds(compiled_run(last.fn, last.args))
    return converted_bytes(first.fn, first.args) / max(seconds, 1e-9)


def _copy_rates(nbytes: int, watch: Stopwatch) -> Iterator[tuple[str, float]]:
    small, large = (jnp.ones(n * nbytes // 8, jnp.float32) for n in (1, 2))
    out = {x.nbytes: compiled_run(_compat.to_host, (x,)) for x in (small, large)}
    pinning_seconds = watch.first_seconds(out[large.nbytes])
    host = {nbytes: jax.block_until_ready(run()) for nbytes, run in out.items()}
    back = {n: compiled_run(_compat.to_device, (host[n],)) for n in out}
    out_seconds = {n: watch.seconds(run) for n, run in out.items()}
    in_seconds = {n: watch.seconds(run) for n, run in back.items()}
    both = []
    for x, y in ((small, large), (large, small)):
        link = watch.seconds_per_link(_chain(samples.exchanges, x, y), (1, 5))
        alone = in_seconds[x.nbytes] + out_seconds[y.nbytes]
        both.append((out_seconds[x.nbytes], in_seconds[y.nbytes], link - alone))
    out_share, in_share = both_ways_shares(*both)
    yield "pinning_bytes_per_second", large.nbytes / pinning_seconds
    yield "swap_out_bytes_per_second", large.nbytes / out_seconds[large.nbytes]
    yield "swap_in_bytes_per_second", large.nbytes / in_seconds[large.nbytes]
    yield "swap_out_both_ways_share", out_share
    yield "swap_in_both_ways_share", in_share


def _chain(chain: Callable[[int], Any], *args: Any) -> Callable[[int], Run]:
    """Compile a chain of any length and apply it."""
    return lambda count: compiled_run(chain(count), args)
