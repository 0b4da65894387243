"""The three-dimensional U-Net that the Large Model Support papers train.

In: one volume a batch entry, channels last, sides divisible by 2 ** (depth - 1).
Out: one logit a class and voxel. The network is isensee2017 of ellisdg/3DUnetCNN:
residual context blocks on the way down, upsampling and a skip connection on the way
up, and segmentation heads of three levels summed into one output. Parameters are
float32; features are bfloat16 unless said otherwise.

Two deviations: stride-2 convolutions pad both sides (see `convolution`), and the
bias of a convolution that is followed by instance normalisation is a parameter but
is not added, because the normalisation subtracts it again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from jaxswap.medical.networks import convolution
from jaxswap.medical.networks.instance_norm import Moments
from jaxswap.medical.networks.layers import LEAN, Layers

Kind = Literal["plain", "strided", "upsampled", "transposed"]
"""Grid of a convolution's result: its input's, half, or twice in two ways."""

_MOST_LEVELS = 64  # No volume has sides of 2 ** 63.
_AXES = ("depth", "height", "width")


class UNet3D(nn.Module):
    """The isensee2017 network.

    Attributes:
        classes: Number of output channels.
        base_filters: Channels of the finest level; each level below has twice as many.
        depth: Number of levels. Sides must be divisible by 2 ** (depth - 1).
        dropout: Share of channels that the context blocks drop in training.
        segmentation_levels: Number of finest levels that have a segmentation head.
        head: "normalized" ends each head with normalisation and leaky ReLU (the
            papers' version, before June 2018), "bare" with the convolution.
        negative_slope: Slope of the leaky ReLU below zero.
        dtype: Type of the features. Parameters are float32.
        layers: Which implementation of the layers to use; all are the same function.
        lift: Applied to the class of the convolution blocks, e.g. `nn.remat`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> unet = UNet3D(classes=3, base_filters=2, depth=4)
        >>> volume = jax.ShapeDtypeStruct((1, 8, 8, 16, 4), jnp.float32)
        >>> init = unet.init_with_output
        >>> logits, parameters = jax.eval_shape(init, jax.random.key(0), volume)
        >>> logits.shape
        (1, 8, 8, 16, 3)

    References:
        Isensee et al. 2017, Brain Tumor Segmentation and Radiomics Survival Prediction.
    """

    classes: int = 3
    base_filters: int = 16
    depth: int = 5
    dropout: float = 0.3
    segmentation_levels: int = 3
    head: Literal["bare", "normalized"] = "normalized"
    negative_slope: float = 0.3
    dtype: Any = jnp.bfloat16
    layers: Layers = LEAN
    lift: Callable[[type[nn.Module]], type[nn.Module]] | None = None

    @property
    def multiple(self) -> int:
        """The number by which depth, height and width must be divisible."""
        return 2 ** (min(self.depth, _MOST_LEVELS) - 1)

    @property
    def convolution_names(self) -> tuple[str, ...]:
        """Names of all convolution outputs, for policies that go by name.

        They are the `checkpoint_name` of the values and the paths of the modules.
        """
        encoders = [
            f"encoder{level}/{block}/conv"
            for level in range(self.depth)
            for block in ("in_block", "context0", "context1")
        ]
        decoders = [
            f"decoder{level}/{block}/conv"
            for level in reversed(range(self.depth - 1))
            for block in ("up", "localize3", "localize1", "head")
            if block != "head" or level < self.segmentation_levels
        ]
        return (*encoders, *decoders)

    @nn.compact
    def __call__(self, volume: Array, *, deterministic: bool = True) -> Array:
        """Compute the logits.

        Args:
            volume: Image, (batch, depth, height, width, channel).
            deterministic: Whether to leave dropout out. If not, the "dropout" random
                stream is used.

        Returns:
            Logits of type `dtype`, (batch, depth, height, width, class).

        Raises:
            ValueError: If the configuration or the shape of `volume` does not fit.
        """
        self._check_configuration()
        check_volume_shape(volume.shape, self.depth)
        block = partial(
            (self.lift or (lambda block: block))(ConvBlock),
            negative_slope=self.negative_slope,
            layers=self.layers,
        )
        x = volume.astype(self.dtype)
        skips = []
        for level in range(self.depth):
            x = _Encoder(
                block,
                self.base_filters * 2**level,
                stride=1 if level == 0 else 2,
                dropout=self.dropout,
                name=f"encoder{level}",
            )(x, deterministic)
            skips.append(x)
        logits = None
        for level in reversed(range(self.depth - 1)):
            x, scores = _Decoder(
                block,
                self.base_filters * 2**level,
                classes=self.classes if level < self.segmentation_levels else 0,
                head=self.head,
                name=f"decoder{level}",
            )(skips[level], x)
            if logits is not None:
                scores = convolution.upsample(logits) + scores
            logits = scores
        assert logits is not None
        return logits

    def _check_configuration(self) -> None:
        if self.depth < 2:
            raise ValueError(f"`depth` is {self.depth}, but needs to be at least 2.")
        if not 1 <= self.segmentation_levels < self.depth:
            raise ValueError(
                f"`segmentation_levels` is {self.segmentation_levels}, but with "
                f"`depth` {self.depth} it needs to be 1 to {self.depth - 1}."
            )
        if self.head not in ("bare", "normalized"):
            raise ValueError(f"`head` is {self.head!r}; choose 'bare' or 'normalized'.")


def check_volume_shape(shape: tuple[int, ...], depth: int) -> None:
    """Raise ValueError if a U-Net of `depth` levels cannot take arrays of `shape`.

    Args:
        shape: (batch, depth, height, width, channel).
        depth: Number of levels of the network.
    """
    if len(shape) != 5:
        raise ValueError(
            "the volume needs the five axes (batch, depth, height, width, channel), "
            f"but its shape is {shape}."
        )
    multiple = 2 ** (depth - 1)
    for axis, size in zip(_AXES, shape[1:4], strict=True):
        if size == 0 or size % multiple:
            low, high = size // multiple * multiple, -(-size // multiple) * multiple
            fits = f"{low} or {high}" if low else str(high or multiple)
            raise ValueError(
                f"the {axis} of the volume is {size} voxels, but a U-Net with "
                f"`depth` {depth} needs a multiple of {multiple}: crop or pad it to "
                f"{fits}."
            )


class ConvBlock(nn.Module):
    """Convolution, instance normalisation and leaky ReLU; (batch, ..., channel).

    Attributes:
        features: Channels of the result.
        size: Voxels of the kernel along each side.
        kind: Grid of the result, see `Kind`.
        is_normalized: Whether to normalize; if not, there is no leaky ReLU either, and
            the bias is added.
        negative_slope: Slope of the leaky ReLU below zero.
        layers: Which implementation of the layers to use.
    """

    features: int
    size: int = 3
    kind: Kind = "plain"
    is_normalized: bool = True
    negative_slope: float = 0.3
    layers: Layers = LEAN

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        """Apply the block to the concatenation of `parts`."""
        y, moments = _Convolution(
            self.features,
            self.size,
            self.kind,
            is_normalized=self.is_normalized,
            layers=self.layers,
            name="conv",
        )(*parts)
        y = checkpoint_name(y, "/".join((*self.path, "conv")))
        if not self.is_normalized:
            return y
        return _Normalization(self.negative_slope, self.layers, name="norm")(y, moments)


class _Convolution(nn.Module):
    features: int
    size: int
    kind: Kind
    is_normalized: bool
    layers: Layers

    @nn.compact
    def __call__(self, *parts: Array) -> tuple[Array, Moments | None]:
        channels = sum(part.shape[-1] for part in parts)
        shape = (self.size,) * 3 + (channels, self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        first, *rest = parts
        moments = None
        with_moments = self.layers.convolve_with_moments if self.is_normalized else None
        if rest:
            y = self.layers.convolve_concatenation(parts, kernel)
        elif self.kind == "strided":
            y = self.layers.convolve_strided(first, kernel)
        elif self.kind == "upsampled":
            y = self.layers.convolve_upsampled(first, kernel)
        elif self.kind == "transposed":
            y = self.layers.convolve_transposed(first, kernel)
        elif with_moments is not None:
            y, moments = with_moments(first, kernel)
        else:
            y = self.layers.convolve(first, kernel)
        if not self.is_normalized:
            y = y + bias.astype(y.dtype).reshape(1, 1, 1, 1, -1)
        return y, moments


class _Normalization(nn.Module):
    negative_slope: float
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, moments: Moments | None) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        known = {} if moments is None else {"moments": moments}
        return self.layers.normalize(x, scale, bias, self.negative_slope, **known)


class _Encoder(nn.Module):
    """One level down: a convolution plus a residual context of two more."""

    block: Callable[..., nn.Module]
    features: int
    stride: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        kind = "plain" if self.stride == 1 else "strided"
        x = self.block(self.features, kind=kind, name="in_block")(x)
        y = self.block(self.features, name="context0")(x)
        y = nn.Dropout(self.dropout, broadcast_dims=(1, 2, 3), name="dropout")(
            y, deterministic=deterministic
        )
        return x + self.block(self.features, name="context1")(y)


class _Decoder(nn.Module):
    """One level up: upsample, join the skip connection, localize, and score."""

    block: Callable[..., nn.Module]
    features: int
    classes: int
    head: Literal["bare", "normalized"]

    @nn.compact
    def __call__(self, skip: Array, deeper: Array) -> tuple[Array, Any]:
        up = self.block(self.features, kind="upsampled", name="up")(deeper)
        x = self.block(self.features, name="localize3")(skip, up)
        x = self.block(self.features, size=1, name="localize1")(x)
        if not self.classes:
            return x, None
        is_normalized = self.head == "normalized"
        head = self.block(self.classes, 1, is_normalized=is_normalized, name="head")
        return x, head(x)


PAPER = UNet3D()
"""The network of the papers, for four channels and three labels."""

TINY = UNet3D(base_filters=4, depth=3, segmentation_levels=2, dropout=0.0)
"""A network for tests: seconds on a laptop, same layers, sides divisible by 4."""
