"""How long the heavy operations of a program take on the device, one by one.

A rate describes products and convolutions of all shapes by one number. What a GPU's
libraries make of one shape is seen only by timing it, in the layout and type in which
the program has it.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxswap import _compat
from jaxswap._device.resolve import default_device, free_bytes
from jaxswap._device.samples import normal
from jaxswap._device.stopwatch import Run, Stopwatch, compiled_run
from jaxswap._gpu.saved import save_target
from jaxswap._gpu.target import Target, rates_of
from jaxswap._trace.cost import equations_within
from jaxswap._trace.operations import operation_name, program_name

_LENGTHS = (1, 9)
_LARGEST_SHARE = 0.4
"""Of the free memory, what operands and results of one operation may take."""


def measured_target(
    target: Target,
    eqns: Iterable[Any],
    free_bytes: int,
    stopwatch: Stopwatch | None = None,
    progress: Callable[[str], None] | None = None,
) -> Target:
    """Time those heavy operations of a program that the target does not know yet.

    Args:
        target: The GPU of this machine, which is JAX's default device.
        eqns: Of a traced program.
        free_bytes: Device memory that the timed operations may take.
        stopwatch: Times them.
        progress: Is told each result, one line of text each.

    Returns:
        The target with what was measured; the same one if nothing was.
    """
    unknown = _unknown(target, eqns)
    return _measured(target, unknown, free_bytes, stopwatch, progress)


def measured_here(
    target: Target, eqns: Iterable[Any], progress: Callable[[str], None]
) -> Target:
    """Time what the GPU of this machine does not know yet, and remember it.

    Args:
        target: The GPU, which is JAX's default device.
        eqns: Of a traced program.
        progress: Is told what happens, one line of text each.

    Returns:
        The target with what was measured. It is saved, so that other programs and other
        machines find it; if that fails, it is used all the same.
    """
    unknown = _unknown(target, eqns)
    if not unknown:
        return target
    progress(f"timing {len(unknown)} operations on {target.device_name}")
    found = _measured(target, unknown, free_bytes(default_device()))
    return target if found is target else _saved(found, progress)


def _saved(target: Target, progress: Callable[[str], None]) -> Target:
    try:
        save_target(target)
    except OSError as error:
        progress(f"their times could not be saved: {error}")
    return target


def measured_program(
    target: Target,
    jaxpr: Any,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    progress: Callable[[str], None],
) -> Target:
    """Time a function as one program, if it is not known yet, and remember it.

    Args:
        target: The GPU of this machine, which is JAX's default device.
        jaxpr: The traced function, open.
        fn: The function.
        args: Its arguments, or their types.
        progress: Is told what happens, one line of text each.

    Returns:
        The target with what was measured, saved if that can be. The same one if the
        program is known, or too large for the free memory.
    """
    name = program_name(jaxpr)
    most = _LARGEST_SHARE * free_bytes(default_device())
    if name in rates_of(target).operation_seconds or _nbytes(jaxpr) > most:
        return target
    progress(f"timing a program on {target.device_name}")
    leaves, tree = jax.tree.flatten(args)
    drawn = [_operand(leaf, seed) for seed, leaf in enumerate(leaves)]
    run = compiled_run(fn, tree.unflatten(drawn))
    return _saved(_with_operations(target, {name: Stopwatch().seconds(run)}), progress)


def distinct_operations(eqns: Iterable[Any]) -> dict[str, Any]:
    """Return one equation for each heavy operation by name, those in loops included."""
    found = equations_within(eqns)
    return {name: eqn for eqn in found if (name := operation_name(eqn))}


def _unknown(target: Target, eqns: Iterable[Any]) -> dict[str, Any]:
    """Heavy operations of a program whose times the target does not know."""
    known = rates_of(target).operation_seconds
    found = distinct_operations(eqns)
    return {name: eqn for name, eqn in found.items() if name not in known}


def _measured(
    target: Target,
    unknown: Mapping[str, Any],
    free_bytes: int,
    stopwatch: Stopwatch | None = None,
    progress: Callable[[str], None] | None = None,
) -> Target:
    """Time operations that fit into the free memory; return the target with them."""
    watch = stopwatch or Stopwatch(repeats=1)
    found: dict[str, float] = {}
    for name, eqn in unknown.items():
        if _nbytes(eqn) <= _LARGEST_SHARE * free_bytes:
            found[name] = watch.seconds_per_link(_chain(eqn), _LENGTHS)
            if progress is not None:
                progress(f"{name}: {found[name] * 1e6:.0f} us")
    return _with_operations(target, found) if found else target


def _with_operations(target: Target, found: Mapping[str, float]) -> Target:
    operations = sorted({**dict(target.operations), **found}.items())
    return dataclasses.replace(target, operations=tuple(operations))


def _nbytes(eqn: Any) -> int:
    avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in avals)


def _chain(eqn: Any) -> Callable[[int], Run]:
    """Compile an operation that is executed any number of times."""
    args = tuple(_operand(v.aval, seed) for seed, v in enumerate(eqn.invars))

    return lambda count: compiled_run(repeated(eqn, count), args)


def repeated(eqn: Any, count: int) -> Callable[..., Array]:
    """Return a program that executes an operation so many times, one after the other.

    An element of each result is written into the operand of the next one: XLA drops a
    repetition that nothing depends on.
    """

    def program(first: Array, *others: Array) -> Array:
        result = first
        for _ in range(count):
            result, *_ = _compat.bind_equation(eqn, (first, *others))
            first = _depending_on(first, result)
        return result

    return program


def _operand(aval: Any, seed: int) -> Array:
    if jnp.issubdtype(aval.dtype, jnp.inexact):
        return normal(aval.shape, aval.dtype, seed)
    return jnp.ones(aval.shape, aval.dtype)


def _depending_on(x: Array, y: Array) -> Array:
    """The same array, once another one is there; it is written in place."""
    origin = (0,) * x.ndim
    one = lax.slice(x, origin, (1,) * x.ndim)
    other = lax.slice(y, (0,) * y.ndim, (1,) * y.ndim).reshape(one.shape)
    zero = (other * 0).astype(x.dtype)
    return lax.dynamic_update_slice(x, one + zero, origin)
