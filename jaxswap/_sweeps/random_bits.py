"""Random bits of a slab: those that the whole array has at its place.

JAX numbers the elements of an array row by row, and encrypts each number with the key
(Threefry, "partitionable" since JAX 0.5). So the bits of any element can be made alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import random
from jax.extend.core import JaxprEqn

from jaxswap._sweeps.rule import Call, Lines, NotBySlabsError, Part, resized, shape_of


class RandomBits:
    """Each bit follows from the key and the place."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Who reads the bits tells their axis."""
        del eqn
        return ins, outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Encrypt the numbers of the planes that are wanted."""
        del ins
        key: Any = eqn.invars[0].aval
        is_known = getattr(key.dtype, "name", "") == "key<fry>" and key.shape == ()
        if not is_known or not eqn.ctx.threefry_partitionable:
            raise NotBySlabsError("draws random numbers that need the whole array")
        if math.prod(shape_of(eqn.outvars[0])) > 2**32:
            raise NotBySlabsError("draws more random numbers than 32 bits count")
        if outs[0] is None:
            raise NotBySlabsError("draws for values that are not sliced")
        return Part((None,), _drawn)


def _drawn(call: Call) -> Sequence[Any]:
    line, params = call.outs[0], call.eqn.params
    assert line is not None
    key = jax.random.key_data(call.inputs[0])
    low = _numbers(params["shape"], line.dimension, call)
    high = jnp.zeros_like(low)
    first, second = random.threefry2x32_p.bind(key[0], key[1], high, low)
    width = params["bit_width"]
    if width == 64:
        whole = lax.shift_left(first.astype(jnp.uint64), jnp.uint64(32))
        return [whole | second.astype(jnp.uint64)]
    return [(first ^ second).astype(f"uint{width}")]


def _numbers(shape: Sequence[int], dimension: int, call: Call) -> jax.Array:
    """Return the number of each element of a window among those of the whole."""
    line = call.outs[0]
    assert line is not None
    window = resized(shape, line, call.window.size)
    first = jnp.asarray(call.place.first(line) + call.window.start).astype(jnp.uint32)
    found = jnp.zeros(window, jnp.uint32)
    for d in range(len(shape)):
        count = lax.broadcasted_iota(jnp.uint32, window, d)
        if d == dimension:
            count = count + first
        found = found + count * jnp.uint32(math.prod(shape[d + 1 :]) % 2**32)
    return found
