"""Values that leave the device in a narrower type than they have.

Their copies and their place in host memory are then a half or a quarter as large. What
comes back is rounded: such values are *lossy*.
"""

import math
from collections.abc import Mapping

from jaxswap._graph.graph import Graph, Value

COMPRESSIONS: Mapping[str, int] = {"bfloat16": 2, "float8_e4m3fn": 1, "int8": 1}
"""The types in which values may leave, and their bytes."""


def checked_compress(compress: object) -> str:
    """Return what was given as `compress=`. `""` stands for nothing.

    Raises:
        ValueError: If it is no type in which values may leave.
    """
    if compress is None or compress == "":
        return ""
    if not isinstance(compress, str) or compress not in COMPRESSIONS:
        known = ", ".join(f'"{name}"' for name in COMPRESSIONS)
        raise ValueError(f"`compress` is {compress!r}; it must be one of {known}.")
    return compress


def is_lossy(value: Value, compress: str) -> bool:
    """Whether a value is narrowed when it leaves: a real number in a wider type."""
    if not compress or value.dtype is None:
        return False
    is_real = value.dtype.name.startswith(("float", "bfloat"))
    return is_real and value.dtype.itemsize > COMPRESSIONS[compress]


def copied_bytes(value: Value, compress: str) -> int:
    """Return the bytes of a value's copy in host memory."""
    if not is_lossy(value, compress):
        return value.nbytes
    assert value.dtype is not None
    return math.ceil(value.nbytes * COMPRESSIONS[compress] / value.dtype.itemsize)


def share_copied(graph: Graph) -> float:
    """Return the smallest share of its bytes that a value's copy has."""
    shares = [
        copied_bytes(value, graph.compress) / value.nbytes
        for value in graph.values
        if value.nbytes and is_lossy(value, graph.compress)
    ]
    return min(shares, default=1.0)
