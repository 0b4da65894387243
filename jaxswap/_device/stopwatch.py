"""How long compiled programs take on a device."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxswap._trace.options import options_of

Run = Callable[[], Any]
"""Starts a program and returns its results, perhaps before they are there."""


def compiled_run(fn: Callable[..., Any], args: tuple[Any, ...], **options: bool) -> Run:
    """Compile a function with the options that it needs, and return what calls it.

    Args:
        fn: The function.
        args: Its arguments.
        **options: Options of XLA that win over those.
    """
    traced = jax.jit(fn).trace(*args)
    needed = options_of(traced.jaxpr.eqns) | options
    compiled = traced.lower().compile(compiler_options={**needed})
    return lambda: compiled(*args)


# Less than any clock here can tell. Keeps rates positive and finite.
_LEAST_SECONDS = 1e-9
_MOST_RUNS_PER_SAMPLE = 1000
_REPEATS_OF_CHAINS = 5


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

    def first_seconds(self, run: Run) -> float:
        """Return how long the first run takes beyond a later one."""
        first = self._sample(run, 1)
        return max(first - self._alone.seconds(run), _LEAST_SECONDS)

    def call_seconds(self, run: Run) -> float:
        """Return how long one run takes whose results are waited for."""
        return self._alone.seconds(run)

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
        short, long = (self._alone.seconds(chain(length)) for length in lengths)
        return max((long - short) / (lengths[1] - lengths[0]), _LEAST_SECONDS)

    @property
    def _alone(self) -> "Stopwatch":
        """The same, but each run is waited for before the next one starts."""
        return dataclasses.replace(
            self, sample_seconds=0.0, repeats=_REPEATS_OF_CHAINS * self.repeats
        )

    def _sample(self, run: Run, count: int) -> float:
        start = self.clock()
        results = None
        for _ in range(count):
            results = run()
        jax.block_until_ready(results)
        return (self.clock() - start) / count
