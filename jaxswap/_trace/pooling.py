"""The gradient of a max pooling, without a scatter.

XLA on GPUs adds what flows back to an array of zeros, one element after the other. It
finds the places by an index of 32 bits for each window and axis. If the program holds
other zeros of that shape, such as those that a `relu` compares with, XLA makes one
array of them all, which lives from the first use to the last.

Here each window says by one small number which of its elements was chosen. What flows
back is then spread by as many shifts as a window has elements. XLA makes one kernel of
them. The element is the one that XLA chooses, and sums are in the order of XLA on CPUs,
so gradients are equal.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from jaxswap import _compat

PRIMITIVE = "select_and_scatter_add"
MOST_ELEMENTS = 32
"""Larger windows are left to XLA: a kernel of so many shifts takes long to compile."""

Offset = tuple[int, ...]


def bind(eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
    """Execute (or trace) an equation. The gradient of max pooling is done as above."""
    if not is_spread(eqn) or _is_split(inputs):
        return _compat.bind_equation(eqn, inputs)
    source, operand = inputs
    with _compat.at_equation(eqn):
        # Numbers are stored: otherwise each shift would look for the largest again.
        chosen = lax.optimization_barrier(_chosen(eqn.params, operand, source.shape))
        return [_spread(eqn.params, chosen, source, operand.shape)]


def is_spread(eqn: JaxprEqn) -> bool:
    """Whether an equation is the gradient of max pooling with small windows."""
    if eqn.primitive.name != PRIMITIVE:
        return False
    return math.prod(eqn.params["window_dimensions"]) <= MOST_ELEMENTS


def _is_split(arrays: Sequence[Any]) -> bool:
    """Whether arrays are split along explicit axes of a mesh."""
    specs = [getattr(jax.typeof(x).sharding, "spec", ()) for x in arrays]
    return any(any(spec) for spec in specs)


def _offsets(params: dict[str, Any]) -> list[Offset]:
    """Return the places in a window, the last axis fastest."""
    return [*itertools.product(*map(range, params["window_dimensions"]))]


def _chosen(
    params: dict[str, Any], operand: jax.Array, shape: Sequence[int]
) -> jax.Array:
    """Return the number of the place that each window chooses: the first of equals."""
    compare = lax.ge if params["select_prim"].name == "ge" else lax.le
    strides, padding = params["window_strides"], params["padding"]
    padded = _padded(operand, [(low, high, 0) for low, high in padding])
    number = jnp.zeros(shape, jnp.uint8)
    best, found = None, None
    for at, offset in enumerate(_offsets(params)):
        ends = [
            o + (n - 1) * s + 1 for o, n, s in zip(offset, shape, strides, strict=True)
        ]
        here = lax.slice(padded, offset, ends, strides)
        is_inside = _inside(params, offset, operand.shape, shape)
        if best is None or found is None:
            best, found = here, is_inside
            continue
        is_better = is_inside & (~found | ~compare(best, here))
        best = jnp.where(is_better, here, best)
        number = jnp.where(is_better, jnp.uint8(at), number)
        found = found | is_inside
    return number


def _inside(
    params: dict[str, Any], offset: Offset, size: Sequence[int], shape: Sequence[int]
) -> jax.Array:
    """Return whether a place of each window lies inside of the operand."""
    is_inside = jnp.ones(shape, bool)
    for axis, (low, high) in enumerate(params["padding"]):
        if low > 0 or high > 0:
            at = lax.broadcasted_iota(jnp.int32, shape, axis)
            at = at * params["window_strides"][axis] + (offset[axis] - low)
            is_inside &= (at >= 0) & (at < size[axis])
    return is_inside


def _spread(
    params: dict[str, Any], chosen: jax.Array, source: jax.Array, size: Sequence[int]
) -> jax.Array:
    """Add what flows back to the places that were chosen."""
    strides, padding = params["window_strides"], params["padding"]
    total = jnp.zeros(size, source.dtype)
    # A place that several windows share is late in the first of them.
    for at, offset in reversed([*enumerate(_offsets(params))]):
        part = jnp.where(chosen == jnp.uint8(at), source, jnp.zeros_like(source))
        around = []
        for o, (low, _), n, s, whole in zip(
            offset, padding, source.shape, strides, size, strict=True
        ):
            around.append((o - low, whole - (o - low) - ((n - 1) * s + 1), s - 1))
        total = total + _padded(part, around)
    return total


def _padded(x: jax.Array, around: Sequence[tuple[int, int, int]]) -> jax.Array:
    return lax.pad(x, jnp.zeros((), x.dtype), around)
