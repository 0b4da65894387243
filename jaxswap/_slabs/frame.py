"""A program by slabs, as numbers: which operation reads which planes of what.

Three kinds of operations touch the sliced axis, or do not:

* *local*: a slab of the result follows from a window of each operand;
* *sum*: all slabs together make the result, such as a statistic or a kernel's gradient;
* *whole*: it runs on whole arrays, between the sweeps.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from jaxswap._gpu.work import Work
from jaxswap._slabs.windows import Stencils


class Kind(enum.Enum):
    """How an operation meets the sliced axis."""

    LOCAL = "local"
    SUM = "sum"
    WHOLE = "whole"


@dataclass(frozen=True)
class Axis:
    """The sliced axis of a value.

    Attributes:
        planes: How many planes it has.
        rate: Its planes for one plane of the axis that is cut.
        is_fine: Whether the value is made in slabs. If not, it is kept whole, but
            slabs may read windows of it or write it.
        nbytes: Bytes of the whole value.
    """

    planes: int
    rate: Fraction
    is_fine: bool
    nbytes: int = 0


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        kind: How it meets the sliced axis.
        inputs: Numbers of the values that it reads.
        outputs: Numbers of the values that it makes.
        stencils: For each of `inputs`, which planes a plane of the result reads. `None`
            if it is read whole. Of a sum: which planes are read for those of the
            operand that is counted.
        counted: Of a sum, the place among `inputs` of the operand of which each plane
            is counted once.
        is_heavy: Whether it costs much more than to read what it makes.
        flops: Floating point operations for the whole arrays.
        tile_flops: Those of matrix units, which compute in whole tiles.
        work: The kind of product. `None` if it is none.
        operation: Name of a product whose time may have been measured, or "".
        is_sum_of_two: Whether it adds two values, and does no more.
    """

    kind: Kind
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stencils: tuple[Stencils | None, ...] = ()
    counted: int = 0
    is_heavy: bool = False
    flops: float = 0.0
    tile_flops: float = 0.0
    work: Work | None = None
    operation: str = ""
    is_sum_of_two: bool = False


@dataclass(frozen=True, eq=False)
class Frame:
    """A program, forward and backward pass, as numbers.

    Attributes:
        steps: The operations, in an order in which they can run.
        axes: The sliced axis of each value that has one.
        wanted: Values that are results, and so must be whole.
        cotangents: Values that are known when the forward pass has ended.
        compared: Values that are compared with their own extreme. They must be the same
            to the last bit in both sweeps, so they are stored.
    """

    steps: tuple[Step, ...]
    axes: Mapping[int, Axis]
    wanted: frozenset[int] = frozenset()
    cotangents: frozenset[int] = frozenset()
    compared: frozenset[int] = frozenset()

    def is_fine(self, value: int) -> bool:
        """Whether a value is made in slabs, or given and read in slabs."""
        axis = self.axes.get(value)
        return axis is not None and axis.is_fine

    @functools.cached_property
    def makers(self) -> dict[int, int]:
        """Return which step makes a value."""
        return {v: i for i, step in enumerate(self.steps) for v in step.outputs}

    @functools.cached_property
    def users(self) -> dict[int, list[int]]:
        """Return which steps read a value."""
        found: dict[int, list[int]] = {}
        for index, step in enumerate(self.steps):
            for v in dict.fromkeys(step.inputs):
                found.setdefault(v, []).append(index)
        return found

    @functools.cached_property
    def floating(self) -> frozenset[int]:
        """Return the values that exist as slabs only, unless something stores them."""
        return frozenset(
            v
            for step in self.steps
            if step.kind is Kind.LOCAL
            for v in step.outputs
            if self.is_fine(v)
        )
