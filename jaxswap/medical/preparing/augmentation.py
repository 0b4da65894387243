"""Random changes of training cases, on the device and compiled once.

Everything is drawn from a random key. So a case changes in the same way in every run
with the same seed. A change that is not drawn is not computed.

The recipe is nnU-Net v2's default for volumes (Isensee et al. 2021), with two
differences: mean, standard deviation and range are those of the brain, and channels
have independent noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxswap.medical.preparing.augment_config import AugmentConfig
from jaxswap.medical.preparing.intensity_augmentation import augment_intensities
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.preparing.resampling import mirror, rotation, turn_and_scale

Augment = Callable[[Array, Array, Array], tuple[Array, Array]]
"""A function of a key, images (batch, x, y, z, channel) and labels (batch, x, y, z)."""


def augment(
    key: Array, image: Array, labels: Array, config: AugmentConfig
) -> tuple[Array, Array]:
    """Change one case at random.

    Args:
        key: Random key. The same key makes the same change.
        image: (x, y, z, channel), floating point. Voxels with 0 in all channels are
            outside the brain.
        labels: Label map, (x, y, z), integers.
        config: What may change.

    Returns:
        Image and labels of the same shapes and dtypes. Labels follow the image when it
        is turned, scaled or mirrored, and get no new values. Outside the brain the
        image is exactly 0.

    Raises:
        ValueError: If shapes or dtypes do not fit.
    """
    _check(image, labels)
    move_key, intensity_key, mirror_key = jax.random.split(key, 3)
    image, labels = _move(move_key, image, labels, config)
    image = augment_intensities(intensity_key, image, config)
    if not (config.mirror_axes and config.mirror_probability):
        return image, labels
    axes = config.mirror_axes
    wanted = jax.random.bernoulli(mirror_key, config.mirror_probability, (len(axes),))
    return mirror(image, labels, axes, wanted)


def make_augment(
    config: AugmentConfig | None = None,
    dtype: DTypeLike = jnp.float32,
    mesh: RunMesh | None = None,
) -> Augment:
    """Make the compiled function that changes every case of a batch.

    Args:
        config: What may change. None for the defaults.
        dtype: Type of the images that it returns. Intensities are computed in float32,
            a channel at a time.
        mesh: The devices over which batches are split. None for one device.

    Returns:
        A jitted function of a key, images (batch, x, y, z, channel) and labels (batch,
        x, y, z) that returns both. It compiles once for each shape. Cases are changed
        one after the other. So a larger batch needs more memory only for itself. On a
        mesh, a turned voxel can come from anywhere in its volume. So each device
        changes its cases as a whole and then keeps its part.
    """
    config = config or AugmentConfig()

    def one(case: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        key, image, labels = case
        return augment(key, image.astype(dtype), labels, config)

    def change_each(keys: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        return lax.map(one, (keys, images, labels))

    changed = change_each if mesh is None else _on_each_device(change_each, mesh)

    def change(key: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        if images.ndim != 5 or labels.shape != images.shape[:-1]:
            raise ValueError(
                f"`images` {images.shape} and `labels` {labels.shape} are not (batch, "
                "x, y, z, channel) and (batch, x, y, z)."
            )
        return changed(jax.random.split(key, len(images)), images, labels)

    return jax.jit(change)


def _on_each_device(change: Augment, mesh: RunMesh) -> Augment:
    """Gather the cases of a device, change them, and keep the device's part."""
    cases = mesh.split_cases.spec
    axes = [(name, dimension) for dimension, name in enumerate(mesh.split.spec[1:], 1)]

    def part_of(array: Array) -> Array:
        for name, dimension in axes:
            if name is not None:
                size = array.shape[dimension] // lax.axis_size(name)
                first = lax.axis_index(name) * size
                array = lax.dynamic_slice_in_dim(array, first, size, dimension)
        return array

    def change_own(keys: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        images, labels = change(keys, images, labels)
        return part_of(images), part_of(labels)

    return jax.shard_map(
        change_own,
        mesh=mesh.mesh,
        in_specs=cases,
        out_specs=mesh.split.spec,
        check_vma=False,
    )


def _move(
    key: Array, image: Array, labels: Array, config: AugmentConfig
) -> tuple[Array, Array]:
    """Turn and scale in one resampling."""
    if not (config.rotation_probability or config.scaling_probability):
        return image, labels
    shares = jax.random.uniform(key, (6,))
    turns = shares[0] < config.rotation_probability
    scales = shares[1] < config.scaling_probability
    angles = (2 * shares[3:] - 1) * math.radians(config.rotation_degrees)
    low, high = config.scaling
    distance = low + shares[2] * (high - low)
    matrix = rotation(jnp.where(turns, angles, 0)) * jnp.where(scales, distance, 1)
    return lax.cond(
        turns | scales, turn_and_scale, lambda *same: same[:2], image, labels, matrix
    )


def _check(image: Array, labels: Array) -> None:
    if image.ndim != 4 or labels.shape != image.shape[:-1]:
        raise ValueError(
            f"`image` {image.shape} and `labels` {labels.shape} are not (x, y, z, "
            "channel) and (x, y, z)."
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"`image` is {image.dtype}, but has to be floating point.")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"`labels` are {labels.dtype}, but have to be integers.")
