"""A program -> the options with which XLA compiles it for a GPU."""

from collections.abc import Callable
from typing import Any

import jax

from jaxswap._trace.options import options_of


def compiler_options(
    fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any
) -> dict[str, bool]:
    """Return the options with which XLA compiles a program for a GPU.

    `jaxswap.jit` passes them to XLA by itself, and `jaxswap.plan` and
    `jaxswap.inspect` compile with them. Ask for them where something else compiles.
    They change bytes and seconds, and gradients by rounding only.

    Every program gets the option that lets copies run beside computation. By itself XLA
    does so for Hopper GPUs and newer only. A program with three-dimensional
    convolutions also gets the option that stores features channels last. Then no
    convolution converts its operands in a workspace. An option that the installed XLA
    does not have is left out.

    Args:
        fn: A function. `None` leaves out what depends on the program.
        *args: Its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them.
        **kwargs: Further arguments of `fn`.

    Returns:
        Options for `jax.jit(fn, compiler_options=...)`.

    Example:
        >>> import jaxswap
        >>> jaxswap.compiler_options()
        {'xla_gpu_enable_latency_hiding_scheduler': True}
    """
    if fn is None:
        return options_of(())
    jitted: Any = fn if isinstance(fn, jax.stages.Wrapped) else jax.jit(fn)
    return options_of(jitted.trace(*args, **kwargs).jaxpr.eqns)
