"""Convolutions in their three roles: of features, for their gradient, for kernels.

The gradient of a kernel is a convolution, too: both operands have the sliced axis in
space, and the result is a sum over it. Padding beyond the volume is zero, and so are
planes beyond the volume that a slab holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from jax.extend.core import JaxprEqn

from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME, Stencil
from jaxswap._sweeps.rule import (
    ADDED_BY_RIGHT,
    Call,
    Lines,
    NotBySlabsError,
    Part,
    shape_of,
    zero,
)


class Convolution:
    """A slab of features needs planes of its neighbours: as many as kernels see."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """The axis of space goes on in the result, unless the kernel has it too."""
        left, right, out = ins[0], ins[1], outs[0]
        numbers = eqn.params["dimension_numbers"]
        if right is not None:
            if left is None and right.dimension in numbers.rhs_spec[2:]:
                place = numbers.rhs_spec.index(right.dimension)
                factor = Fraction(_parameter(eqn, "rhs_dilation", place))
                factor /= _parameter(eqn, "lhs_dilation", place)
                return [right.at(numbers.lhs_spec[place], factor), right], outs
            return ins, outs
        if left is not None:
            place = numbers.lhs_spec.index(left.dimension)
            is_kept = place != 1 and (place == 0 or not _is_wide(eqn, place))
            found = left.at(numbers.out_spec[place], _factor(eqn, place))
            return ins, [found] if is_kept and out is None else outs
        assert out is not None
        place = numbers.out_spec.index(out.dimension)
        if place == 1:
            return ins, outs
        return [out.at(numbers.lhs_spec[place], 1 / _factor(eqn, place)), None], outs

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Convolve the planes that are read, padded at the ends of the volume alone."""
        left, right, out = ins[0], ins[1], outs[0]
        numbers, params = eqn.params["dimension_numbers"], eqn.params
        if left is None:
            raise NotBySlabsError("its features are not sliced")
        place = numbers.lhs_spec.index(left.dimension)
        is_grouped = params["feature_group_count"] * params["batch_group_count"] > 1
        if right is not None:
            if (
                right.dimension != numbers.rhs_spec[place]
                or out is not None
                or not place
            ):
                raise NotBySlabsError("features and kernel are sliced differently")
            if place == 1:
                if is_grouped:
                    raise NotBySlabsError("sums over sliced channels in groups")
                return Part((SAME, SAME), fills=(zero, zero), combine=ADDED_BY_RIGHT)
            if left.rate * _parameter(eqn, "lhs_dilation", place) != (
                right.rate * _parameter(eqn, "rhs_dilation", place)
            ):
                raise NotBySlabsError("features and kernel are sliced differently")
            stencil = _of_kernel_gradient(eqn, place)
            run = _padded_by(stencil, place)
            return Part((((stencil,)), SAME), run, (zero, zero), ADDED_BY_RIGHT)
        if out != left.at(numbers.out_spec[place], _factor(eqn, place)) or place == 1:
            raise NotBySlabsError("features and result are sliced differently")
        if place == 0:
            if params["batch_group_count"] > 1:
                raise NotBySlabsError("examples are sliced, and convolved in groups")
            return Part((SAME, None))
        stencil = _of_features(eqn, place)
        return Part(((stencil,), None), _padded_by(stencil, place), (zero, None))


def _padded_by(stencil: Stencil, place: int) -> Any:
    def run(call: Call) -> Sequence[Any]:
        padding = list(call.eqn.params["padding"])
        padding[place - 2] = stencil.padding(call.window)
        return call.bind(padding=tuple(padding))

    return run


def _of_features(eqn: JaxprEqn, place: int) -> Stencil:
    """Return how planes of the result read planes of the features."""
    numbers = eqn.params["dimension_numbers"]
    size = shape_of(eqn.invars[1])[numbers.rhs_spec[place]]
    return _stencil(eqn, place, size, "window_strides", "rhs_dilation")


def _of_kernel_gradient(eqn: JaxprEqn, place: int) -> Stencil:
    """Return how planes of the cotangent meet planes of the features."""
    numbers = eqn.params["dimension_numbers"]
    size = shape_of(eqn.outvars[0])[numbers.out_spec[place]]
    return _stencil(eqn, place, size, "rhs_dilation", "window_strides")


def _stencil(eqn: JaxprEqn, place: int, size: int, stride: str, apart: str) -> Stencil:
    """Return how planes read those of the features.

    Args:
        eqn: The convolution.
        place: Which axis of its features.
        size: How many planes are read for one.
        stride: Names the parameter that tells how far the planes read for the next one
            lie from them.
        apart: Names the parameter that tells how far they lie from one another.
    """
    return Stencil(
        stride=_parameter(eqn, stride, place),
        before=int(eqn.params["padding"][place - 2][0]),
        extent=(size - 1) * _parameter(eqn, apart, place) + 1,
        dilation=_parameter(eqn, "lhs_dilation", place),
    )


def _factor(eqn: JaxprEqn, place: int) -> Fraction:
    """Return how much finer the result of a convolution is than its features."""
    if place < 2:
        return Fraction(1)
    dilation = _parameter(eqn, "lhs_dilation", place)
    return Fraction(dilation, _parameter(eqn, "window_strides", place))


def _parameter(eqn: JaxprEqn, name: str, place: int) -> int:
    return int(eqn.params[name][place - 2])


def _is_wide(eqn: JaxprEqn, place: int) -> bool:
    """Whether a kernel is as large as what it convolves: that of another's gradient.

    Its own axis of space is then the sliced one, and the result has none.
    """
    numbers = eqn.params["dimension_numbers"]
    kernel = shape_of(eqn.invars[1])[numbers.rhs_spec[place]]
    result = shape_of(eqn.outvars[0])[numbers.out_spec[place]]
    return kernel > result


def sliced_axis(eqn: JaxprEqn) -> Line:
    """Return the longest axis of space of a convolution's features."""
    shape = shape_of(eqn.invars[0])
    space = eqn.params["dimension_numbers"].lhs_spec[2:]
    return Line(max(space, key=lambda d: shape[d]), Fraction(1))
