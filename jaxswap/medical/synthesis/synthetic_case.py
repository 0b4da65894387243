"""One labelled case: a head of its own shape, a tumour grown in it, and its images.

A case depends only on recipe, seed and index. The head and the tumour are computed on a
grid of 2.5 mm, whatever the voxels of the images are. So the same case at another
spacing is the same patient, scanned differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxswap.medical.data.masks import sides_mm
from jaxswap.medical.synthesis.head_shapes import draw_head_shape
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.lesions import Lesions, LesionStreams, paint_lesions
from jaxswap.medical.synthesis.primary_tumour import (
    GrownHead,
    Primary,
    brain_lattice,
    draw_primary,
    grow_primary,
    sample_anatomy,
)
from jaxswap.medical.synthesis.synthetic_images import take_images
from jaxswap.medical.synthesis.synthetic_recipe import Recipe

ORIENTATIONS = ("LPS", "LAS", "RAS")
"""The orientations of files. The first one is that of BraTS."""

_ORIENTATION_SHARES = (0.5, 0.25, 0.25)
_STREAMS = "head growth tumour foci satellites caps tissues images storage".split()


@dataclass(frozen=True)
class SyntheticCase:
    """A case, in RAS+ orientation.

    Attributes:
        images: Each image by name, int16, (x, y, z), background 0.
        labels: Labels, uint8, same shape.
        tissue: `Tissue` of each lesion, uint8, same shape. 0 if there is no lesion.
        affine: Maps voxel indices to millimeters, (4, 4).
        orientation: How the case is to be stored, one of `ORIENTATIONS`.
        record: All that is known about it, for a JSON file.
    """

    images: Mapping[str, np.ndarray]
    labels: np.ndarray
    tissue: np.ndarray
    affine: np.ndarray
    orientation: str
    record: dict[str, Any]


def random_streams(seed: int, index: int) -> dict[str, np.random.Generator]:
    """Return independent sources of randomness for the parts of a case.

    Args:
        seed: Seed of the data set, not negative.
        index: Number of the case, not negative.

    Returns:
        A generator for each part. What one part draws does not change another part.
    """
    sequences = np.random.SeedSequence(seed, spawn_key=(index,)).spawn(len(_STREAMS))
    return {
        name: np.random.default_rng(sequence)
        for name, sequence in zip(_STREAMS, sequences, strict=True)
    }


def draw_case(recipe: Recipe, seed: int, index: int) -> SyntheticCase:
    """Draw a case with a tumour, of the arm `glioma` or `multifocal`.

    Args:
        recipe: What cases are made of.
        seed: Seed of the data set, not negative.
        index: Number of the case, not negative.

    Returns:
        The case.

    Raises:
        ModuleNotFoundError: If nilearn is not installed. It has the MNI152 head.
    """
    random = random_streams(seed, index)
    extent = Lattice.centered(recipe.shape, recipe.spacing_mm)
    head = draw_head_shape(random["head"], recipe.head)
    rough = brain_lattice(head)
    far_mm = recipe.foci.far_mm * head.size
    primary = draw_primary(random["growth"], head, rough, recipe.tumour, far_mm)
    grown = grow_primary(
        random["growth"], head, rough, primary, recipe.tumour.roughness
    )
    window = extent.window(*_corners(rough))
    lattice = extent.cut(window)
    anatomy = sample_anatomy(grown.shape, lattice)
    streams = LesionStreams(
        random["tumour"], random["foci"], random["satellites"], random["caps"]
    )
    lesions, foci = paint_lesions(recipe, primary, grown, anatomy, lattice, streams)
    images, taken = take_images(
        lesions,
        anatomy,
        lattice,
        recipe.acquisition,
        random["tissues"],
        random["images"],
    )
    affine = stored_affine(recipe)
    record = {
        "index": index,
        "arm": recipe.arm,
        "tumour": _tumour_record(primary, grown, lesions, lattice),
        "foci": [_in_world(focus, extent, affine) for focus in foci],
        "head": {
            "is_mirrored": head.is_mirrored,
            "size": head.size,
        },
        "images": taken,
    }
    return SyntheticCase(
        {name: _whole(image, window, recipe) for name, image in images.items()},
        _whole(lesions.labels, window, recipe),
        _whole(lesions.tissue, window, recipe),
        affine,
        draw_orientation(random["storage"]),
        record,
    )


def draw_orientation(random: np.random.Generator) -> str:
    """Draw the orientation in which a case is stored: half of them as in BraTS."""
    return str(random.choice(ORIENTATIONS, p=_ORIENTATION_SHARES))


def stored_affine(recipe: Recipe) -> np.ndarray:
    """Return the affine of a case in RAS+, as in the SRI24 atlas of BraTS.

    The last voxel to the right is at 0 mm there. So are the first anterior and the
    first superior voxel.

    Example:
        >>> from jaxswap.medical.synthesis.synthetic_recipe import make_recipe
        >>> stored_affine(make_recipe())[:3, 3]
        array([-191.,    0.,    0.])
    """
    affine = np.diag([recipe.spacing_mm] * 3 + [1.0])
    affine[0, 3] = -recipe.spacing_mm * (recipe.shape[0] - 1)
    return affine


def _corners(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    last = tuple(side - 1 for side in lattice.shape)
    return lattice.point_mm((0, 0, 0)), lattice.point_mm(last)


def _whole(part: np.ndarray, window: tuple[slice, ...], recipe: Recipe) -> np.ndarray:
    whole = np.zeros(recipe.shape, part.dtype)
    whole[window] = part
    return whole


def _tumour_record(
    primary: Primary, grown: GrownHead, lesions: Lesions, lattice: Lattice
) -> dict[str, Any]:
    voxel_ml = lattice.spacing_mm**3 / 1000
    counts = np.bincount(np.ravel(lesions.labels), minlength=4)
    extent = sides_mm(lesions.primary, lattice.spacing_mm)
    return {
        "is_present": primary.is_present,
        "is_enhancing": primary.is_present and primary.is_enhancing,
        "is_diffuse": primary.is_diffuse,
        "extent_mm": extent,
        "asked_extent_mm": primary.extent_mm,
        "length_mm": primary.length_mm,
        "time": grown.growth.time,
        "rim_mm": primary.rim_mm,
        "push_mm": primary.push_mm,
        "lump_mm": primary.lump_mm,
        "volume_ml": {str(label): int(counts[label]) * voxel_ml for label in (1, 2, 3)},
    }


def _in_world(
    focus: dict[str, Any], extent: Lattice, affine: np.ndarray
) -> dict[str, Any]:
    """Give a focus's center in the millimeters and voxels of the stored images."""
    voxel = extent.index_of(np.array(focus["center_mm"]))
    offset = affine[:3, 3] - np.array(extent.start_mm)
    center = np.array(focus["center_mm"]) + offset
    return focus | {
        "center_mm": [round(float(value), 3) for value in center],
        "center_voxel_ras": list(voxel),
    }
