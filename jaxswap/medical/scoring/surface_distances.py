"""How far two surfaces are apart: the 95 % Hausdorff distance and the surface Dice.

Definitions differ between tools. These are ours: The surface of a mask consists of
elements. An element is a point where eight voxels meet, of which some are inside and
some outside. Everything beyond the array is outside. An element has the area of the
piece of surface that passes between its eight voxels. A distance goes from an element
to the nearest element of the other surface, in millimetres.

- HD95 is the larger of the two directed 95th percentiles. In each direction this is the
  smallest distance that at least 95 % of the surface, by area, does not exceed.
- The surface Dice (normalized surface distance, NSD) is the share of both surfaces, by
  area, that is within the tolerance of the other one.

Both follow Nikolov et al., as the official scores of BraTS 2023 do. Other tools differ.
If the centres of border voxels are the surface (MONAI), distances are somewhat larger.
With a tolerance of about a voxel, the surface Dice is then clearly smaller, because
slanted surfaces are rougher. If both directions are pooled before the percentile is
taken (MedPy), HD95 is smaller.

References:
    Nikolov et al. 2021, Clinically applicable segmentation of head and neck anatomy;
    Maier-Hein, Reinke et al. 2024, Metrics reloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from jaxswap.medical.data.masks import bounding_box
from jaxswap.medical.scoring.surface_elements import Spacing, surface_elements

# Spacings come from single-precision headers, where 1 mm may be 1.0000001 mm.
_SLACK_MM = 1e-3
# The time of a search tree grows with the elements, that of a distance transform with
# the points of the box around both masks. At one element in twenty points both are
# equally fast.
_TREE_BELOW = 0.05


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces, one entry for each element.

    Attributes:
        from_reference_mm: From the reference to the prediction, float64, (element,).
        from_prediction_mm: From the prediction to the reference, float64, (element,).
        reference_mm2: Area of each element of the reference, float64, (element,).
        prediction_mm2: The same for the prediction.
    """

    from_reference_mm: np.ndarray
    from_prediction_mm: np.ndarray
    reference_mm2: np.ndarray
    prediction_mm2: np.ndarray


def surface_distances(
    reference: np.ndarray, prediction: np.ndarray, spacing: Spacing
) -> SurfaceDistances:
    """Measure the distance of each element of both surfaces to the other surface.

    Args:
        reference: True inside, bool, (x, y, z).
        prediction: True inside, the same shape.
        spacing: Voxel size along each axis, in millimetres.

    Returns:
        The distances, for `hausdorff_95_mm` and `surface_dice`.

    Raises:
        ValueError: If a mask is empty, because there is no distance to nothing. Also if
            shapes, types or spacing do not fit.

    Example:
        >>> cube = np.zeros((9, 9, 9), bool)
        >>> cube[2:6, 2:6, 2:6] = True
        >>> moved = np.roll(cube, 1, axis=2)
        >>> distances = surface_distances(cube, moved, (1.0, 1.0, 2.5))
        >>> hausdorff_95_mm(distances)
        2.5
        >>> round(surface_dice(distances, tolerance_mm=1.0), 3)
        0.831
    """
    check_masks(reference, prediction, spacing)
    if not (reference.any() and prediction.any()):
        raise ValueError("surface distances need two masks that are not empty.")
    box = bounding_box(reference | prediction)
    (first, first_mm2), (second, second_mm2) = (
        surface_elements(mask[box], spacing) for mask in (reference, prediction)
    )
    if first_mm2.size + second_mm2.size < _TREE_BELOW * first.size:
        there, back = _by_tree(first, second, spacing)
    else:
        there, back = _by_transform(first, second, spacing)
    return SurfaceDistances(there, back, first_mm2, second_mm2)


def hausdorff_95_mm(distances: SurfaceDistances) -> float:
    """Return the larger of the two directed 95th percentiles, in millimetres.

    Args:
        distances: From `surface_distances`.
    """
    there = _percentile(distances.from_reference_mm, distances.reference_mm2)
    back = _percentile(distances.from_prediction_mm, distances.prediction_mm2)
    return max(there, back)


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the share of both surfaces, by area, that is near the other one.

    Args:
        distances: From `surface_distances`.
        tolerance_mm: The largest distance that counts as near.

    Returns:
        A number in 0..1. 1 if no element is farther away than the tolerance.
    """
    near = tolerance_mm + _SLACK_MM
    reference, prediction = distances.reference_mm2, distances.prediction_mm2
    within = reference[distances.from_reference_mm <= near].sum()
    within += prediction[distances.from_prediction_mm <= near].sum()
    return float(within / (reference.sum() + prediction.sum()))


def check_masks(
    reference: np.ndarray, prediction: np.ndarray, spacing: Spacing
) -> None:
    """Refuse masks that cannot be compared.

    Raises:
        ValueError: If the masks are not boolean and three-dimensional, if they differ
            in shape, or if the spacing is not three positive numbers.
    """
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.ndim != 3 or mask.dtype != np.bool_:
            raise ValueError(
                f"`{name}` has shape {mask.shape} and type {mask.dtype}; masks need "
                "to be bool with three axes."
            )
    if reference.shape != prediction.shape:
        raise ValueError(
            f"`reference` {reference.shape} and `prediction` {prediction.shape} differ "
            "in shape."
        )
    if len(spacing) != 3 or not all(0 < size < np.inf for size in spacing):
        raise ValueError(f"`spacing` is {spacing}; it needs three positive numbers.")


def _percentile(distances_mm: np.ndarray, areas_mm2: np.ndarray) -> float:
    method = "inverted_cdf"  # A distance that occurs, never one in between.
    return float(np.quantile(distances_mm, 0.95, weights=areas_mm2, method=method))


def _by_tree(
    reference: np.ndarray, prediction: np.ndarray, spacing: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (
        np.argwhere(surface) * np.asarray(spacing)
        for surface in (reference, prediction)
    )
    # Balancing and shrinking the nodes of a tree of grid points costs more than it
    # saves, because there are few queries for each point.
    trees = [
        KDTree(points, balanced_tree=False, compact_nodes=False)
        for points in (first, second)
    ]
    return trees[1].query(first)[0], trees[0].query(second)[0]


def _by_transform(
    reference: np.ndarray, prediction: np.ndarray, spacing: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    to_prediction = ndimage.distance_transform_edt(~prediction, spacing)
    to_reference = ndimage.distance_transform_edt(~reference, spacing)
    return np.asarray(to_prediction)[reference], np.asarray(to_reference)[prediction]
