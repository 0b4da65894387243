"""Where small lesions may be in a head, depending on its primary tumour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jaxswap.medical.data.masks import depth_mm, distance_mm, largest_piece
from jaxswap.medical.synthesis.foci import FociRanges, Focus, place_foci
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.primary_tumour import GrownHead, deep_white_matter
from jaxswap.medical.synthesis.tumour_growth import VISIBLE
from jaxswap.medical.synthesis.tumour_labels import find_core, visibility

_FOCUS_DEPTH_MM = 2.5  # Of a focus's center, below the surface of white matter.
_SPARE_MM = 5.0  # Added, so that distances also hold on the finer grid of the images.
_VENTRICLE_DEPTH_MM = 18.0  # Below the surface of the brain. Less deep is a sulcus.


@dataclass(frozen=True)
class Surroundings:
    """Distances and places on the lattice of growth.

    Attributes:
        lattice: The lattice of the voxels.
        size: Size of the head relative to MNI152.
        allowed: Voxels where a focus may have its center, bool, (x, y, z).
        to_tumour_mm: Distance from the tumour, same shape.
        to_core_mm: Distance from its core, same shape.
    """

    lattice: Lattice
    size: float
    allowed: np.ndarray
    to_tumour_mm: np.ndarray
    to_core_mm: np.ndarray

    def place(self, random: np.random.Generator, ranges: FociRanges) -> list[Focus]:
        """Draw foci. `ranges.far_mm` is scaled to the size of the head."""
        allowed = self.allowed
        if ranges.within_mm is not None:
            allowed = allowed & (self.to_tumour_mm <= ranges.within_mm)
        far_mm = ranges.far_mm * self.size + _SPARE_MM if ranges.far_mm else 0.0
        return place_foci(
            random,
            allowed,
            self.to_tumour_mm - _SPARE_MM,
            self.to_core_mm,
            self.lattice,
            replace(ranges, far_mm=far_mm),
        )

    def without(self, foci: list[Focus], gap_mm: float) -> Surroundings:
        """Return the surroundings without the places around some foci.

        Args:
            foci: Foci that already exist.
            gap_mm: Least distance between their surface and another's center.
        """
        allowed = self.allowed.copy()
        for focus in foci:
            distance = self.lattice.distance_mm(np.array(focus.center_mm))
            allowed &= distance >= focus.reach_mm + gap_mm
        return replace(self, allowed=allowed)


def look_around(grown: GrownHead) -> Surroundings:
    """Measure where small lesions may be in a head with a tumour.

    Args:
        grown: The head. An absent tumour counts as if it existed. So foci are at the
            same places in heads with and without a tumour.

    Returns:
        Its surroundings.
    """
    lattice, anatomy = grown.lattice, grown.anatomy
    cells = grown.growth.concentration
    whole = cells * visibility(anatomy.grey, anatomy.fluid) > VISIBLE
    core = find_core(cells, whole, lattice.spacing_mm)
    return Surroundings(
        lattice,
        grown.shape.size,
        deep_white_matter(anatomy, grown.shape, lattice, _FOCUS_DEPTH_MM),
        distance_mm(whole, lattice.spacing_mm),
        distance_mm(core, lattice.spacing_mm),
    )


def distance_to_ventricles_mm(grown: GrownHead) -> np.ndarray:
    """Return the distance from the ventricles, on the lattice of growth, (x, y, z)."""
    spacing_mm = grown.lattice.spacing_mm
    depth = depth_mm(grown.anatomy.brain > 0, spacing_mm)
    deep_fluid = (grown.anatomy.fluid > 0.5) & (depth > _VENTRICLE_DEPTH_MM)
    return distance_mm(largest_piece(deep_fluid), spacing_mm)
