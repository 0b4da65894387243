"""A real head with tissue labels, and the grids that the network sees.

The MNI152 average T1 image and its maps of grey and white matter are part of the
nilearn package. They are read as files, without importing nilearn.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.volumes import Volume, VolumeError, load_volume

TISSUES = ("fluid and other", "grey matter", "white matter")
"""Names of labels 1, 2 and 3; label 0 is background."""

MNI152_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
"""Name of a map of MNI152: "t1", "gm" or "wm"."""
_MARGIN = 0.04  # Of the cube's side, so that deformed heads stay inside.


@dataclass(frozen=True)
class Case:
    """An image and its labels on one grid.

    Attributes:
        image: The image, RAS+.
        labels: Labels 0..3 of each voxel, uint8, same shape as `image.data`.
    """

    image: Volume
    labels: np.ndarray


def load_mni152() -> Case:
    """Read the MNI152 head: 197x233x189 voxels of 1 mm, skull removed.

    Each voxel of the brain gets the most probable of three labels: grey matter, white
    matter, and the rest, which is mostly fluid.

    Returns:
        The case.

    Raises:
        ModuleNotFoundError: If nilearn is not installed.

    References:
        Fonov et al. 2011, Unbiased average age-appropriate atlases.
    """
    folder = nilearn_data_folder()
    image = load_volume(folder / MNI152_FILE.format("t1"))
    grey = load_volume(folder / MNI152_FILE.format("gm")).data
    white = load_volume(folder / MNI152_FILE.format("wm")).data
    brain = image.data > 0
    fluid = np.where(brain, 255 - grey - white, 0)
    labels = 1 + np.argmax(np.stack([fluid, grey, white]), axis=0)
    return Case(image, np.where(brain, labels, 0).astype(np.uint8))


def fit_to_cube(case: Case, size: int) -> Case:
    """Resample the labeled region of a case to a cube of `size` voxels a side.

    The voxels of the cube are isotropic and as small as the region allows.

    Args:
        case: The case.
        size: Voxels a side.

    Returns:
        The case on the new grid. Its affine keeps the position in millimeters.

    Raises:
        VolumeError: If all labels are background.
    """
    occupied = np.argwhere(case.labels > 0)
    if not len(occupied):
        raise VolumeError(f"{case.image.path}: all labels are background.")
    low, high = occupied.min(0), occupied.max(0)
    spacing = np.array(case.image.spacing)
    extent_mm = (high - low + 1) * spacing
    voxel_mm = extent_mm.max() / (size * (1 - 2 * _MARGIN))
    step = voxel_mm / spacing
    start = (low + high) / 2 - step * (size - 1) / 2
    # Smooth first if voxels become larger. Otherwise fine detail would alias.
    sigma = np.maximum(step - 1, 0) / 2

    def resample(image: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(image, sigma)
        return ndimage.affine_transform(smooth, step, start, (size,) * 3, order=1)

    affine = case.image.affine @ np.block(
        [[np.diag(step), start[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    return Case(
        Volume.from_array(resample(case.image.data), affine),
        resample_labels(case.labels, resample),
    )


def resample_labels(
    labels: np.ndarray, resample: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Resample labels by giving each voxel the label with the largest share.

    Args:
        labels: Labels from 0, integers.
        resample: Resamples the share of one label, float32, to the new grid.

    Returns:
        Labels on the new grid, uint8.
    """
    best = resample((labels == 0).astype(np.float32))
    chosen = np.zeros(best.shape, np.uint8)
    for label in range(1, int(labels.max()) + 1):
        share = resample((labels == label).astype(np.float32))
        chosen = np.where(share > best, np.uint8(label), chosen)
        best = np.maximum(best, share)
    return chosen


def resample_scores(scores: np.ndarray, source: Volume, onto: Volume) -> np.ndarray:
    """Resample scores of classes to another grid, and take the best class.

    Args:
        scores: Scores, (axes of `source`, class). Above 0 means yes, below 0 no.
        source: The volume whose grid the scores lie on.
        onto: The volume on whose grid labels are wanted.

    Returns:
        Labels, uint8, shape of `onto.data`: one plus the class of the highest score. 0
        where all scores are below 0, and outside the source.
    """
    transform = np.linalg.inv(source.affine) @ onto.affine
    labels = np.zeros(onto.data.shape, np.uint8)
    best = np.zeros(onto.data.shape, np.float32)
    for index in range(scores.shape[-1]):
        lowest = float(min(scores[..., index].min(), -1))
        score = ndimage.affine_transform(
            scores[..., index].astype(np.float32),
            transform,
            output_shape=onto.data.shape,
            order=1,
            cval=lowest,
        )
        labels = np.where(score > best, np.uint8(index + 1), labels)
        best = np.maximum(best, score)
    return labels


def nilearn_data_folder() -> Path:
    """Find the files of MNI152 that the nilearn package ships.

    Raises:
        ModuleNotFoundError: If nilearn is not installed.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the MNI152 head is part of the nilearn package, which is not installed: "
            'pip install "jaxswap[data]"'
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
