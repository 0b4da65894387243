"""The primary tumour of a head: where it begins, its kind, and its growth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxswap.medical.data import masks
from jaxswap.medical.synthesis.head_shapes import HeadShape, push_aside
from jaxswap.medical.synthesis.lattice import Lattice, Vector, smooth_noise
from jaxswap.medical.synthesis.synthetic_recipe import TumourRanges
from jaxswap.medical.synthesis.tissue_maps import (
    TissueMaps,
    load_tissue_maps,
    sample_tissues,
    smoothing_for,
)
from jaxswap.medical.synthesis.tumour_growth import Growth, diffusivity, grow
from jaxswap.medical.synthesis.tumour_labels import visibility

GROWTH_SPACING_MM = 2.5
"""Spacing of the lattice that tumours grow on. The images' voxels do not matter."""

_DEEP_MM = 5.0  # Of a seed, below the surface of white matter.
_ROUGHNESS_MM = 4.0
_FALX_MM = 2.5  # Half the gap between the hemispheres.
_FALX_LOGARITHM = -2.5  # Of the diffusivity across it.
_TRIES = 40


@dataclass(frozen=True)
class Primary:
    """The properties of a primary tumour.

    Attributes:
        is_present: Whether the head has it. An absent one is drawn, too: foci are
            placed around it as if it existed.
        is_enhancing: Whether it takes up contrast agent.
        is_diffuse: Whether it is one of the diffuse tumours.
        center_mm: Where it begins, measured from the center of the head.
        extent_mm: Size of its visible part.
        length_mm: Sqrt(D/rho).
        rim_mm: Thickness of the enhancing rim.
        push_mm: How far it pushes tissue away.
        lump_mm: Radius of its solid lump. 0 for no lump.
    """

    is_present: bool
    is_enhancing: bool
    is_diffuse: bool
    center_mm: Vector
    extent_mm: float
    length_mm: float
    rim_mm: float
    push_mm: float
    lump_mm: float


@dataclass(frozen=True)
class GrownHead:
    """A head with a tumour in it, on the lattice of growth.

    Attributes:
        shape: The head's shape, including what the tumour pushes away.
        lattice: Lattice of the voxels. It contains the brain.
        anatomy: Its tissue.
        growth: The tumour.
    """

    shape: HeadShape
    lattice: Lattice
    anatomy: TissueMaps
    growth: Growth


def brain_lattice(head: HeadShape) -> Lattice:
    """Return the lattice of growth, cut to the box around a head's brain."""
    maps = load_tissue_maps(smoothing_for(GROWTH_SPACING_MM))
    rough = sample_tissues(maps, head, head.lattice)
    window = masks.bounding_box(rough.brain > 0, margin=1)
    low = head.lattice.point_mm(tuple(part.start for part in window))
    high = head.lattice.point_mm(tuple(part.stop - 1 for part in window))
    lattice = head.lattice.coarser(GROWTH_SPACING_MM)
    return lattice.cut(lattice.window(low, high))


def sample_anatomy(head: HeadShape, lattice: Lattice) -> TissueMaps:
    """Sample a head's tissue on a lattice, without aliasing."""
    return sample_tissues(
        load_tissue_maps(smoothing_for(lattice.spacing_mm)), head, lattice
    )


def deep_white_matter(
    anatomy: TissueMaps, head: HeadShape, lattice: Lattice, depth_mm: float
) -> np.ndarray:
    """Find white matter of the cerebrum that is deep below its own surface.

    Args:
        anatomy: The head's tissue.
        head: The head's shape, which tells where brain stem and cerebellum are. These
            are left out.
        lattice: The lattice of the voxels.
        depth_mm: How deep below the surface.

    Returns:
        Bool, (x, y, z).
    """
    depth = masks.depth_mm(anatomy.white > 0.5, lattice.spacing_mm)
    x, y, z = head.to_mni(lattice)
    is_temporal = (np.abs(x) > 28) & (y > -30) & (z > -30)
    return (depth >= depth_mm) & ((z > 2) | is_temporal)


def draw_primary(
    random: np.random.Generator,
    head: HeadShape,
    lattice: Lattice,
    ranges: TumourRanges,
    far_mm: float,
) -> Primary:
    """Draw a tumour.

    Args:
        random: Source of randomness.
        head: The head before there was a tumour.
        lattice: Lattice of growth.
        ranges: How tumours may differ.
        far_mm: Some white matter must be this far from the tumour's core.

    Returns:
        The properties of the tumour.
    """
    is_present = random.random() >= ranges.absent
    is_enhancing = random.random() >= ranges.non_enhancing
    is_diffuse = random.random() < ranges.diffuse
    extent = float(
        random.uniform(*(ranges.diffuse_extent_mm if is_diffuse else ranges.extent_mm))
    )
    length = float(
        random.uniform(*(ranges.diffuse_length_mm if is_diffuse else ranges.length_mm))
    )
    low, high = ranges.push_mm
    push = float(random.uniform(low, max(low, min(high, extent / 5))))
    rim = float(random.uniform(*ranges.rim_mm))
    lump = float(random.uniform(*ranges.lump_mm)) if ranges.lump_mm else 0.0
    deep = deep_white_matter(sample_anatomy(head, lattice), head, lattice, _DEEP_MM)
    center = _draw_center(random, deep, lattice, far_mm + extent / 3 if far_mm else 0)
    return Primary(
        is_present, is_enhancing, is_diffuse, center, extent, length, rim, push, lump
    )


def grow_primary(
    random: np.random.Generator,
    head: HeadShape,
    lattice: Lattice,
    primary: Primary,
    roughness: float,
) -> GrownHead:
    """Push tissue aside and grow a tumour in what results.

    Args:
        random: Source of the irregular speed of growth.
        head: The head before there was a tumour.
        lattice: Lattice of growth.
        primary: The properties of the tumour. If it is absent, nothing is pushed.
        roughness: Standard deviation of the logarithm of diffusivity between places.

    Returns:
        The head with its tumour.
    """
    center = np.array(primary.center_mm)
    if primary.is_present:
        maps = load_tissue_maps(smoothing_for(GROWTH_SPACING_MM))
        brain = sample_tissues(maps, head, head.lattice).brain
        depth = masks.depth_mm(brain > 0, head.lattice.spacing_mm)
        reach = primary.extent_mm / 3
        head = push_aside(head, center, primary.push_mm, reach, depth)
    anatomy = sample_anatomy(head, lattice)
    rough = roughness * np.clip(smooth_noise(random, lattice, _ROUGHNESS_MM), -1.5, 1.5)
    in_falx = (np.abs(head.to_mni(lattice)[0]) < _FALX_MM) & (anatomy.white < 0.5)
    rough = rough + np.float32(_FALX_LOGARITHM) * in_falx
    growth = grow(
        diffusivity(anatomy.white, anatomy.grey, primary.length_mm, rough),
        lattice.index_of(center),
        lattice.spacing_mm,
        primary.extent_mm,
        visibility(anatomy.grey, anatomy.fluid),
    )
    return GrownHead(head, lattice, anatomy, growth)


def _draw_center(
    random: np.random.Generator, deep: np.ndarray, lattice: Lattice, far_mm: float
) -> Vector:
    """Draw a point of deep white matter, with other such points far away from it."""
    places = np.argwhere(deep)
    points = np.array(lattice.start_mm) + lattice.spacing_mm * places
    best, farthest = points[0], -1.0
    for _ in range(_TRIES):
        point = points[random.integers(len(points))]
        distance = float(np.linalg.norm(points - point, axis=1).max())
        if distance > farthest:
            best, farthest = point, distance
        if distance >= far_mm:
            best = point
            break
    return float(best[0]), float(best[1]), float(best[2])
