"""The convolutions of the U-Net in a form that XLA computes fast on a CPU.

Same functions of the same kernels as `convolution`. XLA's three-dimensional
convolution on CPU is several times slower than its two-dimensional one, and slower
by another order where the input is dilated, as in the gradient of a strided
convolution. Here the depth axis of a kernel becomes channels of a two-dimensional
convolution over slices, and strides and upsampling become channels as well.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxswap.medical.networks.convolution import convolve

_Padding = tuple[int, int]


def convolve_slices(x: Array, kernel: Array) -> Array:
    """Compute `convolution.convolve` at stride 1."""
    half = kernel.shape[0] // 2
    if half == 0:
        return convolve(x, kernel)
    return _convolve_slices(x, kernel, (half, half))


def convolve_strided_slices(x: Array, kernel: Array) -> Array:
    """Compute `convolution.convolve_strided`, for 3x3x3 kernels and even sides.

    Each block of 2x2x2 voxels becomes 8 times the channels; the kernel, padded to
    4x4x4, becomes a 2x2x2 kernel of blocks.
    """
    kernel = jnp.pad(kernel, ((1, 0),) * 3 + ((0, 0),) * 2)
    channels, features = kernel.shape[3:]
    kernel = kernel.reshape(2, 2, 2, 2, 2, 2, channels, features)
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5, 6, 7)
    kernel = kernel.reshape(2, 2, 2, 8 * channels, features)
    batch, *sides, _ = x.shape
    depth, height, width = (side // 2 for side in sides)
    x = x.reshape(batch, depth, 2, height, 2, width, 2, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    x = x.reshape(batch, depth, height, width, 8 * channels)
    return _convolve_slices(x, kernel, (1, 0))


def convolve_upsampled_slices(x: Array, kernel: Array) -> Array:
    """Compute `convolution.convolve_upsampled`, for 3x3x3 kernels.

    A fine voxel sees 2x2x2 coarse ones, and which depends on whether its indices are
    even or odd. So 8 kernels of 2x2x2 are applied to the coarse grid and interleaved.
    """
    for axis in range(3):
        even, odd = _even_and_odd(kernel, axis)
        kernel = jnp.stack([even, odd], axis=-2)  # (..., in, parities so far, out)
    features = kernel.shape[-1]
    y = _convolve_slices(x, kernel.reshape(2, 2, 2, x.shape[-1], -1), (1, 1))
    batch, *sides, _ = y.shape
    depth, height, width = (side - 1 for side in sides)
    y = y.reshape(batch, *sides, 2, 2, 2, features)
    for axis, side in zip((1, 2, 3), (depth, height, width), strict=True):
        # An even voxel's window starts one coarse voxel before that of an odd one.
        even, odd = jnp.split(y, 2, axis + 3)
        even = lax.slice_in_dim(even, 0, side, axis=axis)
        odd = lax.slice_in_dim(odd, 1, side + 1, axis=axis)
        y = jnp.concatenate([even, odd], axis + 3)
    y = y.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return y.reshape(batch, 2 * depth, 2 * height, 2 * width, features)


def convolve_transposed_slices(x: Array, kernel: Array) -> Array:
    """Compute `convolution.convolve_transposed`: a product a voxel, interleaved."""
    y = jnp.einsum("bdhwc,ijkcf->bdihjwkf", x, kernel.astype(x.dtype))
    batch, depth, _, height, _, width, _, features = y.shape
    return y.reshape(batch, 2 * depth, 2 * height, 2 * width, features)


def convolve_concatenation_slices(parts: tuple[Array, ...], kernel: Array) -> Array:
    """Compute `convolution.convolve_concatenation`."""
    return convolve_slices(jnp.concatenate(parts, axis=-1), kernel)


def _even_and_odd(kernel: Array, axis: int) -> tuple[Array, Array]:
    """Split three fine taps along `axis` into two coarse taps for each parity."""
    first, middle, last = jnp.split(kernel, 3, axis)
    even = jnp.concatenate([first, middle + last], axis)
    odd = jnp.concatenate([first + middle, last], axis)
    return even, odd


def _convolve_slices(x: Array, kernel: Array, padding: _Padding) -> Array:
    """Convolve (batch, depth, height, width, in) at stride 1, slice by slice."""
    taps = kernel.shape[0]
    kernel = jnp.concatenate(list(kernel.astype(x.dtype)), axis=2)
    x = jnp.pad(x, ((0, 0), padding, (0, 0), (0, 0), (0, 0)))
    batch, depth, height, width, channels = x.shape
    depth -= taps - 1
    slices = [x[:, tap : tap + depth] for tap in range(taps)]
    x = jnp.concatenate(slices, axis=-1)
    y = lax.conv_general_dilated(
        x.reshape(batch * depth, height, width, taps * channels),
        kernel,
        window_strides=(1, 1),
        padding=[padding, padding],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(batch, depth, *y.shape[1:])
