"""Cases with real labels: a real T1 head, deformed, with its left and right structures.

No rule is invented here. To distinguish left and right, a network has to know where the
midline is and which way the head faces. Mirrored heads are relabeled: what is on the
left of a mirrored head is a left structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.anatomy import load_mni152
from jaxswap.medical.synthesis.acquisition import (
    Acquisition,
    AcquisitionRanges,
    acquire,
    draw_acquisition,
)
from jaxswap.medical.synthesis.half_millimetre import (
    Atlas,
    label_image,
    load_templates,
    mirrored_labels,
)
from jaxswap.medical.synthesis.head_shapes import (
    HeadShape,
    ShapeRanges,
    draw_head_shape,
)
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.synthetic_case import (
    SyntheticCase,
    draw_orientation,
    random_streams,
    stored_affine,
)
from jaxswap.medical.synthesis.synthetic_recipe import Recipe
from jaxswap.medical.synthesis.tissue_maps import smoothing_for, to_voxels

_FINE_MM = 0.75  # Below this, the head of 0.5 mm is used instead of that of 1 mm.
_CONTRAST = 0.3  # Largest absolute logarithm of the exponent.


@lru_cache(maxsize=1)
def load_atlas(folder: Path, spacing_mm: float) -> Atlas:
    """Read the head that suits a voxel size.

    Args:
        folder: Folder with the files of `half_millimetre.fetch_templates`.
        spacing_mm: Side of the wanted voxels.

    Returns:
        The head of 0.5 mm, or MNI152 with 1 mm, with the same 32 labels. The arrays are
        shared between calls. Do not write to them.
    """
    if spacing_mm < _FINE_MM:
        return load_templates(folder)
    return label_image(load_mni152().image, folder)


@dataclass(frozen=True, eq=False)
class DrawnHead:
    """A head in another shape, as another scanner shows it.

    Attributes:
        image: Intensities, int16, (right, anterior, superior). 0 outside the brain.
        labels: Values of the atlas's label map, uint8, same shape.
        shape: Where its points are found in the atlas.
        exponent: Exponent of the intensities, which changes their contrast.
        taken: How the image was acquired.
    """

    image: np.ndarray
    labels: np.ndarray
    shape: HeadShape
    exponent: float
    taken: Acquisition


def draw_head(
    random: Mapping[str, np.random.Generator],
    atlas: Atlas,
    lattice: Lattice,
    shapes: ShapeRanges,
    acquisition: AcquisitionRanges,
) -> DrawnHead:
    """Draw a head with labels.

    Args:
        random: Source of randomness, from `random_streams`.
        atlas: The head that it is made of, and its labels.
        lattice: Lattice of its voxels, in millimeters from the head's center.
        shapes: How much its shape may differ from the atlas.
        acquisition: How strong the faults of its image may be.

    Returns:
        The head.
    """
    head = draw_head_shape(random["head"], shapes)
    coordinates = to_voxels(head.to_mni(lattice), atlas.image.affine)
    sigma = smoothing_for(lattice.spacing_mm / atlas.image.spacing[0])
    image = ndimage.map_coordinates(
        ndimage.gaussian_filter(atlas.image.data, sigma), coordinates, order=1
    )
    labels = np.empty(lattice.shape, np.uint8)
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
    taken = draw_acquisition(random["images"], acquisition)
    image = acquire(image, inside, lattice, taken, random["images"])
    labels = np.where(inside, labels, 0).astype(np.uint8)
    return DrawnHead(image, labels, head, float(exponent), taken)


def draw_parcellation(
    recipe: Recipe, atlas: Atlas, seed: int, index: int
) -> SyntheticCase:
    """Draw a case of the arm `parcellation`.

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
    drawn = draw_head(random, atlas, lattice, recipe.head, recipe.acquisition)
    most = max(atlas.label_map.values)
    counts = np.bincount(np.ravel(drawn.labels), minlength=most + 1)
    voxel_ml = recipe.spacing_mm**3 / 1000
    record = {
        "index": index,
        "arm": recipe.arm,
        "head": {"is_mirrored": drawn.shape.is_mirrored, "size": drawn.shape.size},
        "exponent": drawn.exponent,
        "volume_ml": {
            name: int(counts[value]) * voxel_ml
            for name, value in atlas.label_map.labels.items()
        },
        "images": {"t1n": asdict(drawn.taken)},
    }
    return SyntheticCase(
        {"t1n": drawn.image},
        drawn.labels,
        np.zeros(recipe.shape, np.uint8),
        stored_affine(recipe),
        draw_orientation(random["storage"]),
        record,
    )
