"""One slab of a sweep: where it lies, and what it reads and writes of whole arrays."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap import _compat
from jaxswap._slabs.grid import Grid, Line
from jaxswap._slabs.hosted import Margins
from jaxswap._slabs.windows import Window
from jaxswap._sweeps.rule import cropped

FIRST = Line(0, Fraction(1))
"""The sliced axis of an array in host memory."""


@dataclasses.dataclass(frozen=True)
class Slab:
    """The slab that is computed: its number, and where it lies."""

    grid: Grid
    index: Any

    def first(self, line: Line) -> Any:
        """Return the first plane of the slab, of a value with this axis."""
        return self.index * self.grid.pitch(line.rate)

    def filled(
        self, x: jax.Array, planes: int, line: Line, window: Window, fill: Any
    ) -> jax.Array:
        """Fill what a window holds outside of its value."""
        if not self.grid.leaves(line.rate, planes, window):
            return x
        plane = self._planes(window, line)
        return _where((plane >= 0) & (plane < planes), line, x, fill)

    def counted(
        self, x: jax.Array, planes: int, line: Line, window: Window, fill: Any
    ) -> jax.Array:
        """Fill all planes that another slab counts, or that the value does not have."""
        mask, _, _ = self.counts(planes, line, window)
        return x if mask is None else _where(mask, line, x, fill)

    def counts(
        self, planes: int, line: Line, window: Window
    ) -> tuple[jax.Array | None, Any, Any]:
        """Return which planes of a window the slab counts, and how many."""
        pitch, first = self.grid.pitch(line.rate), self.first(line)
        if not self.grid.surplus(line.rate, planes):
            return None, first, pitch
        plane = self._planes(window, line)
        end = jnp.minimum(planes, first + pitch)
        end = jnp.where(self.index == self.grid.count - 1, planes, end)
        before = jnp.minimum(planes, first)
        return (plane >= first) & (plane < end), before, end - before

    def read(self, x: jax.Array, line: Line, window: Window) -> jax.Array:
        """Return a window of a whole array. Beyond the array it holds zeros."""
        planes, first = x.shape[line.dimension], self.first(line) + window.start
        if not self.grid.leaves(line.rate, planes, window):
            return _sliced(x, first, window.size, line)
        low = max(0, -window.start)
        high = max(0, self.grid.last(line.rate) + window.stop - planes)
        if window.size > planes:
            return _sliced(_padded(x, low, high, line), first + low, window.size, line)
        # The window moves until the array holds it, and back when it is there.
        inside = jnp.clip(first, 0, planes - window.size)
        part = _padded(_sliced(x, inside, window.size, line), low, high, line)
        return _sliced(part, first - inside + low, window.size, line)

    def write(self, whole: jax.Array, x: jax.Array, line: Line) -> jax.Array:
        """Write a slab into a whole array.

        Args:
            whole: The array.
            x: The planes from the first one of the slab on, at least all that it holds.
            line: The sliced axis of the array.
        """
        planes, first = whole.shape[line.dimension], self.first(line)
        size = min(x.shape[line.dimension], planes)
        x = cropped(x, line.dimension, 0, size)
        if self.grid.last(line.rate) + size > planes:
            # The slab moves until the array holds it; planes before it stay.
            place = jnp.minimum(first, planes - size)
            before = jnp.minimum(first - place, size)
            there = _sliced(whole, place, size, line)
            x = _sliced(_padded(x, size, 0, line), size - before, size, line)
            x = _where(jnp.arange(size) >= before, line, x, there)
            first = place
        return lax.dynamic_update_slice_in_dim(
            whole, x, first, line.dimension, allow_negative_indices=False
        )

    def fetch(
        self, whole: jax.Array, line: Line, window: Window, margins: Margins
    ) -> jax.Array:
        """Bring a window of an array in host memory to the device."""
        first = self._on_host(line, margins) + window.start
        planes = _sliced(whole, first, window.size, FIRST)
        return jnp.moveaxis(_compat.to_device(planes), 0, line.dimension)

    def leave(
        self, whole: jax.Array, x: jax.Array, line: Line, margins: Margins
    ) -> jax.Array:
        """Write a slab into an array in host memory.

        What lies beyond the planes of a value is written there, too.
        """
        x = _compat.to_host(jnp.moveaxis(x, line.dimension, 0))
        return lax.dynamic_update_slice_in_dim(
            whole, x, self._on_host(line, margins), 0, allow_negative_indices=False
        )

    def _on_host(self, line: Line, margins: Margins) -> Any:
        return self.first(line) + margins.before

    def _planes(self, window: Window, line: Line) -> jax.Array:
        return self.first(line) + window.start + jnp.arange(window.size)


def _where(inside: jax.Array, line: Line, x: jax.Array, fill: Any) -> jax.Array:
    mask = lax.broadcast_in_dim(inside, x.shape, (line.dimension,))
    return jnp.where(mask, x, jnp.asarray(fill, x.dtype))


def _sliced(x: jax.Array, first: Any, size: int, line: Line) -> jax.Array:
    return lax.dynamic_slice_in_dim(
        x, first, size, line.dimension, allow_negative_indices=False
    )


def _padded(x: jax.Array, low: int, high: int, line: Line) -> jax.Array:
    ends = [(0, 0, 0)] * x.ndim
    ends[line.dimension] = (low, high, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), ends)
