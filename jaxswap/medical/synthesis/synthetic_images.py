"""The images of a head: from tissue to what a scanner shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.synthesis.acquisition import (
    AcquisitionRanges,
    acquire,
    draw_acquisition,
)
from jaxswap.medical.synthesis.contrast import SEQUENCES, Tissue, draw_tissues, render
from jaxswap.medical.synthesis.lattice import Lattice, smooth_noise
from jaxswap.medical.synthesis.lesions import Lesions
from jaxswap.medical.synthesis.tissue_maps import TissueMaps

_EDGE_VOXELS = 0.6  # Standard deviation of the blur between tissues of a tumour.
_TEXTURE_MM, _PATCHES_MM = 1.2, 5.0
_TEXTURE, _LESION_TEXTURE, _LESION_PATCHES = 0.02, 0.02, 0.06


def take_images(
    lesions: Lesions,
    anatomy: TissueMaps,
    lattice: Lattice,
    ranges: AcquisitionRanges,
    of_person: np.random.Generator,
    of_scans: np.random.Generator,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Acquire the four images of a head.

    Args:
        lesions: Its lesions.
        anatomy: Its healthy tissue.
        lattice: The lattice of both.
        ranges: How strong the faults of images may be.
        of_person: Source of the properties and the texture of tissue.
        of_scans: Source of the faults of the scanner.

    Returns:
        Each image by name, int16, (x, y, z), and how it was acquired.
    """
    tissues = draw_tissues(of_person)
    shares = tissue_shares(lesions, anatomy)
    brain = anatomy.brain > 0
    texture = _draw_texture(of_person, shares, lattice)
    images: dict[str, np.ndarray] = {}
    records: dict[str, Any] = {}
    for name, sequence in SEQUENCES.items():
        taken = draw_acquisition(of_scans, ranges)
        image = render(shares, tissues, sequence) * texture
        images[name] = acquire(image, brain, lattice, taken, of_scans)
        records[name] = asdict(taken)
    return images, records


def tissue_shares(lesions: Lesions, anatomy: TissueMaps) -> dict[Tissue, np.ndarray]:
    """Compute how much of each voxel is which tissue.

    Oedema replaces brain tissue but not fluid. The tissues of a tumour's core replace
    everything. They blend where they meet.

    Args:
        lesions: The lesions.
        anatomy: The healthy tissue, on the same lattice.

    Returns:
        Shares, float32, (x, y, z) each. Their sum is 1 inside the brain.
    """
    solid = anatomy.white + anatomy.grey
    shares = {
        Tissue.FLUID: anatomy.fluid.copy(),
        Tissue.GREY: anatomy.grey * (1 - lesions.oedema),
        Tissue.WHITE: anatomy.white * (1 - lesions.oedema),
        Tissue.OEDEMA: solid * lesions.oedema,
    }
    inner = (Tissue.NECROSIS, Tissue.ENHANCING, Tissue.SOLID)
    is_inner = np.isin(lesions.tissue, inner)
    if not is_inner.any():
        return shares
    window = bounding_box(is_inner, margin=4)
    brain = anatomy.brain[window] > 0
    blurred = {
        tissue: ndimage.gaussian_filter(
            (lesions.tissue[window] == tissue).astype(np.float32), _EDGE_VOXELS
        )
        * brain
        for tissue in inner
    }
    remaining = 1 - np.asarray(sum(blurred.values()))
    for share in shares.values():
        share[window] *= remaining
    for tissue, share in blurred.items():
        shares[tissue] = np.zeros_like(solid)
        shares[tissue][window] = share
    return shares


def _draw_texture(
    random: np.random.Generator, shares: Mapping[Tissue, np.ndarray], lattice: Lattice
) -> np.ndarray:
    """Draw a factor for each voxel: fine everywhere, and patchy in lesions."""
    healthy = shares[Tissue.FLUID] + shares[Tissue.GREY] + shares[Tissue.WHITE]
    lesion = np.clip(1 - healthy, 0, 1)
    fine = smooth_noise(random, lattice, _TEXTURE_MM)
    patches = smooth_noise(random, lattice, _PATCHES_MM)
    fine *= _TEXTURE + _LESION_TEXTURE * lesion
    patches *= _LESION_PATCHES * lesion
    return np.maximum(1 + fine + patches, 0.1)
