"""Turning, scaling and mirroring an image and its labels together, on the device.

The image is interpolated linearly and the labels take the nearest voxel, in one pass.
Coordinates of a whole volume would be as large as the image. So only a few slices are
computed at a time.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import cast

import jax.numpy as jnp
from jax import Array, lax

_SLICES_AT_A_TIME = 4


def rotation(angles: Array) -> Array:
    """Compute the matrix of a turn about the first, then second, then third axis.

    Args:
        angles: Radians about each axis, float32, (3,).

    Returns:
        Orthogonal matrix, float32, (3, 3).
    """
    matrix = jnp.eye(3, dtype=jnp.float32)
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        cos, sin = jnp.cos(angles[axis]), jnp.sin(angles[axis])
        turn = jnp.eye(3, dtype=jnp.float32)
        turn = turn.at[first, first].set(cos).at[second, second].set(cos)
        turn = turn.at[first, second].set(-sin).at[second, first].set(sin)
        # Tensor cores would round the entries to three digits: a voxel at the border.
        matrix = jnp.matmul(turn, matrix, precision=lax.Precision.HIGHEST)
    return matrix


def turn_and_scale(image: Array, labels: Array, matrix: Array) -> tuple[Array, Array]:
    """Sample image and labels on a grid that is turned and scaled about the middle.

    Args:
        image: (x, y, z, channel), floating point.
        labels: Label map, (x, y, z), integers.
        matrix: Turns the position of a voxel of the result into the position in the
            source where it is sampled. Both are in voxels from the middle. float32,
            (3, 3).

    Returns:
        Image and labels of the same shapes and dtypes. Both are 0 outside of the
        source.
    """
    shape = cast(tuple[int, int, int], labels.shape)
    middle = [(side - 1) / 2 for side in shape]
    y = (jnp.arange(shape[1], dtype=jnp.float32) - middle[1])[:, None]
    z = (jnp.arange(shape[2], dtype=jnp.float32) - middle[2])[None, :]

    def one_slice(x: Array) -> tuple[Array, Array]:
        places = [
            row[0] * (x - middle[0]) + row[1] * y + row[2] * z + center
            for row, center in zip(matrix, middle, strict=True)
        ]
        return _linear(image, places), _nearest(labels, places)

    slices = jnp.arange(shape[0], dtype=jnp.float32)
    return lax.map(one_slice, slices, batch_size=min(_SLICES_AT_A_TIME, shape[0]))


def mirror(
    image: Array, labels: Array, axes: tuple[int, ...], wanted: Array
) -> tuple[Array, Array]:
    """Mirror image and labels along the wanted axes.

    Args:
        image: (x, y, z, channel).
        labels: (x, y, z).
        axes: Which axes may be mirrored.
        wanted: Which of these axes are mirrored, bool, (len(axes),).

    Returns:
        Image and labels.
    """
    both = image, labels
    for number, axis in enumerate(axes):
        flip = partial(_flip, axis=axis)
        both = lax.cond(wanted[number], flip, lambda pair: pair, both)
    return both


def _flip(pair: tuple[Array, Array], axis: int) -> tuple[Array, Array]:
    image, labels = pair
    return jnp.flip(image, axis), jnp.flip(labels, axis)


def _linear(image: Array, places: list[Array]) -> Array:
    """Interpolate all channels at the positions of one slice."""
    below = [jnp.floor(place) for place in places]
    total = jnp.zeros((*places[0].shape, image.shape[-1]), jnp.float32)
    for corner in product((0, 1), repeat=3):
        pairs = list(zip(below, corner, strict=True))
        weight = jnp.ones_like(places[0])
        for place, low, up in zip(places, below, corner, strict=True):
            weight *= place - low if up else 1 - (place - low)
        index = [low.astype(jnp.int32) + up for low, up in pairs]
        values, inside = _take(image, index)
        weight = jnp.where(inside, weight, 0)
        total += weight[..., None] * values.astype(jnp.float32)
    return total.astype(image.dtype)


def _nearest(labels: Array, places: list[Array]) -> Array:
    index = [jnp.floor(place + 0.5).astype(jnp.int32) for place in places]
    values, inside = _take(labels, index)
    return jnp.where(inside, values, 0)


def _take(array: Array, index: list[Array]) -> tuple[Array, Array]:
    """Return the voxels at an index, and which of them are inside the array."""
    inside = jnp.ones(index[0].shape, bool)
    clipped = []
    for axis, along in enumerate(index):
        last = array.shape[axis] - 1
        inside &= (along >= 0) & (along <= last)
        clipped.append(jnp.clip(along, 0, last))
    return array[tuple(clipped)], inside
