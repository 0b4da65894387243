"""Over which devices of a `jax.shard_map` arrays are shared, where JAX has to be told.

JAX checks along which axes an array is another one on each device. What is computed by
JAX has the right type. Kernels, and rules for gradients, have to say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def axes_of(x: Any) -> frozenset[str]:
    """Return the axes of a `jax.shard_map` along which an array is another one.

    Args:
        x: The array, or its type.
    """
    type_ = jax.eval_shape(lambda x: x, x)
    return getattr(getattr(type_, "manual_axis_type", None), "varying", frozenset())


def type_among(shape: Sequence[int], dtype: Any, *arrays: Any) -> jax.ShapeDtypeStruct:
    """Return the type of a result, which varies over a `jax.shard_map` as arrays do.

    Args:
        shape: Of the result.
        dtype: Of the result.
        *arrays: What it is computed of.
    """

    def computed(*arrays: Array) -> Array:
        firsts = [a.ravel()[0].astype(dtype) for a in arrays]
        return jnp.full(shape, sum(firsts[1:], start=firsts[0]))

    return jax.eval_shape(computed, *arrays)


def summed_as(operand: Any, gradient: Array) -> Array:
    """Sum a gradient over devices of a `jax.shard_map` that share the operand.

    JAX does so in the gradients that it makes. Without its checks of what devices
    share, `jax.shard_map` does it.
    """
    shared = axes_of(gradient) - axes_of(operand)
    return lax.psum(gradient, tuple(shared)) if shared else gradient


def varying_with(result: Array, *arrays: Array) -> Array:
    """Say over what axes of a `jax.shard_map` the result of a call varies.

    Of the type that it is given, the call forgets it.

    Args:
        result: Of the call.
        *arrays: What it is computed of.
    """
    axes = frozenset[str]().union(*map(axes_of, arrays)) - axes_of(result)
    return lax.pcast(result, tuple(axes), to="varying") if axes else result
