"""Equations -> whether there are three-dimensional convolutions among them."""

from collections.abc import Iterable
from typing import Any

from jaxswap._trace.cost import equations_within


def convolves_volumes(eqns: Iterable[Any]) -> bool:
    """Whether equations, or what they call, convolve over three dimensions."""
    return any(map(_is_convolution_of_volumes, equations_within(eqns)))


def _is_convolution_of_volumes(eqn: Any) -> bool:
    is_convolution = eqn.primitive.name == "conv_general_dilated"
    return is_convolution and len(eqn.outvars[0].aval.shape) == 5
