"""The residual-encoder U-Net of nnU-Net's presets, for whole volumes.

In: one volume a batch entry, channels last, sides divisible by 2 ** (levels - 1).
Out: one logit a class and voxel. Each level of the encoder is a stack of residual
blocks, the first of which halves the grid; each level of the decoder doubles the grid
with a transposed convolution, joins the skip connection and convolves once.
Parameters are float32; features are bfloat16 unless said otherwise.

As in `unet`, stride-2 convolutions pad both sides, and the bias of a convolution that
a normalisation follows is a parameter but is not added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxswap.medical.networks.layers import LEAN, Layers
from jaxswap.medical.networks.unet import ConvBlock, check_volume_shape

_SLOPE = 0.01


class ResidualUNet3D(nn.Module):
    """A U-Net with a deep residual encoder and a shallow decoder.

    Attributes:
        classes: Number of output channels.
        features: Channels of each level, finest first.
        blocks: Residual blocks of each level.
        dtype: Type of the features. Parameters are float32.
        layers: Which implementation of the layers to use; all are the same function.
        lift: Applied to the class of the residual blocks, e.g. `nn.remat`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> unet = ResidualUNet3D(classes=2, features=(2, 4), blocks=(1, 1))
        >>> volume = jax.ShapeDtypeStruct((1, 8, 8, 16, 4), jnp.float32)
        >>> init = unet.init_with_output
        >>> logits, parameters = jax.eval_shape(init, jax.random.key(0), volume)
        >>> logits.shape
        (1, 8, 8, 16, 2)

    References:
        Isensee et al. 2024, nnU-Net Revisited: A Call for Rigorous Validation in 3D
        Medical Image Segmentation. The defaults are its preset ResEnc L.
    """

    classes: int = 3
    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    dtype: Any = jnp.bfloat16
    layers: Layers = LEAN
    lift: Callable[[type[nn.Module]], type[nn.Module]] | None = None

    @property
    def multiple(self) -> int:
        """The number by which depth, height and width must be divisible."""
        return 2 ** (len(self.features) - 1)

    @nn.compact
    def __call__(
        self,
        volume: Array,
        *,
        deterministic: bool = True,
        all_levels: bool = False,
    ) -> Any:
        """Compute the logits.

        Args:
            volume: Image, (batch, depth, height, width, channel).
            deterministic: Makes no difference; there is no dropout.
            all_levels: Whether to score each level of the decoder, for training with
                deep supervision.

        Returns:
            Logits of type `dtype`, (batch, depth, height, width, class); with
            `all_levels`, a tuple of them, finest first, each with half the sides of
            the one before.

        Raises:
            ValueError: If the configuration or the shape of `volume` does not fit.
        """
        self._check_configuration()
        check_volume_shape(volume.shape, len(self.features))
        block = (self.lift or (lambda block: block))(ResidualBlock)
        conv = partial(ConvBlock, negative_slope=_SLOPE, layers=self.layers)
        x = volume.astype(self.dtype)
        x = conv(self.features[0], name="stem")(x)
        skips = []
        for level, (features, count) in enumerate(
            zip(self.features, self.blocks, strict=True)
        ):
            for index in range(count):
                is_halved = level > 0 and index == 0
                name = f"encoder{level}_block{index}"
                x = block(features, is_halved, self.layers, name=name)(x)
            skips.append(x)
        scores = []
        for level in reversed(range(len(self.features) - 1)):
            features, name = self.features[level], f"decoder{level}"
            up = conv(
                features, 2, "transposed", is_normalized=False, name=f"{name}_up"
            )(x)
            x = conv(features, name=f"{name}_join")(skips[level], up)
            if level == 0 or all_levels:
                head = conv(self.classes, 1, is_normalized=False, name=f"{name}_head")
                scores.append(head(x))
        return tuple(reversed(scores)) if all_levels else scores[-1]

    def _check_configuration(self) -> None:
        if len(self.features) < 2 or len(self.features) != len(self.blocks):
            raise ValueError(
                f"`features` {self.features} and `blocks` {self.blocks} need one "
                "number for each level, and at least two levels."
            )
        if min(*self.features, *self.blocks) < 1:
            raise ValueError(
                f"`features` {self.features} and `blocks` {self.blocks} must be "
                "positive."
            )


class ResidualBlock(nn.Module):
    """Two convolutions beside a short cut; (batch, ..., channel).

    Attributes:
        features: Channels of the result.
        is_halved: Whether the first convolution has stride 2.
        layers: Which implementation of the layers to use.
    """

    features: int
    is_halved: bool = False
    layers: Layers = LEAN

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply the block."""
        conv = partial(ConvBlock, self.features, layers=self.layers)
        y = conv(
            kind="strided" if self.is_halved else "plain",
            negative_slope=_SLOPE,
            name="conv0",
        )(x)
        y = conv(negative_slope=1.0, name="conv1")(y)
        if self.is_halved:
            x = _halved(x)
        if x.shape[-1] != self.features:
            x = conv(size=1, negative_slope=1.0, name="short_cut")(x)
        return jax.nn.leaky_relu(x + y, _SLOPE)


def _halved(x: Array) -> Array:
    """Means of 2x2x2 voxels."""
    batch, depth, height, width, channels = x.shape
    x = x.reshape(batch, depth // 2, 2, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(x, (2, 4, 6), dtype=jnp.float32).astype(x.dtype)
