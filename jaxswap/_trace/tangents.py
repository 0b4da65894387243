"""Which values have a gradient, and `jax.vjp` with respect to some of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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

    def of_wanted(*primals: Any) -> Sequence[Any]:
        merged = list(operands)
        for i, primal in zip(wanted, primals, strict=True):
            merged[i] = primal
        return list(function(*merged))

    return jax.vjp(of_wanted, *(operands[i] for i in wanted))


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
