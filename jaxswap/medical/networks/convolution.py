"""The three-dimensional convolutions of the U-Net, channels last.

cuDNN computes on the channels of one voxel at a time, so arrays here are (batch,
depth, height, width, channel). Channels first, each convolution would convert its
operands and its result in a workspace of their size. By itself XLA stores
three-dimensional features channels first all the same, and is told not to by
`jaxswap.compiler_options`. Kernels keep Flax's shape, (depth, height, width, in,
out), and are cast to the type of the features.

Two layers of the decoder exist in two forms that compute the same function of the
same kernel. The textbook form builds a large temporary; the lean form does not:

* A convolution of a concatenation is the sum of one convolution for each part.
* A nearest-neighbor upsampling and a 3x3x3 convolution are one transposed
  convolution of stride 2, whose 4x4x4 kernel sums the shifted 3x3x3 kernel. It
  needs 8 multiplications for each fine voxel and channel pair instead of 27.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from jaxswap.medical.networks.convolution_forms import (
    PLAIN,
    Kind,
    Passes,
    convolve_by,
    forms_of,
)


def convolve(x: Array, kernel: Array) -> Array:
    """Convolve with zero padding of half the kernel on both sides.

    Args:
        x: Features, (batch, depth, height, width, in).
        kernel: Odd-sized kernel, (size, size, size, in, out).

    Returns:
        Features, (batch, depth, height, width, out).
    """
    return _plain("convolve", x, kernel)


def convolve_strided(x: Array, kernel: Array) -> Array:
    """Convolve as `convolve` does and keep every other voxel of each axis.

    The padding is on both sides. TensorFlow's "same" pads one side only, which cuDNN
    cannot do, so XLA would store a padded copy of the input.

    Args:
        x: Features, (batch, depth, height, width, in).
        kernel: Odd-sized kernel, (size, size, size, in, out).

    Returns:
        Features, (batch, depth / 2, height / 2, width / 2, out).
    """
    return _plain("convolve_strided", x, kernel)


def convolve_concatenation(
    parts: tuple[Array, ...],
    kernel: Array,
    convolve: Callable[[Array, Array], Array] = convolve,
) -> Array:
    """Convolve the concatenation of `parts` along channels without building it.

    Args:
        parts: Features of equal spatial shape, (batch, depth, height, width, in_i).
        kernel: Kernel of the concatenation, (size, size, size, sum of in_i, out).
        convolve: The convolution of one part.

    Returns:
        Features, (batch, depth, height, width, out).
    """
    ends = [sum(p.shape[-1] for p in parts[: i + 1]) for i in range(len(parts))]
    kernels = jnp.split(kernel, ends[:-1], axis=3)
    first, *rest = [convolve(p, k) for p, k in zip(parts, kernels, strict=True)]
    return sum(rest, start=first)


def convolve_concatenation_textbook(parts: tuple[Array, ...], kernel: Array) -> Array:
    """Concatenate, then convolve: what `convolve_concatenation` equals."""
    return convolve(jnp.concatenate(parts, axis=-1), kernel)


def upsample(x: Array) -> Array:
    """Repeat each voxel of (batch, depth, height, width, channel) twice per axis."""
    batch, depth, height, width, channels = x.shape
    x = x[:, :, None, :, None, :, None]
    x = jnp.broadcast_to(x, (batch, depth, 2, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * depth, 2 * height, 2 * width, channels)


def convolve_upsampled(x: Array, kernel: Array) -> Array:
    """Convolve the twofold nearest-neighbor upsampling of `x` without building it.

    Args:
        x: Coarse features, (batch, depth, height, width, in).
        kernel: Kernel of the fine convolution, (3, 3, 3, in, out).

    Returns:
        Fine features, (batch, 2 depth, 2 height, 2 width, out).

    Raises:
        ValueError: If the kernel is not 3x3x3.
    """
    if kernel.shape[:3] != (3, 3, 3):
        raise ValueError(f"`kernel` must be 3x3x3, not {kernel.shape[:3]}.")
    return _plain("convolve_upsampled", x, kernel)


def convolve_transposed(x: Array, kernel: Array) -> Array:
    """Double the grid: each voxel spreads over the 2x2x2 voxels that it becomes.

    Args:
        x: Coarse features, (batch, depth, height, width, in).
        kernel: What a voxel becomes, (2, 2, 2, in, out).

    Returns:
        Fine features, (batch, 2 depth, 2 height, 2 width, out).

    Raises:
        ValueError: If the kernel is not 2x2x2.
    """
    if kernel.shape[:3] != (2, 2, 2):
        raise ValueError(f"`kernel` must be 2x2x2, not {kernel.shape[:3]}.")
    return _plain("convolve_transposed", x, kernel)


def convolve_upsampled_textbook(x: Array, kernel: Array) -> Array:
    """Upsample, then convolve: what `convolve_upsampled` equals."""
    return convolve(upsample(x), kernel)


def _plain(kind: Kind, x: Array, kernel: Array) -> Array:
    form = forms_of(kind, x.shape, kernel.shape)[PLAIN]
    return convolve_by(Passes(form, form, form), x, kernel)
