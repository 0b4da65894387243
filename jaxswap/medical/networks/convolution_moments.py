"""Mean and variance of a convolution's result, summed while its kernel writes it.

A normalisation needs both for each channel. By itself it reads the whole result for
them once more. A program of the kernel has its tile at hand: it adds up the planes, one
after the other. For each it takes the mean, and squared deviations from that mean. So
nothing is lost where the mean is large.

References:
    Chan, Golub, LeVeque 1983, Algorithms for Computing the Sample Variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxswap.medical.networks.convolution_tiles import Place, Tile
from jaxswap.medical.networks.instance_norm import Moments


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TileMoments:
    """What a program knows of those planes of its tile that are done.

    Attributes:
        mean: Of each channel.
        squares: Sum of squared deviations from it.
    """

    mean: Array
    squares: Array

    @classmethod
    def of_nothing(cls, width: int) -> Self:
        """Begin with no plane, of so many channels."""
        zero = jnp.zeros((width,), jnp.float32)
        return cls(zero, zero)

    def with_plane(self, place: Place, z: Any, values: Array) -> Self:
        """Add a plane, if it is one of the tile.

        Args:
            place: Where the tile is.
            z: Which plane of the volume.
            values: Its voxels as they are stored, (voxels, channels), in float32.
        """
        is_owned = place.owned(z)[:, None]
        count = place.plane_voxels.astype(jnp.float32)
        before = (z - place.first).astype(jnp.float32)
        mean = jnp.sum(jnp.where(is_owned, values, 0.0), 0) / count
        deviation = jnp.where(is_owned, values - mean[None, :], 0.0)
        squares = jnp.sum(deviation * deviation, 0)
        step = (mean - self.mean) / (before + 1)
        apart = step * (mean - self.mean) * before * count
        is_plane = place.has_plane(z)
        return type(self)(
            jnp.where(is_plane, self.mean + step, self.mean),
            jnp.where(is_plane, self.squares + squares + apart, self.squares),
        )

    def store(self, ref: Any, part: Any) -> None:
        """Write them where those of a tile are among those of all tiles."""
        from jax.experimental.pallas import triton

        (width,) = self.mean.shape
        channel = jnp.arange(width, dtype=jnp.int32)
        for index, numbers in enumerate((self.mean, self.squares)):
            triton.store(ref.at[(2 * part + index) * width + channel], numbers)


def merged(parts: Array, tile: Tile, space: Sequence[int]) -> Moments:
    """Merge what is known of each tile.

    Args:
        parts: Of each tile, (batch, tiles, 2, channels): mean and sum of squares.
        tile: What each program owned.
        space: Depth, height and width of the volume.
    """
    share = voxels_of(tile, space)[None, :, None]
    total = float(np.prod(space))
    means, squares = parts[:, :, 0], parts[:, :, 1]
    mean = (means * (share / total)).sum(1, keepdims=True)
    apart = (jnp.square(means - mean) * (share / total)).sum(1)
    variance = squares.sum(1) / total + apart
    return mean[:, 0, None, None, None], variance[:, None, None, None]


def voxels_of(tile: Tile, space: Sequence[int]) -> np.ndarray:
    """Count the voxels of each tile of a volume, in the order of their numbers.

    Args:
        tile: What each program owns.
        space: Depth, height and width of the volume.

    Example:
        >>> voxels_of(Tile(rows=2, columns=4, planes=1, warps=1, stages=1), (1, 3, 4))
        array([8., 4.], dtype=float32)
    """
    columns, rows, slabs = tile.grid(space)
    sides = (tile.planes, tile.rows, tile.columns)
    counts = [
        np.minimum(side, length - side * np.arange(number)).astype(np.float32)
        for side, length, number in zip(
            sides, space, (slabs, rows, columns), strict=True
        )
    ]
    return np.einsum("i,j,k->ijk", *counts).ravel()
