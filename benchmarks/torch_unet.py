"""The same U-Net in PyTorch, as PyTorch users write it.

Layer by layer `jaxswap.medical.networks.unet.UNet3D`: the same convolutions with as
many parameters, channels first. Parameters are float32 and cast where they are used.
PyTorch's own normalisation adds its epsilon to the variance instead of the standard
deviation, and layers are the textbook ones: upsampled and concatenated arrays exist.
"""

# pyright: reportMissingImports=false
# PyTorch is used where it is installed; it is no requirement.

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

Around = Callable[[nn.Module], Callable[..., Tensor]]
"""What is done with each convolution block before it is called."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The numbers that define a network; the defaults are the papers'."""

    channels: int = 4
    classes: int = 3
    base_filters: int = 16
    depth: int = 5
    segmentation_levels: int = 3
    negative_slope: float = 0.3


class Block(nn.Module):
    """Convolution, instance normalisation and leaky ReLU; (batch, channel, ...)."""

    def __init__(
        self,
        inputs: int,
        features: int,
        size: int = 3,
        stride: int = 1,
        slope: float = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, features, size, stride, size // 2)
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block in the type of `x`."""
        kind, conv = x.dtype, self.conv
        weight, bias = conv.weight.to(kind), conv.bias
        x = functional.conv3d(
            x,
            weight,
            None if bias is None else bias.to(kind),
            conv.stride,
            conv.padding,
        )
        scale, shift = self.scale.to(kind), self.shift.to(kind)
        x = functional.instance_norm(x, weight=scale, bias=shift, eps=1e-5)
        return functional.leaky_relu(x, self.slope)


class UNet3D(nn.Module):
    """The isensee2017 network; `around` is applied to each block when it is called."""

    def __init__(
        self, shape: Shape | None = None, around: Around = lambda b: b
    ) -> None:
        super().__init__()
        self.shape = shape = shape or Shape()
        self.around = around
        self.blocks = nn.ModuleDict()
        inputs = shape.channels
        widths = [shape.base_filters * 2**level for level in range(shape.depth)]
        for level, width in enumerate(widths):
            self._add(f"encoder{level}_in", inputs, width, stride=2 if level else 1)
            self._add(f"encoder{level}_context0", width, width)
            self._add(f"encoder{level}_context1", width, width)
            inputs = width
        for level in reversed(range(shape.depth - 1)):
            width = widths[level]
            self._add(f"decoder{level}_up", 2 * width, width)
            self._add(f"decoder{level}_localize3", 2 * width, width)
            self._add(f"decoder{level}_localize1", width, width, size=1)
            if level < shape.segmentation_levels:
                self._add(f"decoder{level}_head", width, shape.classes, size=1)

    def _add(
        self, name: str, inputs: int, features: int, size: int = 3, stride: int = 1
    ) -> None:
        slope = self.shape.negative_slope
        self.blocks[name] = Block(inputs, features, size, stride, slope)

    def _call(self, name: str, x: Tensor) -> Tensor:
        return self.around(self.blocks[name])(x)

    def forward(self, volume: Tensor) -> Tensor:
        """Compute the logits; (batch, channel, depth, height, width) in and out."""
        x, skips = volume, []
        for level in range(self.shape.depth):
            x = self._call(f"encoder{level}_in", x)
            context = self._call(f"encoder{level}_context0", x)
            x = x + self._call(f"encoder{level}_context1", context)
            skips.append(x)
        logits = None
        for level in reversed(range(self.shape.depth - 1)):
            x = self._call(f"decoder{level}_up", _upsample(x))
            x = torch.cat([skips[level], x], dim=1)
            x = self._call(f"decoder{level}_localize3", x)
            x = self._call(f"decoder{level}_localize1", x)
            if level < self.shape.segmentation_levels:
                scores = self._call(f"decoder{level}_head", x)
                logits = scores if logits is None else _upsample(logits) + scores
        assert logits is not None
        return logits


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def dice_loss(logits: Tensor, targets: Tensor, smoothing: float = 1e-5) -> Tensor:
    """Compute minus the mean soft Dice over examples and classes, in float32."""
    probabilities, targets = torch.sigmoid(logits.float()), targets.float()
    axes = (2, 3, 4)
    overlap = (probabilities * targets).sum(axes)
    volume = probabilities.sum(axes) + targets.sum(axes)
    return -((2 * overlap + smoothing) / (volume + smoothing)).mean()
