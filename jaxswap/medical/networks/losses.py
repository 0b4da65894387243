"""Dice: the training loss and the score that is reported.

optax has `optax.losses.dice_loss`, but it reports one value an example in which all
classes share one ratio or one class is chosen; the papers' loss weights every class
of every example equally, whatever its size, and smooths denominator and
numerator, so that a class that is absent and not predicted scores one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

Weights = tuple[float, ...] | None
"""A weight for each class of the last axis. None weighs all alike."""

_SPATIAL_AXES = (-4, -3, -2)


def soft_dice(probabilities: Array, targets: Array, smoothing: float = 1e-5) -> Array:
    """Compute the Dice coefficient of each class of each example.

    Args:
        probabilities: Predictions in 0..1, (..., depth, height, width, class).
        targets: Truth in 0..1, same shape.
        smoothing: Added to numerator and denominator, in voxels.

    Returns:
        Coefficients in 0..1 as float32, (..., class).

    References:
        Milletari, Navab, Ahmadi 2016, V-Net; `weighted_dice_coefficient` of
        ellisdg/3DUnetCNN.
    """
    probabilities = probabilities.astype(jnp.float32)
    targets = targets.astype(jnp.float32)
    overlap = (probabilities * targets).sum(_SPATIAL_AXES)
    volume = probabilities.sum(_SPATIAL_AXES) + targets.sum(_SPATIAL_AXES)
    return (2 * overlap + smoothing) / (volume + smoothing)


def weighted_mean(values: Array, weights: Weights = None) -> Array:
    """Return the mean over all axes, in which each class has its weight.

    Args:
        values: (..., class).
        weights: A number from 0 on for each class. None weighs them alike.
    """
    if weights is None:
        return values.mean()
    factors = jnp.asarray(weights, jnp.float32) * (len(weights) / sum(weights))
    return (values * factors.reshape((1,) * (values.ndim - 1) + (-1,))).mean()


def dice_loss(
    logits: Array,
    targets: Array,
    smoothing: float = 1e-5,
    *,
    weights: Weights = None,
) -> Array:
    """Compute minus the mean soft Dice over examples and classes.

    Classes are independent: each logit passes through a sigmoid, as in the papers.

    Args:
        logits: Output of the network, (batch, depth, height, width, class).
        targets: Truth in 0..1, same shape, any numeric type.
        smoothing: See `soft_dice`.
        weights: See `weighted_mean`.

    Returns:
        The loss in -1..0, float32.

    Raises:
        ValueError: If the shapes differ.
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"`logits` {logits.shape} and `targets` {targets.shape} differ in shape."
        )
    probabilities = jax.nn.sigmoid(logits.astype(jnp.float32))
    return -weighted_mean(soft_dice(probabilities, targets, smoothing), weights)


def dice_cross_entropy_loss(
    logits: Array, targets: Array, *, weights: Weights = None
) -> Array:
    """Compute `dice_loss` plus the mean binary cross-entropy over voxels and classes.

    Dice alone has almost no gradient for a small class that is never predicted; the
    cross-entropy brings it back. nnU-Net trains with this sum.

    Args:
        logits: Output of the network, (batch, depth, height, width, class).
        targets: Truth in 0..1, same shape, any numeric type.
        weights: See `weighted_mean`.

    Returns:
        The loss, at least -1, float32.

    Raises:
        ValueError: If the shapes differ.
    """
    dice = dice_loss(logits, targets, weights=weights)
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    cross_entropy = optax.losses.sigmoid_binary_cross_entropy(logits, targets)
    return dice + weighted_mean(cross_entropy, weights)


def dice_focal_loss(
    logits: Array, targets: Array, gamma: float = 2.0, *, weights: Weights = None
) -> Array:
    """Compute `dice_loss` plus the mean focal loss over voxels and classes.

    The focal loss is the cross-entropy in which a voxel counts the less the surer the
    network already is of it, so that the easy background does not drown the rest.

    Args:
        logits: Output of the network, (batch, depth, height, width, class).
        targets: Truth in 0..1, same shape, any numeric type.
        gamma: How fast sure voxels lose weight.
        weights: See `weighted_mean`.

    Returns:
        The loss, at least -1, float32.

    Raises:
        ValueError: If the shapes differ.

    References:
        Lin et al. 2017, Focal Loss for Dense Object Detection.
    """
    dice = dice_loss(logits, targets, weights=weights)
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    focal = optax.losses.sigmoid_focal_loss(logits, targets, gamma=gamma)
    return dice + weighted_mean(focal, weights)
