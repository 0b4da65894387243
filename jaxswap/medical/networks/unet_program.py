"""The U-Net's loss as a program to plan, inspect and compare; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import Array

from jaxswap.medical.networks.losses import dice_loss
from jaxswap.medical.networks.unet import PAPER, UNet3D

Loss = Callable[[Any, Array, Array], Array]
"""Of parameters, images and targets."""


def unet_loss(unet: UNet3D = PAPER) -> Loss:
    """Make the Dice loss of a U-Net.

    Args:
        unet: The network.

    Returns:
        A function of parameters, images (batch, x, y, z, channel) and targets (batch,
        x, y, z, class).
    """
    return partial(_loss_of, unet)


def loss_and_arguments(
    size: int, unet: UNet3D = PAPER, *, batch: int = 1, channels: int = 4
) -> tuple[Loss, tuple[Any, Array, Array]]:
    """Describe one training step for `jaxswap.plan` and `jaxswap.inspect`.

    Args:
        size: Voxels along each side.
        unet: The network; volumes have the type of its features.
        batch: Volumes.
        channels: Channels of the images.

    Returns:
        The loss, and the types of its parameters, images and targets.

    Raises:
        ValueError: If the size does not fit the network.

    Example:
        >>> loss, (parameters, images, targets) = loss_and_arguments(32)
        >>> images.shape
        (1, 32, 32, 32, 4)
    """
    shape = (batch, size, size, size)
    images: Any = jax.ShapeDtypeStruct((*shape, channels), unet.dtype)
    targets: Any = jax.ShapeDtypeStruct((*shape, unet.classes), unet.dtype)
    parameters = jax.eval_shape(unet.init, jax.random.key(0), images)
    return unet_loss(unet), (parameters, images, targets)


def _loss_of(unet: UNet3D, parameters: Any, images: Array, targets: Array) -> Array:
    logits = unet.apply(parameters, images)
    assert isinstance(logits, jax.Array)
    return dice_loss(logits, targets)
