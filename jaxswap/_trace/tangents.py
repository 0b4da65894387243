"""Which values have a gradient, and `jax.vjp` with respect to some of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero


def has_tangent(x: Any) -> bool:
    """Whether an array, a number or a type can be differentiated.

    Floating point and complex numbers can.
    """
    dtype = x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
    return bool(jnp.issubdtype(dtype, np.inexact))


def differentiate(
    function: Callable[..., Sequence[Any]],
    operands: Sequence[Any],
    wanted: Sequence[int],
) -> tuple[Sequence[Any], Callable[[Sequence[Any]], Sequence[Any]]]:
    """Call `jax.vjp` with respect to the operands at the positions `wanted`."""
    of_wanted = of_some(function, operands, wanted)
    return jax.vjp(of_wanted, *(operands[i] for i in wanted))


def of_some(
    function: Callable[..., Any], operands: Sequence[Any], places: Sequence[int]
) -> Callable[..., Any]:
    """Return a function of the operands at some places. The others are fixed."""

    def of_places(*given: Any) -> Any:
        merged = list(operands)
        for i, operand in zip(places, given, strict=True):
            merged[i] = operand
        return function(*merged)

    return of_places


def reached(
    function: Callable[..., Sequence[Any]],
    operands: Sequence[Any],
    perturbed: Sequence[bool],
) -> list[bool]:
    """Return for each result whether a differentiated operand gives it a tangent.

    JAX decides. A comparison, an integer and `jax.lax.stop_gradient` give none, and a
    call gives one only to those of its results that have one inside.
    """
    wanted = [i for i, flag in enumerate(perturbed) if flag]
    found: list[bool] = []

    @jax.custom_jvp
    def observed(*results: Any) -> Sequence[Any]:
        return results

    def observe(primals: Any, tangents: Any) -> Any:
        found[:] = [not isinstance(t, SymbolicZero) for t in tangents]
        return primals, tangents

    observed.defjvp(observe, symbolic_zeros=True)

    def joint(*operands: Any) -> Any:
        def of_all(*operands: Any) -> Sequence[Any]:
            results = function(*operands)
            found[:] = [False] * len(results)
            return observed(*results)

        of_wanted = of_some(of_all, operands, wanted)
        primals = tuple(operands[i] for i in wanted)
        return jax.jvp(of_wanted, primals, primals)

    jax.make_jaxpr(joint)(*operands)
    return found


def with_zeros(cotangents: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """Return cotangents, with zeros of the right type in place of missing ones."""
    return [
        c
        if c is not None
        else jnp.zeros(x.shape, x.dtype)
        if has_tangent(x)
        else np.zeros(x.shape, jax.dtypes.float0)
        for c, x in zip(cotangents, avals, strict=True)
    ]
