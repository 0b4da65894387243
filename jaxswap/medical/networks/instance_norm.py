"""Instance normalisation and leaky ReLU as one function with a lean backward pass.

Written with autodiff, normalisation leaves several full-size arrays for the
backward pass (`x - mean`, the normalised value, the mask of the activation), most
of them in float32. Everything the gradient needs can be rebuilt from the input and
three numbers a channel, so that is all this version stores.

Source of the form (epsilon added to the standard deviation, not to the variance):
keras-contrib `InstanceNormalization`, used by isensee2017 in ellisdg/3DUnetCNN.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxswap.medical.networks.shared_axes import summed_as

Moments = tuple[Array, Array]
"""Mean and variance over space, (batch, 1, 1, 1, channel), in float32 or wider."""

_SPATIAL_AXES = (-4, -3, -2)


def instance_norm_leaky_relu(
    x: Array,
    scale: Array,
    bias: Array,
    negative_slope: float = 0.3,
    epsilon: float = 1e-3,
    moments: Moments | None = None,
) -> Array:
    """Normalize each channel of each sample over space, then apply leaky ReLU.

    Statistics and arithmetic are in float32 (float64 for float64 input); input and
    output keep their own type, so a bfloat16 tensor is never stored in float32. The
    backward pass keeps `x` and three numbers a channel, and rebuilds the rest inside
    the loops that consume it.

    Args:
        x: Features, (batch, depth, height, width, channel), any float type.
        scale: Factor after normalisation, (channel,).
        bias: Term after normalisation, (channel,).
        negative_slope: Slope of the activation below zero. 1 means no activation.
        epsilon: Added to the standard deviation. Larger damps flat channels more.
        moments: Mean and variance of `x`, if they are known. Otherwise `x` is read for
            them. The gradient is the same: they are not differentiated by themselves.

    Returns:
        Activations with the shape and type of `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(8.0).reshape(1, 2, 2, 2, 1)
        >>> y = instance_norm_leaky_relu(x, jnp.ones(1), jnp.zeros(1))
        >>> y.shape, round(float(y.max()), 2)
        ((1, 2, 2, 2, 1), 1.53)

    References:
        Ulyanov, Vedaldi, Lempitsky 2016, Instance Normalization.
    """
    return _instance_norm_leaky_relu(x, scale, bias, negative_slope, epsilon, moments)


def moments_of(x: Array) -> Moments:
    """Return mean and variance of each channel of each sample over space.

    Args:
        x: Features, (batch, depth, height, width, channel), any float type.
    """
    dtype = _wide(x.dtype)
    mean = x.mean(_SPATIAL_AXES, dtype=dtype, keepdims=True)
    deviation = x.astype(dtype) - mean
    return mean, jnp.square(deviation).mean(_SPATIAL_AXES, keepdims=True)


def instance_norm_leaky_relu_textbook(
    x: Array, scale: Array, bias: Array, slope: float = 0.3, epsilon: float = 1e-3
) -> Array:
    """Write `instance_norm_leaky_relu` the usual way, for autodiff to take apart.

    Same arguments in the same order, same value. Kept as the reference in tests and
    comparisons. At a constant channel the gradient is undefined here, and zero in the
    lean version.
    """
    wide = x.astype(_wide(x.dtype))
    centered = wide - wide.mean(_SPATIAL_AXES, keepdims=True)
    std = jnp.sqrt(jnp.square(centered).mean(_SPATIAL_AXES, keepdims=True))
    y = centered / (std + epsilon) * _row(scale, wide.dtype)
    y = y + _row(bias, wide.dtype)
    return jnp.where(y >= 0, y, slope * y).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _instance_norm_leaky_relu(
    x: Array,
    scale: Array,
    bias: Array,
    negative_slope: float,
    epsilon: float,
    moments: Moments | None,
) -> Array:
    return _forward(x, scale, bias, negative_slope, epsilon, moments)[0]


def _forward(
    x: Array,
    scale: Array,
    bias: Array,
    negative_slope: float,
    epsilon: float,
    moments: Moments | None,
) -> tuple[Array, tuple[Any, ...]]:
    mean, variance = moments or moments_of(x)
    std = jnp.sqrt(variance)
    y = _affine(x, mean, std + epsilon, scale, bias)
    y = jnp.where(y >= 0, y, negative_slope * y).astype(x.dtype)
    return y, (x, mean, std, scale, bias, moments)


def _backward(
    negative_slope: float,
    epsilon: float,
    residuals: tuple[Any, ...],
    cotangent: Array,
) -> tuple[Array, Array, Array, Moments | None]:
    x, mean, std, scale, bias, moments = residuals
    spread = std + epsilon
    rebuild = partial(_rebuild, mean, spread, scale, bias, negative_slope)
    dy, centered = rebuild(x, cotangent)
    sum_dy = dy.sum(_SPATIAL_AXES, keepdims=True)
    sum_dy_centered = (dy * centered).sum(_SPATIAL_AXES, keepdims=True)

    # Rebuild once more: without the barrier XLA would store `dy`.
    x, cotangent, sum_dy, sum_dy_centered = lax.optimization_barrier(
        (x, cotangent, sum_dy, sum_dy_centered)
    )
    dy, centered = rebuild(x, cotangent)
    count = x.size // sum_dy.size
    gain = _row(scale, mean.dtype) / spread
    # d std / d x is centered / (count * std): zero for a constant channel.
    inverse_std = jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1), 0)
    along_centered = gain / spread * inverse_std * sum_dy_centered / count
    dx = gain * (dy - sum_dy / count) - along_centered * centered
    return (
        summed_as(x, dx.astype(x.dtype)),
        summed_as(scale, _sum_to(sum_dy_centered / spread, scale)),
        summed_as(bias, _sum_to(sum_dy, bias)),
        jax.tree.map(jnp.zeros_like, moments),
    )


def _rebuild(
    mean: Array,
    spread: Array,
    scale: Array,
    bias: Array,
    negative_slope: float,
    x: Array,
    cotangent: Array,
) -> tuple[Array, Array]:
    """Return the cotangent of the activation's input, and `x - mean`."""
    centered = x.astype(mean.dtype) - mean
    gain = _row(scale, mean.dtype) / spread
    # As `y >= 0` in the forward pass. XLA would share that one, and store its result.
    is_positive = centered * gain >= -_row(bias, mean.dtype)
    dy = cotangent.astype(mean.dtype)
    return jnp.where(is_positive, dy, negative_slope * dy), centered


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    """Return the type of the arithmetic for features of type `dtype`."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _affine(x: Array, mean: Array, spread: Array, scale: Array, bias: Array) -> Array:
    gain = _row(scale, mean.dtype) / spread
    return (x.astype(mean.dtype) - mean) * gain + _row(bias, mean.dtype)


def _row(parameter: Array, dtype: jnp.dtype) -> Array:
    return parameter.astype(dtype).reshape(1, 1, 1, 1, -1)


def _sum_to(per_sample: Array, parameter: Array) -> Array:
    return per_sample.reshape(-1, parameter.size).sum(0).astype(parameter.dtype)


_instance_norm_leaky_relu.defvjp(_forward, _backward)
