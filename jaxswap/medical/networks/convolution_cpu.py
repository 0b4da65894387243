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
    batch, _, *sides = x.shape
    depth, height, width = (side // 2 for side in sides)
    x = x.reshape(batch, channels, depth, 2, height, 2, width, 2)
    x = x.transpose(0, 3, 5, 7, 1, 2, 4, 6)
    x = x.reshape(batch, 8 * channels, depth, height, width)
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
    y = _convolve_slices(x, kernel.reshape(2, 2, 2, x.shape[1], -1), (1, 1))
    batch, _, *sides = y.shape
    depth, height, width = (side - 1 for side in sides)
    y = y.reshape(batch, 2, 2, 2, features, *sides)
    for axis, side in zip((1, 2, 3), (depth, height, width), strict=True):
        # An even voxel's window starts one coarse voxel before that of an odd one.
        even, odd = jnp.split(y, 2, axis)
        even = lax.slice_in_dim(even, 0, side, axis=axis + 4)
        odd = lax.slice_in_dim(odd, 1, side + 1, axis=axis + 4)
        y = jnp.concatenate([even, odd], axis)
    y = y.transpose(0, 4, 5, 1, 6, 2, 7, 3)
    return y.reshape(batch, features, 2 * depth, 2 * height, 2 * width)


def convolve_transposed_slices(x: Array, kernel: Array) -> Array:
    """Compute `convolution.convolve_transposed`: a product a voxel, interleaved."""
    y = jnp.einsum("bcdhw,ijkcf->bfdihjwk", x, kernel.astype(x.dtype))
    batch, features, depth, _, height, _, width, _ = y.shape
    return y.reshape(batch, features, 2 * depth, 2 * height, 2 * width)


def convolve_concatenation_slices(parts: tuple[Array, ...], kernel: Array) -> Array:
    """Compute `convolution.convolve_concatenation`."""
    return convolve_slices(jnp.concatenate(parts, axis=1), kernel)


def _even_and_odd(kernel: Array, axis: int) -> tuple[Array, Array]:
    """Split three fine taps along `axis` into two coarse taps for each parity."""
    first, middle, last = jnp.split(kernel, 3, axis)
    even = jnp.concatenate([first, middle + last], axis)
    odd = jnp.concatenate([first + middle, last], axis)
    return even, odd


def _convolve_slices(x: Array, kernel: Array, padding: _Padding) -> Array:
    """Convolve (batch, in, depth, height, width) at stride 1, slice by slice."""
    taps, features = kernel.shape[0], kernel.shape[-1]
    kernel = jnp.concatenate(list(kernel.astype(x.dtype)), axis=2)
    x = jnp.pad(x, ((0, 0), (0, 0), padding, (0, 0), (0, 0)))
    batch, channels, depth, height, width = x.shape
    depth -= taps - 1
    slices = [x[:, :, tap : tap + depth] for tap in range(taps)]
    x = jnp.concatenate(slices, axis=1).swapaxes(1, 2)
    y = lax.conv_general_dilated(
        x.reshape(batch * depth, taps * channels, height, width),
        kernel,
        window_strides=(1, 1),
        padding=[padding, padding],
        dimension_numbers=("NCHW", "HWIO", "NCHW"),
    )
    return y.reshape(batch, depth, features, *y.shape[2:]).swapaxes(1, 2)
