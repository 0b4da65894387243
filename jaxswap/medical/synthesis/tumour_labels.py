"""From tumour cells to tissue, and from tissue to labels.

Where cells are dense there is a core. It is a rim that takes up contrast agent, around
necrosis. Or it is solid tumour that takes up none. Around the core is oedema, which
spares the cortex. Tissue is painted first. Its label depends on the tumour that it
belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.masks import (
    bounding_box,
    depth_mm,
    distance_mm,
    largest_piece,
)
from jaxswap.medical.synthesis.contrast import Tissue
from jaxswap.medical.synthesis.lattice import Lattice, smooth_noise
from jaxswap.medical.synthesis.tissue_maps import TissueMaps
from jaxswap.medical.synthesis.tumour_growth import VISIBLE

NECROSIS_LABEL, OEDEMA_LABEL, ENHANCING_LABEL = 1, 2, 3
"""Labels as in BraTS 2023."""

DENSE = 0.8
"""Concentration from which tissue is core (Swanson et al. 2008)."""

_CORTEX_SPARING = 0.75  # How much less oedema grey matter shows.
_LEAST_CORE, _MOST_CORE = 0.12, 0.35  # Share of the tumour.
_ROUGHNESS = 0.35  # Of surfaces, relative to the length of growth.
_ROUGHNESS_MM = 2.5
_CORE_SMOOTHING_MM, _CORE_ROUGHNESS = 4.0, 0.12
_LEAST_HEALTHY = 1e-6  # Share of healthy cells that keeps the odds finite.
_OEDEMA_EDGE = 0.1  # Oedema fades over this change of the concentration.
_RIM_VARIATION = 0.35
_LUMP_RAGGEDNESS = 0.25  # Of its surface, in units of its radius.
_LUMP_GAP_MM = 6.0  # Between a solid lump and the core.


@dataclass(frozen=True)
class Painted:
    """Lesions on a lattice.

    Attributes:
        tissue: `Tissue` of each voxel, uint8, (x, y, z). 0 if there is no lesion.
        oedema: Share of the brain tissue in each voxel that is oedema, float32 in 0..1,
            same shape. It fades at the edges of `tissue`.
    """

    tissue: np.ndarray
    oedema: np.ndarray


def visibility(grey: np.ndarray, fluid: np.ndarray) -> np.ndarray:
    """Return how well oedema shows: less in cortex, and not at all in fluid."""
    return ((1 - _CORTEX_SPARING * grey) * (fluid < 0.5)).astype(np.float32)


def find_core(
    concentration: np.ndarray,
    whole: np.ndarray,
    spacing_mm: float,
    rough: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Find where a tumour's cells are dense.

    Args:
        concentration: Tumour cells, float32, (x, y, z).
        whole: Voxels of the tumour, bool, same shape.
        spacing_mm: Distance between voxels.
        rough: Noise of standard deviation 1 that makes the surface irregular, same
            shape.

    Returns:
        As many voxels as have a concentration above 0.8, but between an eighth and a
        third of the tumour. They are in one piece, where the neighbourhood is densest.
        Bool, (x, y, z).
    """
    if not whole.any():
        return whole
    low, high = np.quantile(concentration[whole], (1 - _MOST_CORE, 1 - _LEAST_CORE))
    dense = whole & (concentration >= np.clip(DENSE, low, high))
    # In diffuse tumours cells are about equally dense in many places. The number of
    # voxels is kept, but those with a dense neighbourhood are taken.
    share = ndimage.gaussian_filter(
        dense.astype(np.float32), _CORE_SMOOTHING_MM / spacing_mm, truncate=3.0
    )
    share += _CORE_ROUGHNESS * rough
    level = np.quantile(share[whole], 1 - dense.sum() / whole.sum())
    return largest_piece(whole & (share >= level))


def paint_tumour(
    concentration: np.ndarray,
    anatomy: TissueMaps,
    lattice: Lattice,
    random: np.random.Generator,
    rim_mm: float | None,
) -> Painted:
    """Paint the tissue of a tumour.

    Args:
        concentration: Tumour cells, float32, (x, y, z).
        anatomy: Tissue that the tumour grows in, same shape.
        lattice: The lattice of the voxels.
        random: Source of irregular surfaces.
        rim_mm: Thickness of the enhancing rim. None for a tumour that takes up no
            contrast agent.

    Returns:
        The tumour, in one piece.
    """
    rough = smooth_noise(random, lattice, _ROUGHNESS_MM)
    shown = _roughen(concentration, _ROUGHNESS * rough) * visibility(
        anatomy.grey, anatomy.fluid
    )
    whole = largest_piece((shown > VISIBLE) & (anatomy.brain > 0))
    oedema = np.clip((shown - VISIBLE) / _OEDEMA_EDGE + 0.5, 0, 1)
    # Pieces that broke off are no tumour, so they must not look like tumour either.
    oedema *= ndimage.binary_dilation(whole, iterations=2)
    tissue = np.where(whole, np.uint8(Tissue.OEDEMA), np.uint8(0))
    if whole.any():
        core = find_core(concentration, whole, lattice.spacing_mm, rough)
        _paint_core(tissue, core, lattice, random, rim_mm)
    return Painted(tissue, oedema.astype(np.float32))


def paint_solid_lump(
    tissue: np.ndarray,
    lattice: Lattice,
    random: np.random.Generator,
    radius_mm: float,
) -> None:
    """Turn the part of a tumour that is farthest from its core solid, in place.

    Args:
        tissue: The tumour's tissue, uint8, (x, y, z).
        lattice: The lattice of the voxels.
        random: Source of its irregular surface.
        radius_mm: Radius of the lump.
    """
    oedema = tissue == Tissue.OEDEMA
    core = (tissue != 0) & ~oedema
    if not oedema.any() or not core.any():
        return
    window = bounding_box(tissue != 0, margin=1)
    distance = np.zeros(tissue.shape, np.float32)
    distance[window] = distance_mm(core[window], lattice.spacing_mm)
    depth = np.zeros(tissue.shape, np.float32)
    depth[window] = depth_mm(tissue[window] != 0, lattice.spacing_mm)
    # Far from the core but deep inside, so that the lump is not a sliver of the edge.
    place = int(np.argmax(np.where(oedema, distance + 2 * np.minimum(depth, 6), 0)))
    center = lattice.point_mm(np.array(np.unravel_index(place, tissue.shape)))
    rough = 1 + _LUMP_RAGGEDNESS * smooth_noise(random, lattice, 2 * _ROUGHNESS_MM)
    lump = lattice.distance_mm(center) < radius_mm * rough
    tissue[lump & oedema & (distance >= _LUMP_GAP_MM)] = Tissue.SOLID


def label_tumour(tissue: np.ndarray) -> np.ndarray:
    """Give the tissue of one tumour its labels.

    Necrosis is 1, oedema 2, enhancing tumour 3. Solid tumour that does not enhance is
    core (1) if its tumour enhances nowhere. Otherwise it counts as oedema (2). This is
    the rule by which low-grade gliomas are annotated.

    Args:
        tissue: All of the tumour's tissue, uint8, any shape.

    Returns:
        Labels, uint8, same shape.

    Example:
        >>> solid, enhancing = Tissue.SOLID, Tissue.ENHANCING
        >>> label_tumour(np.array([0, solid], np.uint8))
        array([0, 1], dtype=uint8)
        >>> label_tumour(np.array([enhancing, solid], np.uint8))
        array([3, 2], dtype=uint8)
    """
    enhances = bool((tissue == Tissue.ENHANCING).any())
    names = np.zeros(max(Tissue) + 1, np.uint8)
    names[Tissue.NECROSIS] = NECROSIS_LABEL
    names[Tissue.OEDEMA] = OEDEMA_LABEL
    names[Tissue.ENHANCING] = ENHANCING_LABEL
    names[Tissue.SOLID] = OEDEMA_LABEL if enhances else NECROSIS_LABEL
    return names[tissue]


def _roughen(concentration: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Multiply the odds of a cell being tumour.

    The odds fall exponentially across the front of a growing tumour. So a factor on
    them moves every surface by the same number of millimeters.
    """
    odds = concentration / np.maximum(1 - concentration, _LEAST_HEALTHY)
    return 1 - 1 / (1 + odds * np.exp(rough))


def _paint_core(
    tissue: np.ndarray,
    core: np.ndarray,
    lattice: Lattice,
    random: np.random.Generator,
    rim_mm: float | None,
) -> None:
    window = bounding_box(core, margin=1)
    # Always drawn, so that what is painted later does not depend on the rim.
    field = smooth_noise(random, lattice.cut(window), 2 * _ROUGHNESS_MM)
    if rim_mm is None:
        tissue[core] = Tissue.SOLID
        return
    part = core[window]
    depth = depth_mm(part, lattice.spacing_mm) - lattice.spacing_mm / 2
    rim = depth < rim_mm * np.exp(_RIM_VARIATION * field)
    tissue[window][part & rim] = Tissue.ENHANCING
    tissue[window][part & ~rim] = Tissue.NECROSIS
