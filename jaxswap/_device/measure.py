"""How fast a device multiplies, convolves, reads, launches kernels and copies.

In come a device, sizes and a stopwatch, out come `Rates`. Everything is measured in
compiled programs, where swaps happen. It works on a CPU too, whose numbers only show
that it does.
"""

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxswap import _compat
from jaxswap._gpu.rates import Rates, rate_text

Run = Callable[[], Any]
"""Starts a program and returns its results, perhaps before they are there."""

Program = Callable[[jax.Array], Any]
"""What is compiled: a chain of equal links, applied to one array."""

_MIB = 2**20
_GIB = 2**30

# Less than any clock here can tell. Keeps rates positive and finite.
_LEAST_SECONDS = 1e-9
_MOST_RUNS_PER_SAMPLE = 1000
_REPEATS_OF_CHAINS = 5

# Without it, XLA runs copies one after the other on GPUs before Hopper.
OVERLAPPED: dict[str, str | bool] = {"xla_gpu_enable_latency_hiding_scheduler": True}

_PRECISIONS = (
    ("bf16", jnp.bfloat16, lax.Precision.DEFAULT),
    ("tf32", jnp.float32, lax.Precision.DEFAULT),
    ("fp32", jnp.float32, lax.Precision.HIGHEST),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Times programs.

    Attributes:
        repeats: Samples, of which the median counts.
        sample_seconds: A sample repeats a program back to back for about this long.
        clock: Reads the time in seconds.
    """

    repeats: int = 7
    sample_seconds: float = 0.05
    clock: Callable[[], float] = time.perf_counter

    def seconds(self, run: Run) -> float:
        """Return how long one run takes, compiled and warmed up.

        Args:
            run: Starts the program.

        Returns:
            The median over the samples of the mean within a sample.
        """
        for _ in range(2):
            jax.block_until_ready(run())
        once = max(self._sample(run, 1), _LEAST_SECONDS)
        count = math.ceil(min(self.sample_seconds / once, _MOST_RUNS_PER_SAMPLE))
        samples = [self._sample(run, max(count, 1)) for _ in range(self.repeats)]
        return max(statistics.median(samples), _LEAST_SECONDS)

    def seconds_per_link(
        self, chain: Callable[[int], Run], lengths: tuple[int, int]
    ) -> float:
        """Return what one more link adds to a chain, without what every run costs.

        Each run is waited for: if the next one were started meanwhile, starting could
        take longer than the short chain.

        Args:
            chain: Makes a program of so many links.
            lengths: Links of the short and of the long chain that are compared.

        Returns:
            The difference of their times for each link that they differ by.
        """
        alone = dataclasses.replace(
            self, sample_seconds=0.0, repeats=_REPEATS_OF_CHAINS * self.repeats
        )
        short, long = (alone.seconds(chain(length)) for length in lengths)
        return max((long - short) / (lengths[1] - lengths[0]), _LEAST_SECONDS)

    def _sample(self, run: Run, count: int) -> float:
        start = self.clock()
        results = None
        for _ in range(count):
            results = run()
        jax.block_until_ready(results)
        return (self.clock() - start) / count


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with kernels of three along each axis, stride 1, channels last.

    Attributes:
        spatial: Size of the image or volume.
        channels: Of the input and of the output.
        batch: Images or volumes.
    """

    spatial: tuple[int, ...]
    channels: int
    batch: int = 1

    @property
    def flops(self) -> float:
        """Floating point operations of the convolution and of its two gradients."""
        kernel = 3 ** len(self.spatial) * self.channels
        return 3 * 2.0 * math.prod(self.spatial) * self.channels * self.batch * kernel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the programs are that are timed.

    Attributes:
        matmul_side: Rows and columns of the matrices.
        convolutions: Each is timed, and their rate is that of all of them in a row.
        array_bytes: Size of the arrays that are read and written.
        copy_bytes: Size of the arrays that are copied to the host and back.
    """

    matmul_side: int
    convolutions: tuple[Convolution, ...]
    array_bytes: int
    copy_bytes: int


def sizes_for(free_bytes: int, *, is_quick: bool = False) -> Sizes:
    """Choose sizes that keep a GPU busy and fit in its free memory.

    Args:
        free_bytes: Free device memory.
        is_quick: Choose smaller ones, which take less time and tell less.

    Returns:
        The sizes. Large ones are the first levels of a 3D U-Net and a layer of a
        ResNet.

    Raises:
        ValueError: If there is too little memory to measure anything.
    """
    if free_bytes < _GIB:
        raise ValueError(
            f"{free_bytes / _GIB:.2f} GiB of the device's memory are free, and "
            "measuring needs 1 GiB: end what else runs on the GPU."
        )
    is_small = is_quick or free_bytes < 6 * _GIB
    most = 1 if is_small else 4  # matrices of up to 256 MiB, arrays of up to 1 GiB
    convolutions = (
        (Convolution((64, 64, 64), 32), Convolution((56, 56), 64, 16))
        if is_small
        else (
            Convolution((96, 96, 96), 32),
            Convolution((64, 64, 64), 64),
            Convolution((56, 56), 128, 32),
        )
    )
    return Sizes(
        matmul_side=4096 if is_small else 8192,
        convolutions=convolutions,
        array_bytes=min(256 * _MIB * most, free_bytes // 8),
        copy_bytes=min(64 * _MIB * most, free_bytes // 16),
    )


def measure_rates(
    device: Any,
    sizes: Sizes,
    stopwatch: Stopwatch | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    source: str = "",
) -> Rates:
    """Measure everything.

    Args:
        device: The `jax.Device`; nothing else should run on it.
        sizes: How large the programs are.
        stopwatch: Times them.
        progress: Is told each result, one line of text each.
        source: What the rates are to say of where they come from.

    Returns:
        Measured rates.
    """
    watch = Stopwatch() if stopwatch is None else stopwatch
    numbers: dict[str, float] = {}
    with jax.default_device(device):
        for name, value in _measurements(sizes, watch):
            numbers[name] = value
            if progress is not None:
                progress(rate_text(name, value))
    return Rates(**numbers, is_measured=True, source=source)


def both_ways_share(
    out_seconds: float, in_seconds: float, both_seconds: float
) -> float:
    """Return the share of its rate that each direction keeps while both run.

    The faster copy ends first, and the other one goes on alone at its full rate.

    Args:
        out_seconds: Time of the copy to the host, alone.
        in_seconds: Time of the copy from the host, alone.
        both_seconds: Time until both are done that start at once.

    Returns:
        1 if neither copy notices the other, 0.5 if one waits for the other.
    """
    fast, slow = sorted((out_seconds, in_seconds))
    together = both_seconds - (slow - fast)
    return 1.0 if together <= fast else fast / together


def _measurements(sizes: Sizes, watch: Stopwatch) -> Iterator[tuple[str, float]]:
    """Names and values of the fields of `Rates`, on the default device."""
    for name, dtype, precision in _PRECISIONS:
        run = _matmul(sizes.matmul_side, dtype, precision)
        flops = 2.0 * sizes.matmul_side**3
        yield f"{name}_matmul_flops_per_second", flops / watch.seconds(run)
    for name, dtype, precision in _PRECISIONS:
        seconds = sum(
            watch.seconds(_convolve(convolution, dtype, precision))
            for convolution in sizes.convolutions
        )
        flops = sum(convolution.flops for convolution in sizes.convolutions)
        yield f"{name}_convolution_flops_per_second", flops / seconds
    run, nbytes = _add(sizes.array_bytes)
    yield "memory_bytes_per_second", nbytes / watch.seconds(run)
    tiny = jnp.ones(8, jnp.float32)
    launch_seconds = watch.seconds_per_link(_run(_launches, tiny), (16, 144))
    yield "launch_seconds", launch_seconds
    round_trip_seconds = watch.seconds_per_link(_run(_round_trips, tiny), (4, 36))
    yield "copy_latency_seconds", round_trip_seconds / 2
    yield from _copy_rates(sizes.copy_bytes, watch)


def _copy_rates(nbytes: int, watch: Stopwatch) -> Iterator[tuple[str, float]]:
    x = jnp.ones(nbytes // 4, jnp.float32)
    to_host, to_device = jax.jit(_compat.to_host), jax.jit(_compat.to_device)
    host = jax.block_until_ready(to_host(x))
    out_seconds = watch.seconds(lambda: to_host(x))
    in_seconds = watch.seconds(lambda: to_device(host))
    both_seconds = watch.seconds_per_link(_run(_exchanges, x), (1, 5))
    yield "swap_out_bytes_per_second", x.nbytes / out_seconds
    yield "swap_in_bytes_per_second", x.nbytes / in_seconds
    yield "both_ways_share", both_ways_share(out_seconds, in_seconds, both_seconds)


def _normal(shape: tuple[int, ...], dtype: Any, seed: int) -> jax.Array:
    """Random numbers: on zeros, a GPU draws less power and keeps a higher clock."""
    values = np.random.default_rng(seed).standard_normal(_MIB, np.float32)
    return jnp.asarray(np.resize(values, shape), dtype)


def _matmul(side: int, dtype: Any, precision: lax.Precision) -> Run:
    left, right = (_normal((side, side), dtype, seed) for seed in (0, 1))
    program = jax.jit(functools.partial(jnp.matmul, precision=precision))
    return lambda: program(left, right)


def _convolve(shape: Convolution, dtype: Any, precision: lax.Precision) -> Run:
    rank = len(shape.spatial)
    axes = "DHW"[3 - rank :]
    layout = f"N{axes}C"
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1,) * rank,
        padding="SAME",
        dimension_numbers=(layout, f"{axes}IO", layout),
        precision=precision,
    )

    @jax.jit
    def program(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        y, pullback = jax.vjp(convolve, x, kernel)
        return y, pullback(cotangent)

    volume = (shape.batch, *shape.spatial, shape.channels)
    x, cotangent = (_normal(volume, dtype, seed) for seed in (0, 1))
    kernel = _normal((3,) * rank + (shape.channels, shape.channels), dtype, 2)
    return lambda: program(x, kernel, cotangent)


def _add(nbytes: int) -> tuple[Run, int]:
    """Two arrays read and one written, and how many bytes these are."""
    left, right = (jnp.ones(nbytes // 4, jnp.float32) for _ in range(2))
    program = jax.jit(jnp.add)
    return lambda: program(left, right), 3 * left.nbytes


def _run(chain: Callable[[int], Program], x: jax.Array) -> Callable[[int], Run]:
    """Compile a chain of any length and apply it to `x`."""

    def run(count: int) -> Run:
        program = jax.jit(chain(count), compiler_options=OVERLAPPED)
        return lambda: program(x)

    return run


def _launches(count: int) -> Program:
    """So many kernels with next to nothing to do, one after the other."""

    def program(x: jax.Array) -> jax.Array:
        for _ in range(count):
            x = lax.optimization_barrier(x + 1.0)
        return x

    return program


def _round_trips(count: int) -> Program:
    """So many copies to the host and back, one after the other."""

    def program(x: jax.Array) -> jax.Array:
        for _ in range(count):
            host = lax.optimization_barrier(_compat.to_host(x))
            x = lax.optimization_barrier(_compat.to_device(host))
        return x

    return program


def _exchanges(count: int) -> Program:
    """So many times an array to the host while another one comes from there.

    Each array goes one way and then the other, so both are wanted at the end.
    """

    def program(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, host = lax.optimization_barrier((x, _compat.to_host(x)))
        for _ in range(count):
            pair = _compat.to_host(x), _compat.to_device(host)
            host, x = lax.optimization_barrier(pair)
        return x, _compat.to_device(host)

    return program
