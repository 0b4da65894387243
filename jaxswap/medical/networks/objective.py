"""What training minimizes: a loss of logits and label maps, over one level or several.

A network for overlapping regions has one logit a region, each with a sigmoid of its
own. One for exclusive labels has a logit for background and one a label, with a
softmax over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.named_weights import read_weights
from jaxswap.medical.networks.losses import (
    Weights,
    dice_cross_entropy_loss,
    dice_focal_loss,
    dice_loss,
    soft_dice,
    weighted_mean,
)

OVERLAPPING: dict[str, Callable[..., Array]] = {
    "dice": dice_loss,
    "dice_ce": dice_cross_entropy_loss,
    "dice_focal": dice_focal_loss,
}
"""Losses of logits and targets (..., region), by the name they have in a config."""

LOSSES = tuple(OVERLAPPING)

_SLAB = 8  # Slices of a volume that are decided at a time.


def class_count(label_map: LabelMap) -> int:
    """Number of logits a voxel: one a region, and background where they exclude.

    Args:
        label_map: What the labels mean.
    """
    return len(label_map.regions) + label_map.is_exclusive


def class_weights(label_map: LabelMap, given: Mapping[str, Any]) -> Weights:
    """Return the weight of each class of the logits.

    Args:
        label_map: What the labels mean.
        given: Weights by the names of regions, and of "background" where regions
            exclude each other. Those that are left out are 1.

    Returns:
        The weights. None if none is given.

    Raises:
        ValueError: If a name is unknown, or a weight is no number from 0 on.
    """
    if not given:
        return None
    names = ["background"] * label_map.is_exclusive + list(label_map.regions)
    weights = tuple(read_weights("class_weights", given, names).values())
    if not any(weights[label_map.is_exclusive :]):
        raise ValueError("`class_weights` gives all regions the weight 0.")
    return weights


def probabilities_of(logits: Array, label_map: LabelMap) -> Array:
    """Turn logits into the probability of each region.

    Args:
        logits: Output of the network, (..., class), see `class_count`.
        label_map: Regions, in the order of the classes.

    Returns:
        Probabilities, float32, (..., region).
    """
    logits = logits.astype(jnp.float32)
    if label_map.is_exclusive:
        return jax.nn.softmax(logits)[..., 1:]
    return jax.nn.sigmoid(logits)


def labels_of(probabilities: Any, label_map: LabelMap) -> Any:
    """Decide which label each voxel has.

    Args:
        probabilities: From `probabilities_of`, or a mean of several, (..., region); a
            NumPy or JAX array.
        label_map: The regions.

    Returns:
        Labels in the numbers of the map, uint8, (...), of the same library. Overlapping
        regions are those of probability above one half, the later overwriting the
        earlier; of exclusive ones the most probable wins, background included.
    """
    if not label_map.is_exclusive:
        return label_map.to_labels(probabilities > 0.5)
    xp = probabilities.__array_namespace__()
    values = xp.asarray(label_map.painted, dtype=xp.uint8)
    best = values[xp.argmax(probabilities, axis=-1)]
    background = 1 - xp.sum(probabilities, axis=-1)
    is_background = background >= xp.max(probabilities, axis=-1)
    return xp.where(is_background, xp.asarray(0, dtype=xp.uint8), best)


def labels_in_slabs(probabilities: np.ndarray, label_map: LabelMap) -> np.ndarray:
    """Decide which label each voxel has, on the host, a slab at a time.

    A device would need the probabilities of all regions a second time.

    Args:
        probabilities: (x, y, z, region).
        label_map: The regions.

    Returns:
        Labels in the numbers of the map, uint8, (x, y, z).
    """
    labels = np.empty(probabilities.shape[:-1], np.uint8)
    for first in range(0, len(labels), _SLAB):
        slab = slice(first, first + _SLAB)
        labels[slab] = labels_of(probabilities[slab], label_map)
    return labels


def segmentation_loss(
    logits: Array,
    labels: Array,
    label_map: LabelMap,
    loss: str = "dice_ce",
    weights: Weights = None,
) -> Array:
    """Compute the loss of one level.

    Args:
        logits: Output of the network, (batch, x, y, z, class), see `class_count`.
        labels: Label map, (batch, x, y, z), integers.
        label_map: What the labels mean.
        loss: "dice", "dice_ce" (with cross-entropy) or "dice_focal".
        weights: Of the classes, from `class_weights`. Cross-entropy of exclusive labels
            is a mean over voxels, each with the weight of its class.

    Returns:
        The loss, a float32 scalar; smaller is better, about -1 at best.

    Raises:
        ValueError: If `loss` is none of these, or the shapes do not fit.
    """
    if loss not in LOSSES:
        raise ValueError(f"`loss` is {loss!r}; choose one of {', '.join(LOSSES)}.")
    expected = (*labels.shape, class_count(label_map))
    if logits.shape != expected:
        raise ValueError(
            f"`logits` have shape {logits.shape}, but labels of shape {labels.shape} "
            f"and the regions of {label_map.name} need {expected}."
        )
    targets = label_map.to_regions(labels)
    if not label_map.is_exclusive:
        return OVERLAPPING[loss](logits, targets, weights=weights)
    return _exclusive_loss(logits, targets, loss, weights)


def deeply_supervised_loss(
    levels: Sequence[Array],
    labels: Array,
    label_map: LabelMap,
    loss: str = "dice_ce",
    weights: Weights = None,
) -> Array:
    """Compute the weighted mean of the losses of several levels.

    Each level weighs half of the one before; the coarsest does not count, because at
    that size a label is often gone.

    Args:
        levels: Logits, finest first, each with half the sides of the one before.
        labels: Label map of the finest level, (batch, x, y, z).
        label_map: What the labels mean.
        loss: See `segmentation_loss`.
        weights: See `segmentation_loss`.

    Returns:
        The loss, a float32 scalar.

    References:
        Isensee et al. 2021, nnU-Net.
    """
    counted = levels[:-1] or levels
    shares = [0.5**level for level in range(len(counted))]
    total = jnp.float32(0)
    for level, (logits, share) in enumerate(zip(counted, shares, strict=True)):
        step = 2**level
        coarse = labels[:, ::step, ::step, ::step]
        total += share * segmentation_loss(logits, coarse, label_map, loss, weights)
    return total / sum(shares)


def _exclusive_loss(
    logits: Array, targets: Array, loss: str, weights: Weights
) -> Array:
    """Softmax over background and labels; Dice over the labels only."""
    logits = logits.astype(jnp.float32)
    found = soft_dice(jax.nn.softmax(logits)[..., 1:], targets)
    dice = -weighted_mean(found, None if weights is None else weights[1:])
    if loss == "dice":
        return dice
    background = ~jnp.any(targets, -1, keepdims=True)
    truth = jnp.concatenate([background, targets], -1).astype(jnp.float32)
    cross_entropy = optax.losses.softmax_cross_entropy(logits, truth)
    if loss == "dice_focal":
        cross_entropy = (1 - jnp.exp(-cross_entropy)) ** 2 * cross_entropy
    if weights is None:
        return dice + cross_entropy.mean()
    of_voxels = truth @ jnp.asarray(weights, jnp.float32)
    total = jnp.maximum(of_voxels.sum(), jnp.float32(1e-6))
    return dice + (cross_entropy * of_voxels).sum() / total
