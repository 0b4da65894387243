"""Drawing and applying the intensity changes that an `AugmentConfig` allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxswap.medical.preparing import intensities
from jaxswap.medical.preparing.augment_config import AugmentConfig, Range

_BLUR_CUTOFF = 4  # In standard deviations.
_SHARES = 4  # Random numbers that a change of one channel may use.


def augment_intensities(key: Array, image: Array, config: AugmentConfig) -> Array:
    """Change the intensities of an image at random.

    Which changes are made is drawn once for the image. How large they are is drawn for
    each channel. Only one channel at a time is in float32. So besides input and output,
    only a few volumes of one channel are in memory.

    Args:
        key: Random key.
        image: (x, y, z, channel), floating point. Voxels with 0 in all channels are
            outside the brain. They stay exactly 0.
        config: What may change.

    Returns:
        Image of the same shape and dtype.
    """
    names = [name for name in _CHANGES if _probability(config, name)]
    if not names:
        return image
    drawn_key, share_key, noise_key = jax.random.split(key, 3)
    probabilities = jnp.array([_probability(config, name) for name in names])
    drawn = jax.random.bernoulli(drawn_key, probabilities)
    # All at once, because every draw is a program of its own to compile.
    channels = image.shape[-1]
    shares = jax.random.uniform(share_key, (channels, len(names), _SHARES))

    def change(image: Array) -> Array:
        inside = jnp.any(image != 0, -1)

        def one_channel(channel: Array, image: Array) -> Array:
            volume = lax.dynamic_index_in_dim(image, channel, -1, keepdims=False)
            volume = volume.astype(jnp.float32)
            key = jax.random.fold_in(noise_key, channel)
            for number, name in enumerate(names):
                draw = _Draw(
                    shares[channel, number], shares[0, number, 0], key, inside, config
                )
                changed = partial(_CHANGES[name], draw)
                volume = lax.cond(drawn[number], changed, _same, volume)
            volume = jnp.where(inside, volume, 0).astype(image.dtype)
            return lax.dynamic_update_index_in_dim(image, volume, channel, -1)

        return lax.fori_loop(0, channels, one_channel, image)

    return lax.cond(drawn.any(), change, _same, image)


class _Draw(NamedTuple):
    """The random numbers for one change of one channel.

    Attributes:
        shares: Random numbers of this change and channel, uniform in 0..1, (4,).
        common_share: A random number that all channels share, a scalar.
        key: Key of the channel's noise.
        inside: The brain, bool, (x, y, z).
        config: What may change.
    """

    shares: Array
    common_share: Array
    key: Array
    inside: Array
    config: AugmentConfig


def _noise(draw: _Draw, volume: Array) -> Array:
    deviation = _between(draw.common_share, draw.config.noise_deviation)
    return intensities.add_noise(volume, draw.key, deviation)


def _blur(draw: _Draw, volume: Array) -> Array:
    deviations = _between(draw.shares[1:], draw.config.blur_voxels)
    radius = math.ceil(_BLUR_CUTOFF * draw.config.blur_voxels[1])
    return lax.cond(
        draw.shares[0] < draw.config.channel_probability,
        lambda volume: intensities.blur(volume, deviations, radius),
        _same,
        volume,
    )


def _brightness(draw: _Draw, volume: Array) -> Array:
    return volume * _around_one(draw.shares, draw.config.brightness)


def _contrast(draw: _Draw, volume: Array) -> Array:
    factor = _around_one(draw.shares, draw.config.contrast)
    return intensities.change_contrast(volume, draw.inside, factor)


def _low_resolution(draw: _Draw, volume: Array) -> Array:
    scale = _between(draw.shares[1], draw.config.low_resolution_scale)
    return lax.cond(
        draw.shares[0] < draw.config.channel_probability,
        lambda volume: intensities.coarsen(volume, scale),
        _same,
        volume,
    )


def _gamma(draw: _Draw, volume: Array) -> Array:
    exponent = _around_one(draw.shares, draw.config.gamma)
    return intensities.apply_gamma(volume, draw.inside, exponent)


def _inverted_gamma(draw: _Draw, volume: Array) -> Array:
    exponent = _around_one(draw.shares, draw.config.gamma)
    return intensities.apply_gamma(volume, draw.inside, exponent, is_inverted=True)


# In the order in which they are applied.
_CHANGES: dict[str, Callable[[_Draw, Array], Array]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "low_resolution": _low_resolution,
    "inverted_gamma": _inverted_gamma,
    "gamma": _gamma,
}


def _probability(config: AugmentConfig, name: str) -> float:
    return getattr(config, f"{name}_probability")


def _same(image: Array) -> Array:
    return image


def _between(share: Array, between: Range) -> Array:
    low, high = between
    return low + share * (high - low)


def _around_one(shares: Array, between: Range) -> Array:
    """Return a factor, equally often below 1 and above if the range has both."""
    low, high = between
    factor = _between(shares[0], between)
    if not low < 1 < high:
        return factor
    below, above = _between(shares[0], (low, 1)), _between(shares[0], (1, high))
    return jnp.where(shares[1] < 0.5, below, above)
