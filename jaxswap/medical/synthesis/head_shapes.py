"""Random shapes of heads: turned, scaled, mirrored, and smoothly deformed.

A shape says where each point of a new head is found in the MNI152 head. Its smooth part
is the flow of a stationary velocity field. So it can be undone everywhere, and tissue
is never folded. A growing tumour adds a push that fades towards the skull.

Sources: SynthSeg's generator (Billot et al. 2023) for the ranges. Arsigny et al. 2006
for scaling and squaring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.synthesis.lattice import Lattice, interpolate, smooth_noise

REGION = Lattice.centered((48, 55, 48), 4.0)
"""The lattice on which heads and their displacements are described. All heads fit."""
MNI_CENTER_MM = np.array([0.0, -17.0, 5.0])
"""Center of the MNI152 brain. Its midplane is x = 0."""

_SQUARINGS = 6
_FADE_MM = 20.0  # The push of a tumour fades over this depth below the surface.
_STEEPEST = 1.9  # The push can be undone if reach over push is at least this.


@dataclass(frozen=True)
class ShapeRanges:
    """How much heads may differ from the MNI152 head.

    Attributes:
        rotation_degrees: Largest rotation about each axis.
        scale: Smallest and largest scale along each axis.
        velocity_mm: Largest typical speed of the smooth deformation, over one unit of
            time. This is about how far tissue moves.
        smoothness_mm: Length over which the deformation varies.
        mirror: Share of heads that are mirrored left to right.
    """

    rotation_degrees: float = 15.0
    scale: tuple[float, float] = (0.9, 1.04)
    velocity_mm: float = 3.0
    smoothness_mm: float = 16.0
    mirror: float = 0.5


@dataclass(frozen=True)
class HeadShape:
    """Where the points of a head are found in the MNI152 head.

    Attributes:
        matrix: Turns, scales and mirrors millimeters about the center, (3, 3).
        displacement_mm: Added before that, float32, (3, x, y, z).
        lattice: Lattice of `displacement_mm`.
        is_mirrored: Whether left and right are exchanged.
        size: Mean of the head's lengths relative to MNI152.
    """

    matrix: np.ndarray
    displacement_mm: np.ndarray
    lattice: Lattice
    is_mirrored: bool
    size: float

    def to_mni(self, lattice: Lattice) -> np.ndarray:
        """Return the position of each point of a lattice in MNI space.

        Args:
            lattice: Points of the head, in millimeters from its center.

        Returns:
            Millimeters in MNI space, float32, (3, x, y, z).
        """
        # The map is linear except for the displacement. So linear interpolation of the
        # whole map from the coarse lattice loses nothing.
        x, y, z = self.lattice.axes_mm()
        points = self.displacement_mm.copy()
        points[0] += x
        points[1] += y
        points[2] += z
        mapped = np.einsum("ij,jxyz->ixyz", self.matrix.astype(np.float32), points)
        mapped += MNI_CENTER_MM.astype(np.float32).reshape(3, 1, 1, 1)
        return interpolate(mapped, self.lattice, lattice)


def draw_head_shape(random: np.random.Generator, ranges: ShapeRanges) -> HeadShape:
    """Draw the shape of a head.

    Args:
        random: Source of randomness.
        ranges: How much it may differ from MNI152.

    Returns:
        The shape.
    """
    scales = random.uniform(*ranges.scale, 3)
    angles = np.deg2rad(random.uniform(-1, 1, 3) * ranges.rotation_degrees)
    is_mirrored = bool(random.random() < ranges.mirror)
    mirror = np.diag([-1.0 if is_mirrored else 1.0, 1.0, 1.0])
    matrix = mirror @ np.diag(1 / scales) @ _rotation(angles)
    speed = ranges.velocity_mm * random.random()
    velocity = np.stack(
        [speed * smooth_noise(random, REGION, ranges.smoothness_mm) for _ in range(3)]
    )
    return HeadShape(
        matrix, flow(velocity, REGION), REGION, is_mirrored, float(scales.mean())
    )


def flow(velocity_mm: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Follow a stationary velocity field for one unit of time.

    Args:
        velocity_mm: Velocity, (3, x, y, z), in millimeters per unit of time.
        lattice: Lattice of the field.

    Returns:
        Displacement of each point in millimeters, float32, (3, x, y, z). The flow of
        the opposite field undoes it.
    """
    displacement = (velocity_mm / 2**_SQUARINGS).astype(np.float32)
    for _ in range(_SQUARINGS):
        displacement = displacement + _at_moved(displacement, displacement, lattice)
    return displacement


def push_aside(
    head: HeadShape,
    center_mm: np.ndarray,
    push_mm: float,
    reach_mm: float,
    depth_mm: np.ndarray,
) -> HeadShape:
    """Let something that grows at a point push the tissue around it away.

    Tissue at distance d moves by `push_mm` d/R exp((1 - (d/R)^2) / 2). This is zero at
    the center, largest at the reach R, and fades beyond. It also fades towards the
    surface of the brain, because the skull does not move.

    Args:
        head: The head's shape without it.
        center_mm: The point, in millimeters from the head's center, (3,).
        push_mm: Largest displacement.
        reach_mm: Distance at which it is largest. Values below 1.9 `push_mm` are raised
            to that, because steeper pushes would fold tissue.
        depth_mm: Distance from the surface of the brain, 0 outside, on `head.lattice`.

    Returns:
        The head's shape with it.
    """
    reach = max(reach_mm, _STEEPEST * push_mm)
    ratio = head.lattice.distance_mm(center_mm) / reach
    # Divided by the distance, because it is multiplied with a vector from the center.
    strength = push_mm / reach * np.exp((1 - ratio**2) / 2)
    strength *= np.clip(depth_mm / _FADE_MM, 0, 1)
    back = np.stack(
        [
            -strength * (axis - np.float32(center))
            for axis, center in zip(head.lattice.axes_mm(), center_mm, strict=True)
        ]
    )
    moved = back + _at_moved(head.displacement_mm, back, head.lattice)
    return HeadShape(
        head.matrix,
        moved.astype(np.float32),
        head.lattice,
        head.is_mirrored,
        head.size,
    )


def _at_moved(
    field: np.ndarray, displacement_mm: np.ndarray, lattice: Lattice
) -> np.ndarray:
    """Read a vector field at the positions to which its lattice is moved."""
    indices = displacement_mm / np.float32(lattice.spacing_mm)
    for axis, count in enumerate(lattice.shape):
        places = np.arange(count, dtype=np.float32)
        indices[axis] += places.reshape(-1, *(1,) * (2 - axis))
    return np.stack(
        [
            ndimage.map_coordinates(part, indices, order=1, mode="nearest")
            for part in field
        ]
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
