"""What the simulator charges for a program, in units of one rate.

A rate that is measured must mean what the simulator means by it: operations in whole
tiles, bytes of fused kernels. So the program that is timed is simulated too, on a GPU
on which nothing takes time but what the rate limits. Divided by the seconds that were
measured, this gives the rate with which the simulator predicts these very seconds.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxswap._gpu.rates import Rates, numbers
from jaxswap._simulate.simulate import Simulator
from jaxswap._trace import cost
from jaxswap._trace.describe import graph_of
from jaxswap._trace.tracing import program_of

_MOST = 1e30


def charged(
    fn: Callable[..., Any], args: tuple[Any, ...], number: str, core_count: int = 1
) -> float:
    """Return the operations, bytes or kernels of a function that a number counts for.

    Args:
        fn: The function.
        args: Its arguments.
        number: A field of `Rates`, a rate or `launch_seconds`.
        core_count: Multiprocessors.

    Returns:
        Seconds on a GPU where this number is 1, and all else takes no time.
    """
    graph = graph_of(program_of(jax.make_jaxpr(fn)(*args)))
    rates = dataclasses.replace(_AT_ONCE, tiles_at_once=core_count, **{number: 1.0})
    return Simulator(graph, rates).play_once().seconds


def converted_bytes(fn: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """Return what cuDNN reads and writes to convert the layout of features.

    Args:
        fn: The function.
        args: Its arguments.
    """
    eqns = jax.make_jaxpr(fn)(*args).jaxpr.eqns
    return 2.0 * sum(map(cost.converted_bytes, eqns))


def _at_once(name: str) -> float:
    """A value of a number of `Rates` with which nothing takes time."""
    if name.endswith("_per_second"):
        return _MOST
    return 1.0 if name.endswith("_share") else 1 / _MOST


_NUMBERS: dict[str, Any] = {name: _at_once(name) for name in numbers()}
_AT_ONCE = Rates(**_NUMBERS)
