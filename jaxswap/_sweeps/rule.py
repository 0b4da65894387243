"""What a rule says: where the sliced axis is, and how a slab is computed.

A rule has two parts. `spread` tells the sliced axis of some operands and results from
those of others. `part` tells how an equation is computed for a slab, once the axes of
all its operands and results are known. Outside of a value, beyond its first and last
plane, a window holds anything, even NaN. Who combines planes says with what such planes
are filled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._slabs.grid import Line
from jaxswap._slabs.windows import SAME, Stencils, Window

Lines = list[Line | None]
"""The sliced axis of each operand or result. `None` if it has none."""


class NotBySlabsError(Exception):
    """An equation cannot be computed slab by slab. The text says why."""


class Place(Protocol):
    """The slab that is computed."""

    def first(self, line: Line) -> Any:
        """Return the first plane of the slab, of a value with this axis."""
        ...

    def filled(
        self, x: jax.Array, planes: int, line: Line, window: Window, fill: Any
    ) -> jax.Array:
        """Fill what a window holds outside of its value.

        Args:
            x: The window.
            planes: How many planes the value has.
            line: The sliced axis of the value.
            window: Which planes `x` holds.
            fill: What to fill in.
        """
        ...

    def counts(
        self, planes: int, line: Line, window: Window
    ) -> tuple[jax.Array | None, Any, Any]:
        """Return which planes of a window the slab counts.

        Args:
            planes: How many planes the value has.
            line: The sliced axis of the value.
            window: The window.

        Returns:
            Whether each plane is counted (`None`: all are), how many planes the slabs
            before counted, and how many this one counts.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Call:
    """One execution of an equation, for one slab.

    Attributes:
        eqn: The equation.
        inputs: Its operands. Of those with a sliced axis, the planes that are read.
        lines: The sliced axes of its operands.
        outs: The sliced axes of its results.
        window: The planes of the result that are wanted; of a sum, those of the operand
            that is counted.
        place: The slab.
    """

    eqn: JaxprEqn
    inputs: Sequence[Any]
    lines: Lines
    outs: Lines
    window: Window
    place: Place

    def bind(self, *inputs: Any, **params: Any) -> Sequence[Any]:
        """Execute the equation with other operands or parameters."""
        eqn = self.eqn.replace(params={**self.eqn.params, **params})
        return _compat.bind_equation(eqn, inputs or self.inputs)


Run = Callable[[Call], Sequence[Any]]


def as_it_is(call: Call) -> Sequence[Any]:
    """Execute an equation with the parameters that it has."""
    return call.bind()


@dataclasses.dataclass(frozen=True)
class Combine:
    """How the slabs' parts of a sum are put together.

    Attributes:
        parts: Puts what slabs made so far together with what one more slab makes.
        start: What changes no part, for a type of numbers.
        counted: The place of the operand of which each plane is counted once.
    """

    parts: Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]]
    start: Callable[[Any], Any]
    counted: int = 0


def zero(dtype: Any) -> Any:
    """Return zero, in a type of numbers."""
    return jnp.zeros((), dtype)


def each(combine: Callable[[Any, Any], Any]) -> Callable[..., Sequence[Any]]:
    """Return what puts two parts of each result together."""

    def parts(so_far: Sequence[Any], more: Sequence[Any]) -> Sequence[Any]:
        pairs = zip(so_far, more, strict=True)
        return [combine(x, y.astype(x.dtype)) for x, y in pairs]

    return parts


ADDED = Combine(each(jnp.add), zero)
ADDED_BY_RIGHT = Combine(ADDED.parts, ADDED.start, counted=1)
"""Sums in which each plane of the second operand is counted once."""


@dataclasses.dataclass(frozen=True)
class Part:
    """How an equation is computed for a slab.

    Attributes:
        stencils: Which planes of each operand are read. `None` if it is read whole.
        run: Computes the planes that are wanted.
        fills: With what planes outside of an operand are filled. `None` if they may
            hold anything.
        combine: How the parts of a sum are put together. `None` for an equation whose
            results have the sliced axis.
    """

    stencils: tuple[Stencils | None, ...]
    run: Run = as_it_is
    fills: tuple[Callable[[Any], Any] | None, ...] = ()
    combine: Combine | None = None


class Rule(Protocol):
    """The rule of a primitive."""

    def spread(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> tuple[Lines, Lines]:
        """Return the axes of operands and results that follow from those known.

        Raises:
            NotBySlabsError: If none can follow.
        """
        ...

    def part(self, eqn: JaxprEqn, ins: Lines, outs: Lines) -> Part:
        """Return how the equation is computed for a slab.

        Raises:
            NotBySlabsError: If it cannot be.
        """
        ...


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of an operand or result; () if it has none."""
    return sizes_of(atom.aval)


def sizes_of(aval: Any) -> tuple[int, ...]:
    """Return the shape of a type; () if it has none."""
    return tuple(map(int, getattr(aval, "shape", ())))


def same_where_sliced(ins: Lines) -> tuple[Stencils | None, ...]:
    """Return the stencils of an equation that reads the planes that it makes."""
    return tuple(None if line is None else SAME for line in ins)


def resized(shape: Sequence[int], line: Line, planes: int) -> tuple[int, ...]:
    """Return a shape with another number of planes."""
    return tuple(planes if d == line.dimension else n for d, n in enumerate(shape))


def cropped(x: jax.Array, dimension: int, start: int, size: int) -> jax.Array:
    """Return so many planes from the plane `start` on."""
    if start == 0 and size == x.shape[dimension]:
        return x
    return lax.slice_in_dim(x, start, start + size, axis=dimension)
