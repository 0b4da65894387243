"""A function -> how long it, or its heavy operations, take on a GPU, if it is known."""

import os
from collections.abc import Callable
from typing import Any

import jax

from jaxswap._base.progress import progress_of
from jaxswap._compat import open_jaxpr
from jaxswap._device.operations import measured_here, measured_program
from jaxswap._device.resolve import find_target
from jaxswap._gpu.target import Target, rates_of
from jaxswap._trace.cost import equations_within, is_kernel
from jaxswap._trace.operations import operation_name, program_name


def operation_seconds(
    fn: Callable[..., Any],
    *args: Any,
    target: str | os.PathLike[str] | Target | None = None,
    progress: bool | Callable[[str], None] = False,
) -> float | None:
    """Return how long matrix products, convolutions and kernels of a function take.

    They are what was timed one by one on a GPU, in the types and shapes that they have
    here. Nothing is estimated. Kernels are those in Pallas whose operands are all
    floating-point numbers: integers can say how much there is to do. With this, a
    library chooses among forms of one function. Operations in loops count once.

    Args:
        fn: A function of arrays.
        *args: Its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them.
            Nothing but single operations is executed.
        target: The GPU. `None`: that of this machine. Then operations that it does not
            know yet are timed now, on arrays of their own. Their times are saved with
            the target.
        progress: Whether to write to stderr what is timed. Or a function that is given
            each line.

    Returns:
        Seconds. `None` if the target does not know one of the operations, or if a
        kernel is none that can be timed.

    Raises:
        ValueError: If `target` is unknown, or if it is `None` on a machine without a
            GPU.

    Example:
        >>> import jax
        >>> from jaxswap.extend import operation_seconds
        >>> x = jax.ShapeDtypeStruct((4096, 4096), "bfloat16")
        >>> print(operation_seconds(lambda x: x @ x, x, target="l4"))
        None
    """
    gpu = find_target(target)
    eqns = open_jaxpr(jax.make_jaxpr(fn)(*args))[0].eqns
    if target is None:
        gpu = measured_here(gpu, eqns, progress_of(progress))
    known = rates_of(gpu).operation_seconds
    named = [(operation_name(e), is_kernel(e)) for e in equations_within(eqns)]
    # A kernel without a name takes time, and nothing says how much.
    seconds = [known.get(name) for name, is_one in named if name or is_one]
    found = [s for s in seconds if s is not None]
    return sum(found) if len(found) == len(seconds) else None


def program_seconds(
    fn: Callable[..., Any],
    *args: Any,
    target: str | os.PathLike[str] | Target | None = None,
    progress: bool | Callable[[str], None] = False,
) -> float | None:
    """Return how long a function takes that was timed as one program.

    Unlike `operation_seconds`, this knows what XLA fuses and what small operations
    take. So forms of a function can be compared that differ in more than one operation.

    Args:
        fn: A function of arrays. It is executed if it is timed.
        *args: Its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them.
        target: The GPU. `None`: that of this machine. Then a function that it does not
            know yet is timed now, on arrays of its own. The time is saved with the
            target.
        progress: Whether to write to stderr what is timed. Or a function that is given
            each line.

    Returns:
        Seconds. `None` if it was not timed on the target, or does not fit into 40 % of
        the memory that is free.

    Raises:
        ValueError: If `target` is unknown, or if it is `None` on a machine without a
            GPU.

    Example:
        >>> import jax
        >>> from jaxswap.extend import program_seconds
        >>> x = jax.ShapeDtypeStruct((4096, 4096), "bfloat16")
        >>> print(program_seconds(lambda x: (x @ x).sum(0), x, target="l4"))
        None
    """
    gpu = find_target(target)
    jaxpr = open_jaxpr(jax.make_jaxpr(fn)(*args))[0]
    if target is None:
        gpu = measured_program(gpu, jaxpr, fn, args, progress_of(progress))
    return rates_of(gpu).operation_seconds.get(program_name(jaxpr))
