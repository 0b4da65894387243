"""Types and arrays in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import primitives


def in_host_memory(aval: Any, shape: Sequence[int]) -> Any:
    """Return the type of an array in host memory, with another shape."""
    space = jax.memory.Space.Host
    return aval.update(shape=tuple(shape), memory_space=space, sharding=None)


def empty_on_host(aval: Any) -> jax.Array:
    """Return an array of a type in host memory, which holds anything.

    XLA allocates it. An array of zeros that is copied to the host would sometimes be
    made on the device. So `jax.lax.scan` makes its results in this way, too.
    """
    space = jax.memory.Space.Host
    number = primitives.empty2_p.bind(dtype=aval.dtype, memory_space=space)
    return jax.lax.broadcast(number, aval.shape)
