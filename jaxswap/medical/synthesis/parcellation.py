"""Cases with real labels: a real T1 head, deformed, with its left and right structures.

No rule is invented here. To tell left from right, a network has to know where the
midline is and which way the head faces. Mirrored heads are relabeled, so left stays
left: what is on the left of a mirrored head is a left structure.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.anatomy import load_mni152
from jaxswap.medical.synthesis.acquisition import acquire, draw_acquisition
from jaxswap.medical.synthesis.half_millimetre import (
    Atlas,
    label_image,
    load_templates,
    mirrored_labels,
)
from jaxswap.medical.synthesis.head_shapes import draw_head_shape
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.synthetic_case import (
    SyntheticCase,
    draw_orientation,
    random_streams,
    stored_affine,
)
from jaxswap.medical.synthesis.synthetic_recipe import Recipe
from jaxswap.medical.synthesis.tissue_maps import smoothing_for, to_voxels

_FINE_MM = 0.75  # below this, the head of 0.5 mm is used instead of that of 1 mm
_CONTRAST = 0.3  # largest absolute logarithm of the exponent


@lru_cache(maxsize=1)
def load_atlas(folder: Path, spacing_mm: float) -> Atlas:
    """Read the head that suits a voxel size.

    Args:
        folder: Where `half_millimetre.fetch_templates` has put its files.
        spacing_mm: Side of the voxels that are wanted.

    Returns:
        The head of 0.5 mm, or MNI152 with 1 mm, with the same 32 labels. The arrays are
        shared between calls; do not write to them.
    """
    if spacing_mm < _FINE_MM:
        return load_templates(folder)
    return label_image(load_mni152().image, folder)


def draw_parcellation(
    recipe: Recipe, atlas: Atlas, seed: int, index: int
) -> SyntheticCase:
    """Draws a case of the arm `parcellation`.

    Args:
        recipe: What cases are made of.
        atlas: The head and its labels.
        seed: Seed of the data set, not negative.
        index: Number of the case, not negative.

    Returns:
        The case, with one image, "t1n".
    """
    random = random_streams(seed, index)
    lattice = Lattice.centered(recipe.shape, recipe.spacing_mm)
    head = draw_head_shape(random["head"], recipe.head)
    coordinates = to_voxels(head.to_mni(lattice), atlas.image.affine)
    sigma = smoothing_for(recipe.spacing_mm / atlas.image.spacing[0])
    image = ndimage.map_coordinates(
        ndimage.gaussian_filter(atlas.image.data, sigma), coordinates, order=1
    )
    labels = np.empty(recipe.shape, np.uint8)
    ndimage.map_coordinates(atlas.labels, coordinates, labels, order=0)
    if head.is_mirrored:
        labels = mirrored_labels(atlas.label_map)[labels]
    brain = ndimage.map_coordinates(
        (atlas.image.data > 0).astype(np.uint8), coordinates, order=0
    )
    inside = brain > 0
    exponent = np.exp(_CONTRAST * random["tissues"].uniform(-1, 1))
    scale = max(float(image.max()), 1e-6)
    image = np.power(np.maximum(image / scale, 0), np.float32(exponent))
    taken = draw_acquisition(random["images"], recipe.acquisition)
    image = acquire(image, inside, lattice, taken, random["images"])
    counts = np.bincount(np.ravel(labels), minlength=max(atlas.label_map.values) + 1)
    voxel_ml = recipe.spacing_mm**3 / 1000
    record = {
        "index": index,
        "arm": recipe.arm,
        "head": {"is_mirrored": head.is_mirrored, "size": head.size},
        "exponent": float(exponent),
        "volume_ml": {
            name: int(counts[value]) * voxel_ml
            for name, value in atlas.label_map.labels.items()
        },
        "images": {"t1n": asdict(taken)},
    }
    return SyntheticCase(
        {"t1n": image},
        np.where(inside, labels, 0).astype(np.uint8),
        np.zeros(recipe.shape, np.uint8),
        stored_affine(recipe),
        draw_orientation(random["storage"]),
        record,
    )
