"""Small round lesions: satellites of a tumour, and lesions that only look like them.

A focus may be tumour or a harmless trace of small-vessel disease. Nothing in the focus
itself shows which: both kinds are placed, shaped and painted by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxswap.medical.synthesis.lattice import Lattice, Vector, smooth_noise

_RAGGEDNESS = 0.15  # Of the surface, in units of the radius.
_MOST_RAGGED = 2.0  # The largest deviation, in units of the raggedness.
_EDGE_MM = 1.0  # A focus fades over this length.


@dataclass(frozen=True)
class Focus:
    """A small lesion.

    Attributes:
        center_mm: Its center, measured from the center of the head.
        radius_mm: Radius of a ball with its volume.
        axes: Half-axes relative to the radius. Their product is 1.
        is_far: Whether it was to be far from the core of the primary tumour.
    """

    center_mm: Vector
    radius_mm: float
    axes: Vector
    is_far: bool = False

    @property
    def reach_mm(self) -> float:
        """Radius of a ball around the center that contains the whole focus."""
        ragged = 1 + _RAGGEDNESS * _MOST_RAGGED
        return self.radius_mm * max(self.axes) * ragged + _EDGE_MM


@dataclass(frozen=True)
class FociRanges:
    """How many foci there are, how large they are, and where.

    Attributes:
        count: Smallest and largest number.
        diameter_mm: Smallest and largest diameter.
        gap_mm: Least distance between a focus and the tumour or another focus.
        far_mm: At least half of the foci are this far from the core of the primary
            tumour, in a head of the size of MNI152.
        within_mm: Largest distance from the tumour. None for any distance.
    """

    count: tuple[int, int]
    diameter_mm: tuple[float, float]
    gap_mm: float = 10.0
    far_mm: float = 0.0
    within_mm: float | None = None


def place_foci(
    random: np.random.Generator,
    allowed: np.ndarray,
    to_tumour_mm: np.ndarray,
    to_core_mm: np.ndarray,
    lattice: Lattice,
    ranges: FociRanges,
) -> list[Focus]:
    """Draw foci: the first, third, ... far from the core, the others nearer.

    Args:
        random: Source of randomness.
        allowed: Voxels where a center may be, bool, (x, y, z).
        to_tumour_mm: Distance from the tumour, same shape.
        to_core_mm: Distance from its core, same shape.
        lattice: The lattice of the voxels.
        ranges: How many, how large, how far. `far_mm` is for this head.

    Returns:
        Foci. There are fewer than drawn if no place is left. But a far one is never
        replaced by one that is nearer.
    """
    foci: list[Focus] = []
    count = int(random.integers(ranges.count[0], ranges.count[1] + 1))
    free = allowed.copy()
    for number in range(count):
        is_far = number % 2 == 0 and ranges.far_mm > 0
        axes = np.exp(0.15 * np.clip(random.standard_normal(3), -2, 2))
        axes /= np.cbrt(axes.prod())
        radius = float(random.uniform(*ranges.diameter_mm)) / 2
        shape = Focus((0.0, 0.0, 0.0), radius, _vector(axes), is_far)
        clear = free & (to_tumour_mm >= ranges.gap_mm + shape.reach_mm)
        distant = to_core_mm >= ranges.far_mm
        nearer = clear & ~distant
        choices = nearer if not is_far and nearer.any() else clear & distant
        places = np.flatnonzero(choices)
        pick = random.random()  # Always drawn, so that later foci stay the same.
        if not len(places):
            continue
        place = np.unravel_index(places[int(pick * len(places))], allowed.shape)
        center = lattice.point_mm(place)
        foci.append(Focus(_vector(center), radius, _vector(axes), is_far))
        # Another focus is at most as large as the largest.
        most = ranges.diameter_mm[1] / 2 * 1.5 * (1 + _RAGGEDNESS * _MOST_RAGGED)
        keep_out = shape.reach_mm + most + _EDGE_MM + ranges.gap_mm
        free &= lattice.distance_mm(center) >= keep_out
    return foci


def draw_focus(
    random: np.random.Generator, focus: Focus, lattice: Lattice
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Draw the shape of a focus on a lattice.

    Args:
        random: Source of its ragged surface.
        focus: The focus.
        lattice: The lattice of the voxels.

    Returns:
        The window of the lattice that contains it, and its share of each voxel there,
        float32 in 0..1.
    """
    center = np.array(focus.center_mm)
    window = lattice.window(center - focus.reach_mm, center + focus.reach_mm)
    part = lattice.cut(window)
    squares = [
        np.square((axis - np.float32(middle)) / np.float32(half * focus.radius_mm))
        for axis, middle, half in zip(part.axes_mm(), center, focus.axes, strict=True)
    ]
    distance = np.sqrt(squares[0] + squares[1] + squares[2])
    rough = smooth_noise(random, part, max(focus.radius_mm / 2, lattice.spacing_mm))
    rough = _RAGGEDNESS * np.clip(rough, -_MOST_RAGGED, _MOST_RAGGED)
    edge = max(_EDGE_MM, 0.8 * lattice.spacing_mm)
    inside = (1 + rough - distance) * focus.radius_mm / edge + 0.5
    share = np.clip(inside, 0, 1).astype(np.float32)
    share[part.distance_mm(center) > focus.reach_mm] = 0
    share[part.index_of(center)] = 1  # Also if voxels are larger than the focus.
    return window, share


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def draw_caps(
    random: np.random.Generator,
    to_ventricles_mm: np.ndarray,
    white: np.ndarray,
    lattice: Lattice,
    thickness_mm: float,
) -> np.ndarray:
    """Draw the bright caps that ageing leaves in white matter around the ventricles.

    Args:
        random: Source of their patchiness.
        to_ventricles_mm: Distance from the ventricles, (x, y, z).
        white: Share of white matter, same shape.
        lattice: The lattice of the voxels.
        thickness_mm: Typical thickness.

    Returns:
        Their share of the brain tissue in each voxel, float32 in 0..1, same shape.
    """
    patchy = np.maximum(smooth_noise(random, lattice, 6.0), 0)
    inside = (thickness_mm * patchy - to_ventricles_mm) / (2 * _EDGE_MM) + 0.5
    return (np.clip(inside, 0, 1) * white).astype(np.float32)
