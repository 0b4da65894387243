"""A flag of XLA that gradients depend on.

XLA reads its flags once, when it first compiles. So this one is set as soon as jaxswap
is imported, before JAX is.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Container, MutableMapping

MISPLACES_SLICES = ("0.10.2", "0.11.0")
"""Versions of jaxlib that copy wrong slices of host arrays in loops, on GPUs.

They take the number of an iteration for the place of a slice, even if the place is a
function of that number. The backward pass of `jax.lax.scan` reads from the last slice
to the first, so it gets the residuals of other iterations, and its gradient is wrong
(github.com/openxla/xla/pull/46231).
"""
FLAG, PASS = "--xla_disable_hlo_passes", "dynamic-slice-annotator"
"""Without this pass a kernel copies the slices, from the right places."""
_GPU_MODULES = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
"""JAX imports one of these when it starts a GPU, which is when XLA reads its flags."""


def place_slices(
    version: str, environ: MutableMapping[str, str], loaded: Container[str]
) -> bool:
    """Make XLA copy the right slices of host arrays.

    Args:
        version: Of jaxlib.
        environ: The environment, which is changed if the version needs it.
        loaded: Names of the modules that are loaded.

    Returns:
        Whether XLA copies the right ones. It does not if the flag comes too late.
    """
    if version not in MISPLACES_SLICES:
        return True
    flags = environ.get("XLA_FLAGS", "")
    if PASS in disabled_passes(flags):
        return True
    passes = ",".join([*disabled_passes(flags), PASS])
    environ["XLA_FLAGS"] = f"{flags} {FLAG}={passes}".strip()
    return not any(name in loaded for name in _GPU_MODULES)


def disabled_passes(flags: str) -> list[str]:
    """Return the passes that flags of XLA disable. The last of equal flags counts.

    Example:
        >>> disabled_passes("--xla_disable_hlo_passes=fusion,algsimp --xla_dump_to=x")
        ['fusion', 'algsimp']
    """
    given = [f.partition("=")[2] for f in flags.split() if f.startswith(f"{FLAG}=")]
    return given[-1].split(",") if given else []


ARE_SLICES_RIGHT = place_slices(
    importlib.metadata.version("jaxlib"), os.environ, sys.modules
)
"""Whether XLA copies the right slices of host arrays in this process."""
