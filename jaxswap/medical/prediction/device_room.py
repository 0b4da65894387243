"""Whether a program fits into the memory that a device has."""

from __future__ import annotations

import os
from typing import Any

import jax


def compile_if_fits(function: Any, *arguments: Any) -> jax.stages.Compiled | None:
    """Compile a function, unless it needs more memory than there is.

    Args:
        function: From `jax.jit`.
        *arguments: Arrays or their types.

    Returns:
        The compiled function, also if nothing tells how much there is. None if it does
        not fit.
    """
    try:
        compiled = function.lower(*arguments).compile()
    except RuntimeError as error:  # A GPU tries kernels while it compiles.
        if is_exhausted(error):
            return None
        raise
    analysis, room = compiled.memory_analysis(), room_bytes()
    if analysis is None or room is None:
        return compiled
    needed = (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
    return compiled if needed <= room else None


def room_bytes() -> int | None:
    """Return the bytes that JAX may use on its first device. None if nothing tells."""
    device = jax.devices()[0]
    stats = device.memory_stats()
    if stats is not None:
        return stats.get("bytes_limit")
    if device.platform == "cpu" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def is_exhausted(error: BaseException) -> bool:
    """Whether an error of JAX says that there was not enough memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
