"""An array -> the narrower array that leaves for the host, and back.

Types of 8 bits have a scale for each channel, which is the last axis. The scale stays
on the device. Numbers beyond the type's range become its largest number.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap._graph.compress import is_lossy
from jaxswap._graph.graph import Value

Narrowed = tuple[Any, Any]
"""The narrow array, and its scale. `None` for types that need none.

The scale is held as the bits of an integer: integers are not rounded if they leave.
"""

_MOST = {"float8_e4m3fn": 448.0, "int8": 127.0}
"""The largest number of a type."""
_NOT_A_NUMBER = -128
"""What stands for NaN among integers."""


def narrowed(array: jax.Array, compress: str) -> Narrowed:
    """Round an array to a narrower type.

    Args:
        array: Of real numbers, in a wider type.
        compress: The narrower type.
    """
    if compress not in _MOST:
        finite = jnp.finfo(compress)
        wide = lax.clamp(_like(finite.min, array), array, _like(finite.max, array))
        is_huge = jnp.finfo(array.dtype).max > finite.max
        return (wide if is_huge else array).astype(compress), None
    most = _MOST[compress]
    numbers = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    sizes = jnp.where(jnp.isfinite(numbers), jnp.abs(numbers), 0)
    largest = jnp.max(sizes, axis=tuple(range(max(0, array.ndim - 1))), keepdims=True)
    scale = jnp.where(largest > 0, largest / most, 1)
    scaled = jnp.clip(numbers / scale, -most, most)
    if compress == "int8":
        scaled = jnp.where(jnp.isnan(scaled), _NOT_A_NUMBER, jnp.round(scaled))
    return scaled.astype(compress), lax.bitcast_convert_type(scale, _bits(scale))


def leaving(value: Value, compress: str, array: Any) -> Narrowed:
    """Return what leaves for the host of a value, and its scale.

    Args:
        value: The value.
        compress: The narrower type. `""`: all leave as they are.
        array: The array of the value.
    """
    return narrowed(array, compress) if is_lossy(value, compress) else (array, None)


def widened(narrow: Any, scale: Any, dtype: Any) -> jax.Array:
    """Return an array in its own type again."""
    if scale is None:
        return narrow.astype(dtype)
    factor = lax.bitcast_convert_type(scale, f"float{8 * scale.dtype.itemsize}")
    numbers = narrow.astype(factor.dtype)
    if narrow.dtype == jnp.int8:
        numbers = jnp.where(narrow == _NOT_A_NUMBER, jnp.nan, numbers)
    return (numbers * factor).astype(dtype)


def _bits(scale: jax.Array) -> str:
    return f"int{8 * scale.dtype.itemsize}"


def _like(number: Any, array: jax.Array) -> jax.Array:
    return jnp.asarray(number, array.dtype)
