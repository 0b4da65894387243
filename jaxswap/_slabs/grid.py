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

    The last slab, or the last two, may reach beyond the axis.

    Attributes:
        length: Planes of the axis that is cut.
        thickness: Planes of a slab, a multiple of the planes that are one plane of the
            coarsest value.
        count: How many slabs there are.
    """

    length: int
    thickness: int
    count: int

    @classmethod
    def of(
        cls,
        length: int,
        count: int,
        rates: Iterable[Fraction],
        *,
        in_pairs: bool = False,
    ) -> Grid:
        """Cut an axis into so many slabs, or fewer, for values of some rates.

        Args:
            length: Planes of the axis.
            count: How many slabs are wanted.
            rates: The rates of all values that are cut.
            in_pairs: Whether the number of slabs must be even, unless it is one.
        """
        unit = math.lcm(1, *(rate.denominator for rate in rates))
        units = -(-length // unit)
        parts = min(_paired(count) if in_pairs else count, units)
        thickness = -(-units // parts)
        found = -(-units // thickness)
        return cls(length, thickness * unit, _paired(found) if in_pairs else found)

    def pitch(self, rate: Fraction) -> int:
        """Planes of a slab of a value."""
        return self._planes(self.thickness, rate)

    def last(self, rate: Fraction) -> int:
        """The first plane of the last slab of a value."""
        return self._planes((self.count - 1) * self.thickness, rate)

    def surplus(self, rate: Fraction, planes: int) -> int:
        """Planes that a value has beyond all slabs; below zero, that are missing."""
        return planes - self._planes(self.count * self.thickness, rate)

    def held(self, rate: Fraction, planes: int) -> Window:
        """Return the window in which each plane of a value lies for some slab."""
        surplus = self.surplus(rate, planes)
        return Window(0, self.pitch(rate) + max(surplus, 0))

    def leaves(self, rate: Fraction, planes: int, window: Window) -> bool:
        """Whether a window of some slab holds planes that the value does not have."""
        return window.start < 0 or self.last(rate) + window.stop > planes

    def _planes(self, length: int, rate: Fraction) -> int:
        planes, rest = divmod(length * rate.numerator, rate.denominator)
        assert not rest, (length, rate)
        return planes


def _paired(count: int) -> int:
    """Return a number, or the next even one if it is odd and above 1."""
    return count + count % 2 if count > 1 else count
