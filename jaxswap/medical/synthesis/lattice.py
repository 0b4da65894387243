"""Regular grids of points in millimeters, and smooth fields on them.

A field that varies slowly is computed on a coarse grid and interpolated on a finer one.
This makes it cheap to deform a whole head, to grow a tumour in it, and to shade it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.grid import Shape as Shape

Vector = tuple[float, float, float]

_POINTS_PER_LENGTH = 2.5  # With these, linear interpolation shows no facets.


@dataclass(frozen=True)
class Lattice:
    """Points on a grid with the same spacing along each axis.

    Attributes:
        start_mm: Position of the first point.
        spacing_mm: Distance between neighbours.
        shape: Points along each axis.

    Example:
        >>> Lattice.centered((4, 4, 2), 2.0).start_mm
        (-3.0, -3.0, -1.0)
    """

    start_mm: Vector
    spacing_mm: float
    shape: Shape

    @classmethod
    def centered(cls, shape: Shape, spacing_mm: float) -> Lattice:
        """Make the lattice whose middle is at the origin."""
        x, y, z = (-spacing_mm * (count - 1) / 2 for count in shape)
        return cls((x, y, z), spacing_mm, shape)

    def axis_mm(self, axis: int) -> np.ndarray:
        """Return the coordinates along one axis, float32, (points,)."""
        steps = np.arange(self.shape[axis], dtype=np.float32)
        return np.float32(self.start_mm[axis]) + np.float32(self.spacing_mm) * steps

    def axes_mm(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the coordinates along each axis, in shapes that broadcast."""
        x, y, z = (self.axis_mm(axis) for axis in range(3))
        return x[:, None, None], y[:, None], z

    def distance_mm(self, point_mm: np.ndarray) -> np.ndarray:
        """Return the distance of each point from one point, float32, `shape`."""
        squares = [
            np.square(axis - np.float32(center))
            for axis, center in zip(self.axes_mm(), point_mm, strict=True)
        ]
        return np.sqrt(squares[0] + squares[1] + squares[2])

    def point_mm(self, index: np.ndarray | tuple[int, ...]) -> np.ndarray:
        """Return the position of the point with an index, (3,)."""
        return np.array(self.start_mm) + self.spacing_mm * np.asarray(index)

    def index_of(self, point_mm: np.ndarray) -> tuple[int, ...]:
        """Return the index of the point of the lattice that is nearest."""
        steps = np.rint((point_mm - np.array(self.start_mm)) / self.spacing_mm)
        return tuple(
            int(np.clip(step, 0, count - 1))
            for step, count in zip(steps, self.shape, strict=True)
        )

    def coarser(self, spacing_mm: float) -> Lattice:
        """Return a lattice of about this spacing that covers the same region.

        It may reach beyond the last point, but never ends before it.
        """
        counts = [
            max(2, int(np.ceil(self.spacing_mm * (count - 1) / spacing_mm)) + 1)
            for count in self.shape
        ]
        return Lattice(self.start_mm, spacing_mm, (counts[0], counts[1], counts[2]))

    def window(self, low_mm: np.ndarray, high_mm: np.ndarray) -> tuple[slice, ...]:
        """Return the slices of the points between two corners, at least one each."""
        low, high = self.index_of(low_mm), self.index_of(high_mm)
        return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))

    def cut(self, window: tuple[slice, ...]) -> Lattice:
        """Return the part of the lattice that the slices pick."""
        start = self.point_mm(tuple(part.start for part in window))
        counts = [part.stop - part.start for part in window]
        return Lattice(
            (float(start[0]), float(start[1]), float(start[2])),
            self.spacing_mm,
            (counts[0], counts[1], counts[2]),
        )


def interpolate(field: np.ndarray, source: Lattice, onto: Lattice) -> np.ndarray:
    """Interpolate a smooth field linearly on another lattice.

    Beyond the source, the field keeps its outermost value.

    Args:
        field: Values, (..., x, y, z), the last axes on `source`.
        source: Lattice of the field.
        onto: Lattice of the result.

    Returns:
        Values on `onto`, float32, (..., x, y, z).
    """
    field = np.asarray(field, np.float32)
    for axis in (-1, -2, -3):  # The first axis last: its slices are contiguous.
        at = (onto.axis_mm(axis) - source.start_mm[axis]) / source.spacing_mm
        at = np.clip(at, 0, source.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(source.shape[axis] - 2, 0))
        high = np.minimum(low + 1, source.shape[axis] - 1)
        share = (at - low).astype(np.float32).reshape(-1, *(1,) * (-1 - axis))
        before = np.take(field, low, axis)
        after = np.take(field, high, axis)
        after -= before
        after *= share
        after += before
        field = after
    return field


def smooth_noise(
    random: np.random.Generator, onto: Lattice, length_mm: float
) -> np.ndarray:
    """Draw a random field of mean 0 and standard deviation 1 that varies over a length.

    Args:
        random: Source of randomness.
        onto: Lattice of the field.
        length_mm: Standard deviation of the Gaussian that smooths white noise.

    Returns:
        The field, float32, `onto.shape`.
    """
    coarse = onto.coarser(max(onto.spacing_mm, length_mm / _POINTS_PER_LENGTH))
    white = random.standard_normal(coarse.shape, dtype=np.float32)
    field = ndimage.gaussian_filter(white, length_mm / coarse.spacing_mm, truncate=3.0)
    field = interpolate(field, coarse, onto)
    field -= field.mean()
    return field / max(float(field.std()), 1e-6)
