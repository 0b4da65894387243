"""ResNet-50, in training mode.

The architecture is He et al. 2016 (Deep Residual Learning for Image Recognition) with
the stride in the 3x3 convolution (ResNet v1.5, as flax's ImageNet example and all
current implementations have it). Images are channels last. Parameters are float32,
activations bfloat16; batch normalisation computes its statistics in float32.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax import Array
from jax.ad_checkpoint import checkpoint_name

CONVOLUTION = "convolution"
"""The `checkpoint_name` of every convolution's output."""


class Convolution(nn.Module):
    """Convolution and batch normalisation."""

    features: int
    size: int
    stride: int = 1
    dtype: Any = jnp.bfloat16

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply both; (batch, height, width, channel) in and out."""
        sizes, strides = (self.size,) * 2, (self.stride,) * 2
        padding = self.size // 2
        x = nn.Conv(
            self.features,
            sizes,
            strides,
            padding=padding,
            use_bias=False,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = checkpoint_name(x, CONVOLUTION)
        norm = nn.BatchNorm(use_running_average=False, dtype=self.dtype, name="norm")
        return norm(x)


class Bottleneck(nn.Module):
    """The residual block of ResNet-50: 1x1, 3x3 and 1x1 convolutions."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply the block; (batch, height, width, channel) in and out."""
        convolution = partial(Convolution, dtype=self.dtype)
        width = 4 * self.features
        y = nn.relu(convolution(self.features, 1, name="reduce")(x))
        y = nn.relu(convolution(self.features, 3, self.stride, name="spatial")(y))
        y = convolution(width, 1, name="expand")(y)
        if x.shape != y.shape:
            x = convolution(width, 1, self.stride, name="project")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """The classifier.

    Attributes:
        stages: Number of blocks of each stage; those of ResNet-50.
        features: Channels of the first stage; each stage has twice as many as the last.
        classes: Number of classes.
        policy: What `nn.remat` around each block saves; None is no `nn.remat`.
        dtype: Type of the activations. Parameters are float32.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)
    features: int = 64
    classes: int = 1000
    policy: Any = None
    dtype: Any = jnp.bfloat16

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Compute float32 logits; (batch, height, width, channel) in."""
        block: Any = Bottleneck
        if self.policy is not None:
            block = nn.remat(Bottleneck, policy=self.policy)
        x = images.astype(self.dtype)
        x = nn.relu(Convolution(self.features, 7, 2, self.dtype, name="stem")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                name = f"stage{stage}_block{index}"
                width = self.features * 2**stage
                x = block(width, stride, self.dtype, name=name)(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dense(self.classes, dtype=self.dtype, name="classify")(x)
        return x.astype(jnp.float32)


def cross_entropy(
    model: ResNet, parameters: Any, images: Array, labels: Array
) -> Array:
    """Return the mean cross entropy; the new running averages are not kept."""
    logits, _ = model.apply(parameters, images, mutable=["batch_stats"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses)
