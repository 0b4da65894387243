"""The loss of predicted probabilities, on the host.

A validation has its probabilities on the host already, in volumes of many shapes. Each
shape would need a program of its own on a device. The sums are those of `objective`.
"""

from __future__ import annotations

import numpy as np

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.networks.losses import Weights
from jaxswap.medical.networks.objective import LOSSES, class_count

_SMOOTHING = 1e-5  # As in `soft_dice`.
_LEAST = 1e-7  # Probabilities from here to one minus it have a finite logarithm.
_SLAB = 16


def loss_of_probabilities(
    probabilities: np.ndarray,
    labels: np.ndarray,
    label_map: LabelMap,
    loss: str = "dice_ce",
    weights: Weights = None,
) -> float:
    """Compute what `segmentation_loss` computes of the logits.

    Args:
        probabilities: Of each region, float32, (x, y, z, region).
        labels: Label map, uint8, (x, y, z).
        label_map: What the labels mean.
        loss: "dice", "dice_ce" or "dice_focal".
        weights: Of the classes, see `segmentation_loss`.

    Returns:
        The loss.

    Raises:
        ValueError: If `loss` is none of these.

    Example:
        >>> from jaxswap.medical.data.label_maps import make_label_map
        >>> blob = make_label_map("blob", {"blob": 1})
        >>> labels = np.array([[[0, 1]]], np.uint8)
        >>> sure = labels[..., None].astype(np.float32)
        >>> round(loss_of_probabilities(sure, labels, blob), 3)
        -1.0
    """
    if loss not in LOSSES:
        raise ValueError(f"`loss` is {loss!r}; choose one of {', '.join(LOSSES)}.")
    count = class_count(label_map)
    factors = np.ones(count) if weights is None else np.array(weights)
    sums = np.zeros((3, len(label_map.regions)))
    entropy = of_weights = 0.0
    for first in range(0, len(labels), _SLAB):
        slab = slice(first, first + _SLAB)
        found, truth = probabilities[slab], label_map.to_regions(labels[slab])
        axes = (0, 1, 2)
        overlap = np.where(truth, found, 0)
        sums += [x.sum(axes, dtype=np.float64) for x in (overlap, found, truth)]
        if loss == "dice":
            continue
        if label_map.is_exclusive:
            right, share = _of_true_class(found, truth, factors)
        else:
            right, share = np.where(truth, found, 1 - found), factors
        cross = -np.log(np.clip(right, _LEAST, 1))
        if loss == "dice_focal":
            cross *= (1 - right) ** 2
        entropy += float((cross * share).sum(dtype=np.float64))
        of_weights += float(np.broadcast_to(share, cross.shape).sum(dtype=np.float64))
    overlap, found, truth = sums
    dice = (2 * overlap + _SMOOTHING) / (found + truth + _SMOOTHING)
    mean = float(np.average(dice, weights=factors[label_map.is_exclusive :]))
    return -mean + (entropy / of_weights if of_weights else 0.0)


def _of_true_class(
    found: np.ndarray, truth: np.ndarray, factors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each voxel's class, and the weight of this class."""
    is_background = ~truth.any(-1)
    right = np.where(truth, found, 0).sum(-1)
    right = np.where(is_background, 1 - found.sum(-1), right)
    share = np.where(truth, factors[1:], 0).sum(-1)
    return right, np.where(is_background, factors[0], share)
