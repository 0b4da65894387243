"""Convolutions of few channels by kernels of their own, in Pallas for Triton.

They are 3x3x3 convolutions of stride 1, channels last. As matrix products they would
read each voxel 27 times. Here a program goes through the planes of its tile one after
the other. It reads each of them nine times, and adds to three planes of the result.

Whether that is faster than cuDNN is for each GPU to say: see `fastest_layers`.
"""

from __future__ import annotations

import importlib.util
import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxswap.medical.networks.convolution_programs import ACROSS, Convolution
from jaxswap.medical.networks.instance_norm import Moments, moments_of

TYPES = ("bfloat16", "float16", "float32")
"""The numbers that kernels take; they are summed in float32."""
FEWEST_CHANNELS, MOST_CHANNELS = 4, 64
"""How few and how many channels features and results may have."""
OLDEST = (8, 0)
"""The compute capability from which on GPUs run the kernels: Ampere."""

_MOST_NUMBERS = 2**31
"""That 32 bits count."""


def can_take(shape: tuple[int, ...], kernel_shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether there are kernels for a convolution of stride 1, and this JAX runs them.

    Args:
        shape: Of the features, (batch, depth, height, width, in).
        kernel_shape: Of the kernel, (depth, height, width, in, out).
        dtype: Of both.
    """
    fewest, most = sorted(kernel_shape[3:])
    numbers = math.prod(shape[:4]) * most
    return (
        jnp.dtype(dtype).name in TYPES
        and kernel_shape[:3] == (3, 3, 3)
        and fewest >= FEWEST_CHANNELS
        and most <= MOST_CHANNELS
        and 0 < numbers < _MOST_NUMBERS
        and _has_triton()
    )


def convolve(x: Array, kernel: Array, is_interpreted: bool = False) -> Array:
    """Convolve features with zeros around them. `convolve_by` has its gradient.

    Its derivatives are those of JAX's convolution, so that gradients have gradients.

    Args:
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel in the same type, (3, 3, 3, in, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The result, (batch, depth, height, width, out).
    """
    return _convolve(is_interpreted, x, kernel)


def convolve_with_moments(
    x: Array, kernel: Array, is_interpreted: bool = False
) -> tuple[Array, Moments]:
    """Convolve as `convolve` does, and return mean and variance of the result.

    Args:
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel in the same type, (3, 3, 3, in, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The result, and its moments over space as it is stored.
    """
    return _convolve_with_moments(is_interpreted, x, kernel)


def kernel_gradient(x: Array, gradient: Array, is_interpreted: bool = False) -> Array:
    """Return the gradient of the kernel of `convolve`.

    Args:
        x: The features, (batch, depth, height, width, in).
        gradient: Of the result, in the same type, (batch, depth, height, width, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The gradient, (3, 3, 3, in, out), in float32.
    """
    return _kernel_gradient(is_interpreted, x, gradient)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(is_interpreted: bool, x: Array, kernel: Array) -> Array:
    return Convolution.of(x, kernel.shape[4], 1, is_interpreted).forward(x, kernel)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve_with_moments(
    is_interpreted: bool, x: Array, kernel: Array
) -> tuple[Array, Moments]:
    convolution = Convolution.of(x, kernel.shape[4], 1, is_interpreted)
    return convolution.with_moments(x, kernel)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _kernel_gradient(is_interpreted: bool, x: Array, gradient: Array) -> Array:
    programs = len(ACROSS)
    convolution = Convolution.of(x, gradient.shape[4], programs, is_interpreted)
    return convolution.kernel_gradient(x, gradient)


_Operands = tuple[Array, Array]


@_convolve.defjvp
def _(is_interpreted: bool, operands: _Operands, tangents: _Operands) -> _Operands:
    tangent = jax.jvp(by_jax, operands, tangents)[1]
    return _convolve(is_interpreted, *operands), tangent


@_convolve_with_moments.defjvp
def _(is_interpreted: bool, operands: _Operands, tangents: _Operands) -> Any:
    tangent = jax.jvp(with_moments_by_jax, operands, tangents)[1]
    return _convolve_with_moments(is_interpreted, *operands), tangent


@_kernel_gradient.defjvp
def _(is_interpreted: bool, operands: _Operands, tangents: _Operands) -> _Operands:
    tangent = jax.jvp(kernel_gradient_by_jax, operands, tangents)[1]
    return _kernel_gradient(is_interpreted, *operands), tangent


def by_jax(x: Array, kernel: Array) -> Array:
    """Convolve by JAX's convolution: what kernels must equal."""
    axes = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=axes
    )


def with_moments_by_jax(x: Array, kernel: Array) -> tuple[Array, Moments]:
    """Convolve by JAX, and read the result for its moments."""
    y = by_jax(x, kernel)
    return y, moments_of(y)


def kernel_gradient_by_jax(x: Array, gradient: Array) -> Array:
    """Return the gradient of the kernel of JAX's convolution, in float32."""
    counts = (x.shape[4], gradient.shape[4])
    kernel = jax.ShapeDtypeStruct((3, 3, 3, *counts), x.dtype)
    pull = jax.linear_transpose(partial(by_jax, x), kernel)
    return pull(gradient)[0].astype(jnp.float32)


@cache
def _has_triton() -> bool:
    """Whether this JAX has kernels in Triton. It will not have them for good."""
    return importlib.util.find_spec("jax.experimental.pallas.triton") is not None


def mirrored(kernel: Array) -> Array:
    """Return the kernel whose convolution is the gradient of the features."""
    return jnp.swapaxes(lax.rev(kernel, (0, 1, 2)), 3, 4)
