"""Which planes of an operand an operation reads for some planes of its result.

Planes are counted along the sliced axis. A window is counted from the first plane of a
slab, so the same numbers hold for all slabs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Planes of a value, counted from the first plane of a slab.

    Attributes:
        start: The first plane. Below zero, it lies in the slab before.
        stop: The plane behind the last one.
    """

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many planes there are."""
        return self.stop - self.start

    def union(self, other: Window) -> Window:
        """Return the smallest window that holds both."""
        return Window(min(self.start, other.start), max(self.stop, other.stop))


@dataclass(frozen=True)
class Stencil:
    """How plane q of a result depends on planes of an operand.

    The operand's planes lie `dilation` apart. Plane q reads the places from
    `q * stride - before` on, `extent` of them.

    Attributes:
        stride: Places between what two planes of the result read.
        before: Places before the operand that the first plane of the result reads.
        extent: Places that one plane of the result reads.
        dilation: Places from one plane of the operand to the next.
    """

    stride: int = 1
    before: int = 0
    extent: int = 1
    dilation: int = 1

    def reads(self, window: Window) -> Window:
        """Return the planes of the operand that a window of the result reads.

        It has one plane at least: an operation of no planes is none.
        """
        first, last = self._places(window)
        start, stop = -(-first // self.dilation), last // self.dilation + 1
        return Window(start, max(stop, start + 1))

    def padding(self, window: Window) -> tuple[int, int]:
        """Return the places beyond the planes of `reads`, at both ends.

        Below zero, so many places of these planes are not read.
        """
        first, last = self._places(window)
        read = self.reads(window)
        return read.start * self.dilation - first, last - (
            read.stop - 1
        ) * self.dilation

    def _places(self, window: Window) -> tuple[int, int]:
        first = window.start * self.stride - self.before
        return first, (window.stop - 1) * self.stride - self.before + self.extent - 1


Stencils = tuple[Stencil, ...]
"""One after the other, from the result back to the operand."""
SAME: Stencils = ()
"""Each plane of the result reads the same plane of the operand."""


def reads(stencils: Sequence[Stencil], window: Window) -> Window:
    """Return what a window of a result reads through several stencils."""
    return functools.reduce(lambda window, s: s.reads(window), stencils, window)
