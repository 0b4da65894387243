"""How an axis is cut into slabs, and which planes of a value belong to each.

Values of one program lie on grids of different fineness. So the planes of a value are
told by its rate: its planes for one plane of the axis that is cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from jaxswap._slabs.windows import Window


@dataclass(frozen=True)
class Line:
    """The sliced axis of one value.

    Attributes:
        dimension: Which dimension of the value it is.
        rate: Planes of the value for one plane of the axis that is cut.
    """

    dimension: int
    rate: Fraction

    def at(self, dimension: int, factor: Fraction | int = 1) -> Line:
        """Return the axis of a value that has it elsewhere, or finer by a factor."""
        return Line(dimension, self.rate * factor)


@dataclass(frozen=True)
class Grid:
    """An axis, cut into slabs of equal thickness.

    The last slab begins earlier if the others leave less than its thickness. So it
    holds planes that the slab before it holds too.

    Attributes:
        length: Planes of the axis that is cut.
        thickness: Planes of a slab, a multiple of `unit`.
        unit: Planes that are one plane of the coarsest value.
    """

    length: int
    thickness: int
    unit: int = 1

    @classmethod
    def of(cls, length: int, count: int, rates: Iterable[Fraction]) -> Grid:
        """Cut an axis into so many slabs, or fewer, for values of some rates.

        Args:
            length: Planes of the axis.
            count: How many slabs are wanted.
            rates: The rates of all values that are cut.
        """
        unit = math.lcm(1, *(rate.denominator for rate in rates))
        units = -(-length // unit)
        return cls(length, -(-units // min(count, units)) * unit, unit)

    @property
    def count(self) -> int:
        """How many slabs there are."""
        return -(-self.whole // self.thickness)

    @property
    def whole(self) -> int:
        """The length, rounded up to whole units."""
        return -(-self.length // self.unit) * self.unit

    @property
    def is_even(self) -> bool:
        """Whether no two slabs share a plane."""
        return self.whole % self.thickness == 0

    def pitch(self, rate: Fraction) -> int:
        """Planes of a slab of a value."""
        return self._planes(self.thickness, rate)

    def last(self, rate: Fraction) -> int:
        """The first plane of the last slab of a value."""
        return self._planes(self.whole - self.thickness, rate)

    def surplus(self, rate: Fraction, planes: int) -> int:
        """Planes that a value has beyond all slabs; below zero, that are missing."""
        return planes - self._planes(self.whole, rate)

    def summed(self, rate: Fraction, planes: int) -> Window:
        """Return the window in which each plane of a value lies for some slab."""
        surplus = self.surplus(rate, planes)
        return Window(0, self.pitch(rate) + max(surplus, 0))

    def written(self, rate: Fraction, planes: int) -> Window:
        """Return the window from which a slab is written into the whole value.

        Where planes are missing at the end, a slab may have to be written further in
        front.
        """
        surplus = self.surplus(rate, planes)
        return Window(min(surplus, 0), self.summed(rate, planes).stop)

    def leaves(self, rate: Fraction, planes: int, window: Window) -> bool:
        """Whether a window of some slab holds planes that the value does not have."""
        return window.start < 0 or self.last(rate) + window.stop > planes

    def repeats(self, rate: Fraction, planes: int) -> bool:
        """Whether two slabs, or a slab and what is beyond the value, share planes."""
        return not self.is_even or self.surplus(rate, planes) != 0

    def _planes(self, length: int, rate: Fraction) -> int:
        planes = length * rate
        assert planes.denominator == 1, (length, rate)
        return planes.numerator
