"""Equations -> the options with which XLA compiles them for a GPU."""

from collections.abc import Iterable
from typing import Any

from jaxswap import _compat
from jaxswap._gpu.options import CHANNELS_LAST, gpu_options
from jaxswap._trace.convolutions import convolves_volumes


def options_of(eqns: Iterable[Any]) -> dict[str, bool]:
    """Return the options for a program of these equations, without unknown ones."""
    options = gpu_options(has_volumes=convolves_volumes(eqns))
    if CHANNELS_LAST in options and not stores_channels_last():
        del options[CHANNELS_LAST]
    return options


def stores_channels_last() -> bool:
    """Whether the installed XLA can be told to store all features channels last."""
    return _compat.has_compiler_option(CHANNELS_LAST)
