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

import jax
import jax.numpy as jnp
from jax import Array, lax

_SPATIAL_AXES = (-3, -2, -1)


def instance_norm_leaky_relu(
    x: Array,
    scale: Array,
    bias: Array,
    negative_slope: float = 0.3,
    epsilon: float = 1e-3,
) -> Array:
    """Normalize each channel of each sample over space, then apply leaky ReLU.

    Statistics and arithmetic are in float32 (float64 for float64 input); input and
    output keep their own type, so a bfloat16 tensor is never stored in float32. The
    backward pass keeps `x` and three numbers a channel, and rebuilds the rest inside
    the loops that consume it.

    Args:
        x: Features, (batch, channel, depth, height, width), any float type.
        scale: Factor after normalisation, (channel,).
        bias: Term after normalisation, (channel,).
        negative_slope: Slope of the activation below zero. 1 means no activation.
        epsilon: Added to the standard deviation. Larger damps flat channels more.

    Returns:
        Activations with the shape and type of `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(8.0).reshape(1, 1, 2, 2, 2)
        >>> y = instance_norm_leaky_relu(x, jnp.ones(1), jnp.zeros(1))
        >>> y.shape, round(float(y.max()), 2)
        ((1, 1, 2, 2, 2), 1.53)

    References:
        Ulyanov, Vedaldi, Lempitsky 2016, Instance Normalization.
    """
    return _instance_norm_leaky_relu(x, scale, bias, negative_slope, epsilon)


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
    y = centered / (std + epsilon) * _column(scale, wide.dtype)
    y = y + _column(bias, wide.dtype)
    return jnp.where(y >= 0, y, slope * y).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _instance_norm_leaky_relu(
    x: Array, scale: Array, bias: Array, negative_slope: float, epsilon: float
) -> Array:
    return _forward(x, scale, bias, negative_slope, epsilon)[0]


def _forward(
    x: Array, scale: Array, bias: Array, negative_slope: float, epsilon: float
) -> tuple[Array, tuple[Array, ...]]:
    mean, std = _statistics(x)
    y = _affine(x, mean, std + epsilon, scale, bias)
    y = jnp.where(y >= 0, y, negative_slope * y).astype(x.dtype)
    return y, (x, mean, std, scale, bias)


def _backward(
    negative_slope: float,
    epsilon: float,
    residuals: tuple[Array, ...],
    cotangent: Array,
) -> tuple[Array, Array, Array]:
    x, mean, std, scale, bias = residuals
    dy, normalized = _rebuild(
        x, cotangent, mean, std, scale, bias, negative_slope, epsilon
    )
    sum_dy = dy.sum(_SPATIAL_AXES, keepdims=True)
    sum_dy_normalized = (dy * normalized).sum(_SPATIAL_AXES, keepdims=True)

    # Rebuild once more: without the barrier XLA would store `dy` or its sign.
    x, cotangent, sum_dy, sum_dy_normalized = lax.optimization_barrier(
        (x, cotangent, sum_dy, sum_dy_normalized)
    )
    dy, normalized = _rebuild(
        x, cotangent, mean, std, scale, bias, negative_slope, epsilon
    )
    count = x.size // sum_dy.size
    # d std / d x is (x - mean) / (count * std): zero for a constant channel.
    inverse_std = jnp.where(std > 0, 1 / jnp.where(std > 0, std, 1), 0)
    scale_column = _column(scale, mean.dtype)
    gain = scale_column / (std + epsilon)
    along_normalized = scale_column * inverse_std * sum_dy_normalized / count
    dx = gain * (dy - sum_dy / count) - along_normalized * normalized
    return (
        dx.astype(x.dtype),
        _sum_to(sum_dy_normalized, scale),
        _sum_to(sum_dy, bias),
    )


def _rebuild(
    x: Array,
    cotangent: Array,
    mean: Array,
    std: Array,
    scale: Array,
    bias: Array,
    negative_slope: float,
    epsilon: float,
) -> tuple[Array, Array]:
    """Return the cotangent of the activation's input, and the normalised `x`."""
    normalized = (x.astype(mean.dtype) - mean) / (std + epsilon)
    y = _affine(x, mean, std + epsilon, scale, bias)
    dy = cotangent.astype(mean.dtype)
    return jnp.where(y >= 0, dy, negative_slope * dy), normalized


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    """Return the type of the arithmetic for features of type `dtype`."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _statistics(x: Array) -> tuple[Array, Array]:
    dtype = _wide(x.dtype)
    mean = x.mean(_SPATIAL_AXES, dtype=dtype, keepdims=True)
    deviation = x.astype(dtype) - mean
    variance = jnp.square(deviation).mean(_SPATIAL_AXES, keepdims=True)
    return mean, jnp.sqrt(variance)


def _affine(x: Array, mean: Array, spread: Array, scale: Array, bias: Array) -> Array:
    gain = _column(scale, mean.dtype) / spread
    return (x.astype(mean.dtype) - mean) * gain + _column(bias, mean.dtype)


def _column(parameter: Array, dtype: jnp.dtype) -> Array:
    return parameter.astype(dtype).reshape(1, -1, 1, 1, 1)


def _sum_to(per_sample: Array, parameter: Array) -> Array:
    return per_sample.reshape(-1, parameter.size).sum(0).astype(parameter.dtype)


_instance_norm_leaky_relu.defvjp(_forward, _backward)
