"""Changes of one channel's intensities: noise, blur, contrast, coarser voxels.

Every function takes a volume and returns one of the same shape, float32. Functions with
an argument `inside` measure mean, standard deviation and range only in the brain.
Otherwise the result would depend on the number of zeros around it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

_SMALLEST_RANGE = 1e-7


def add_noise(volume: Array, key: Array, deviation: Array) -> Array:
    """Add independent Gaussian noise to every voxel.

    Args:
        volume: Float32, (x, y, z).
        key: Random key.
        deviation: Standard deviation of the noise, in the units of the volume.
    """
    return volume + deviation * jax.random.normal(key, volume.shape, jnp.float32)


def blur(volume: Array, deviations: Array, radius: int) -> Array:
    """Blur with a Gaussian. Beyond the border, the outermost voxels are repeated.

    Args:
        volume: Float32, (x, y, z).
        deviations: Standard deviation of the Gaussian along each axis, in voxels, (3,).
        radius: Distance at which the Gaussian is cut off, in voxels.
    """
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    for axis in range(3):
        weights = jnp.exp(-0.5 * (offsets / deviations[axis]) ** 2)
        weights /= weights.sum()
        margin = [(radius, radius) if other == axis else (0, 0) for other in range(3)]
        padded = jnp.pad(volume, margin, mode="edge")
        side = volume.shape[axis]
        # Shifted copies fuse into one pass. A convolution would need a channel axis.
        volume = sum(
            (
                weights[start]
                * lax.slice_in_dim(padded, start, start + side, axis=axis)
                for start in range(2 * radius + 1)
            ),
            start=jnp.zeros_like(volume),
        )
    return volume


def change_contrast(volume: Array, inside: Array, factor: Array) -> Array:
    """Stretch intensities about their mean. Clip them to the range that they had.

    Args:
        volume: Float32, (x, y, z).
        inside: Voxels of the brain, bool, (x, y, z).
        factor: Above 1 for more contrast.
    """
    low, high = _range(volume, inside)
    mean = _mean(volume, inside)
    return jnp.clip((volume - mean) * factor + mean, low, high)


def coarsen(volume: Array, scale: Array) -> Array:
    """Sample the volume on a coarser grid (nearest), and back again (linearly).

    The coarse grid is never made, because its shape would have to be known when the
    program is compiled. Instead, each voxel of the result is computed from its two
    neighbours on the coarse grid, along each axis.

    Args:
        volume: Float32, (x, y, z).
        scale: Voxels of the coarse grid along each axis over those of the volume, 0..1.
    """
    for axis, side in enumerate(volume.shape):
        coarse_side = jnp.maximum(jnp.round(side * scale), 1)
        place = (jnp.arange(side, dtype=jnp.float32) + 0.5) * (coarse_side / side) - 0.5
        place = jnp.clip(place, 0, coarse_side - 1)
        below = jnp.floor(place)
        above = jnp.minimum(below + 1, coarse_side - 1)
        share = jnp.expand_dims(
            place - below, [other for other in range(3) if other != axis]
        )
        first, second = (
            jnp.take(volume, _source(voxel, side, coarse_side), axis, mode="clip")
            for voxel in (below, above)
        )
        volume = first + share * (second - first)
    return volume


def apply_gamma(
    volume: Array, inside: Array, exponent: Array, *, is_inverted: bool = False
) -> Array:
    """Raise intensities, scaled to 0..1, to a power. Mean and deviation stay.

    Args:
        volume: Float32, (x, y, z).
        inside: Voxels of the brain, bool, (x, y, z).
        exponent: Below 1 spreads the dark intensities, above 1 the bright ones.
        is_inverted: Whether dark and bright are exchanged while it is applied.
    """
    sign = -1.0 if is_inverted else 1.0
    signed = sign * volume
    low, high = _range(signed, inside)
    extent = high - low
    unit = jnp.clip((signed - low) / jnp.maximum(extent, _SMALLEST_RANGE), 0, 1)
    raised = unit**exponent * extent + low
    mean, deviation = _mean(signed, inside), _deviation(signed, inside)
    raised -= _mean(raised, inside)
    raised *= deviation / jnp.maximum(_deviation(raised, inside), _SMALLEST_RANGE)
    return sign * (raised + mean)


def _source(voxel: Array, side: int, coarse_side: Array) -> Array:
    """Return the voxel in the middle of a voxel of the coarse grid."""
    return jnp.floor((voxel + 0.5) * (side / coarse_side)).astype(jnp.int32)


def _mean(volume: Array, inside: Array) -> Array:
    count = jnp.maximum(inside.sum(dtype=jnp.int32), 1).astype(jnp.float32)
    return jnp.where(inside, volume, 0).sum() / count


def _deviation(volume: Array, inside: Array) -> Array:
    return jnp.sqrt(_mean((volume - _mean(volume, inside)) ** 2, inside))


def _range(volume: Array, inside: Array) -> tuple[Array, Array]:
    low = jnp.where(inside, volume, jnp.inf).min()
    return low, jnp.where(inside, volume, -jnp.inf).max()
