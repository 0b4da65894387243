"""The area of the surface between eight neighbouring voxels, for each of 256 patterns.

If eight voxels meet, some inside of a mask and some outside, a piece of surface passes
between them. As in marching cubes, it crosses each of the twelve edges between an
inside and an outside voxel in the middle. Straight lines across the six sides of the
cube bound it. These lines form closed loops. Each loop is filled with triangles around
its centre.

References:
    Lorensen and Cline 1987, Marching cubes.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product

import numpy as np

Spacing = tuple[float, float, float]
Corner = tuple[int, int, int]
Edge = frozenset[Corner]

_CORNERS: tuple[Corner, ...] = tuple((x, y, z) for x, y, z in product((0, 1), repeat=3))
_ALL_INSIDE = 255
_AROUND_A_SIDE = ((0, 0), (1, 0), (1, 1), (0, 1))


def surface_elements(
    mask: np.ndarray, spacing: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """Find the points where eight voxels meet at the surface of a mask.

    Args:
        mask: True inside, bool, (x, y, z). Everything beyond it is outside.
        spacing: Voxel size along each axis, in millimetres.

    Returns:
        Where the surface passes, bool, (x + 1, y + 1, z + 1). And the area at each of
        these points in mm², float64, (point,). Areas are exact over planes along the
        axes and the diagonals of the grid. A staircase between them is up to 13 %
        larger than the plane that it approximates.

    Example:
        A rod of four voxels has points around it, and its edges are cut off.

        >>> rod = np.ones((4, 1, 1), bool)
        >>> points, areas_mm2 = surface_elements(rod, (1.0, 1.0, 1.0))
        >>> points.shape, areas_mm2.size
        ((5, 2, 2), 20)
        >>> float(areas_mm2.max().round(3))
        0.707
    """
    patterns = _patterns(mask)
    points = (patterns != 0) & (patterns != _ALL_INSIDE)
    return points, _areas_by_pattern(spacing)[patterns[points]]


def _patterns(mask: np.ndarray) -> np.ndarray:
    """Number the pattern of the eight voxels around each point, 0..255."""
    padded = np.pad(mask, 1).view(np.uint8)
    patterns = np.zeros(tuple(length + 1 for length in mask.shape), np.uint8)
    for bit, corner in enumerate(_CORNERS):
        shifted = tuple(
            slice(step, step + length)
            for step, length in zip(corner, patterns.shape, strict=True)
        )
        patterns |= padded[shifted] << bit
    return patterns


@lru_cache(16)
def _areas_by_pattern(spacing: Spacing) -> np.ndarray:
    """Return the area of each pattern in mm², float64, (256,)."""
    return np.array(
        [sum(_area(loop * spacing) for loop in _loops(p)) for p in range(256)]
    )


def _area(points_mm: np.ndarray) -> float:
    """Return the area in mm² of the triangles around a loop's centre, (point, 3)."""
    x, y, z = (points_mm - points_mm.mean(0)).T
    nx, ny, nz = (np.roll(spokes, -1) for spokes in (x, y, z))
    normals = (y * nz - z * ny, z * nx - x * nz, x * ny - y * nx)
    return float(np.sqrt(sum(np.square(n) for n in normals)).sum() / 2)


@cache
def _loops(pattern: int) -> tuple[np.ndarray, ...]:
    """Return a pattern's loops: the middles of the edges of each, (edge, 3)."""
    return tuple(
        np.array([np.mean(list(edge), axis=0) for edge in loop])
        for loop in _crossed_edges(pattern)
    )


def _crossed_edges(pattern: int) -> list[list[Edge]]:
    """Follow the lines of a pattern around each loop."""
    inside = {corner for bit, corner in enumerate(_CORNERS) if pattern >> bit & 1}
    neighbours: dict[Edge, list[Edge]] = {}
    for side in _sides():
        for first, second in _lines(side, inside):
            neighbours.setdefault(first, []).append(second)
            neighbours.setdefault(second, []).append(first)
    loops = []
    while neighbours:
        edge: Edge | None = next(iter(neighbours))
        loop = []
        while edge is not None:
            loop.append(edge)
            following = neighbours.pop(edge)
            edge = next((other for other in following if other in neighbours), None)
        loops.append(loop)
    return loops


def _sides() -> list[list[Corner]]:
    """Return the corners of each side of a cube, in order around it."""
    sides = []
    for axis, end in product(range(3), (0, 1)):
        ring = [list(pair) for pair in _AROUND_A_SIDE]
        for corner in ring:
            corner.insert(axis, end)
        sides.append([(x, y, z) for x, y, z in ring])
    return sides


def _lines(side: list[Corner], inside: set[Corner]) -> list[tuple[Edge, Edge]]:
    """Return the lines across one side, each from one edge to another.

    If two inside corners are on a diagonal, each is cut off by itself.
    """
    edges = [frozenset((side[i], side[(i + 1) % 4])) for i in range(4)]
    crossed = [edge for edge in edges if len(edge & inside) == 1]
    if len(crossed) == 2:
        return [(crossed[0], crossed[1])]
    if len(crossed) == 4:
        return [(edges[i - 1], edges[i]) for i in range(4) if side[i] in inside]
    return []
