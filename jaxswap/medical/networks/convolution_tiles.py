"""Which voxels a program of a convolution's kernel owns, and how it reads and writes.

Index arithmetic has no `//` and `%`. In `jax.numpy` they round down, by a selection
that hides from Triton that neighbours in memory are read together. Then each number is
loaded by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

NARROWEST = 16
"""Tensor cores multiply matrices of at least so many rows and columns."""
_FEW = 512
"""With fewer programs, some cores of a large GPU would have none."""


@dataclass(frozen=True)
class Tile:
    """The part of a volume that one program owns.

    Attributes:
        rows: Along the height.
        columns: Along the width, a power of two.
        planes: Along the depth. The program goes through them one after the other.
        warps: Groups of 32 threads that run the program.
        stages: How many planes are loaded at a time.
    """

    rows: int
    columns: int
    planes: int
    warps: int
    stages: int

    @property
    def voxels(self) -> int:
        """Of one plane."""
        return self.rows * self.columns

    def grid(self, space: Sequence[int]) -> tuple[int, int, int]:
        """How many of them cover the width, the height and the depth of a volume."""
        depth, height, width = space
        return (
            pl.cdiv(width, self.columns),
            pl.cdiv(height, self.rows),
            pl.cdiv(depth, self.planes),
        )


def tile_of(
    space: Sequence[int],
    width: int,
    itemsize: int,
    programs: int,
    is_exact: bool = False,
    has_moments: bool = False,
) -> Tile:
    """Choose a tile whose sums fit into registers, and enough tiles for a GPU.

    Which ones fit was found by compiling them for A100, H200 and B200.

    Args:
        space: Depth, height and width of the volume.
        width: The most channels that an array has, filled up to a power of two.
        itemsize: Bytes of a number.
        programs: How many run for each tile of one volume.
        is_exact: Whether products of float32 are sums of several, which take registers.
        has_moments: Whether programs sum the moments of the result. So do these.
    """
    is_wide = itemsize > 2
    voxels = 64 if width > 32 or is_wide else 128
    warps = 8 if width > 32 else 4 if width > 16 else 2
    if is_exact:
        voxels = 16 if width > 16 else 32
    elif is_wide and width > 32:
        voxels, warps = 16, 4
    elif has_moments and is_wide != (width > 16):
        voxels //= 2
    stages = 2 if width <= 16 and itemsize == 2 else 1
    columns = min(pl.next_power_of_2(space[2]), voxels // 4)
    tile = Tile(voxels // columns, columns, 32, warps, stages)
    while tile.planes > 4 and programs * math.prod(tile.grid(space)) < _FEW:
        tile = replace(tile, planes=tile.planes // 2)
    return tile


@dataclass(frozen=True)
class Place:
    """Where a program is in its volume. To be used inside of a kernel.

    Attributes:
        tile: What it owns.
        space: Depth, height and width of the volume.
        volume: Which volume of the batch.
        index: Which tile along width, height and depth.
    """

    tile: Tile
    space: tuple[int, int, int]
    volume: Any
    index: tuple[Any, Any, Any]

    @property
    def first(self) -> Any:
        """The first plane of the tile."""
        return self.index[2] * self.tile.planes

    @property
    def part(self) -> Any:
        """The number of the tile among all tiles of the batch."""
        x, y, z = self.index
        columns, rows, slabs = self.tile.grid(self.space)
        return ((self.volume * slabs + z) * rows + y) * columns + x

    def read(
        self,
        ref: Any,
        z: Any,
        channels: int,
        filled_up: int,
        down: Any = 0,
        right: Any = 0,
    ) -> Array:
        """Read a plane of the tile, shifted; zeros outside of the volume.

        Args:
            ref: All features of the batch in one row, channels last.
            z: Which plane of the volume.
            channels: How many a voxel has.
            filled_up: How many it shall have. Those that are missing are zeros.
            down: Rows by which the tile is shifted.
            right: Columns by which it is shifted.

        Returns:
            The features, (voxels, filled_up).
        """
        y, x = self._voxels()
        y, x = y + down, x + right
        depth, height, width = self.space
        is_inside = (z >= 0) & (z < depth) & (y >= 0) & (y < height)
        is_inside = is_inside & (x >= 0) & (x < width)
        return self._read(ref, z, y, x, channels, filled_up, is_inside)

    def read_owned(self, ref: Any, z: Any, channels: int, filled_up: int) -> Array:
        """Read a plane as it is; zeros outside of the tile and of the volume."""
        y, x = self._voxels()
        return self._read(ref, z, y, x, channels, filled_up, self._is_owned(z, y, x))

    def write(self, ref: Any, z: Any, channels: int, values: Array) -> None:
        """Write a plane, where it is in the tile and in the volume."""
        from jax.experimental.pallas import triton

        y, x = self._voxels()
        numbers, exists = self._numbers(z, y, x, channels, values.shape[1])
        is_written = self._is_owned(z, y, x)[:, None] & exists
        triton.store(ref.at[numbers], values.astype(ref.dtype), mask=is_written)

    def owned(self, z: Any) -> Array:
        """Tell which voxels of a plane are in the tile and in the volume."""
        return self._is_owned(z, *self._voxels())

    def has_plane(self, z: Any) -> Any:
        """Whether a plane is one of the tile and of the volume."""
        last = jnp.minimum(self.first + self.tile.planes, self.space[0])
        return (z >= self.first) & (z < last)

    @property
    def plane_voxels(self) -> Any:
        """How many voxels of the volume a plane of the tile has."""
        _, height, width = self.space
        x, y, _ = self.index
        rows = jnp.minimum(self.tile.rows, height - y * self.tile.rows)
        return rows * jnp.minimum(self.tile.columns, width - x * self.tile.columns)

    def _voxels(self) -> tuple[Array, Array]:
        """Row and column of each voxel."""
        voxel = jnp.arange(self.tile.voxels, dtype=jnp.int32)
        columns = jnp.full_like(voxel, self.tile.columns)
        x, y, _ = self.index
        return (
            y * self.tile.rows + lax.div(voxel, columns),
            x * self.tile.columns + lax.rem(voxel, columns),
        )

    def _is_owned(self, z: Any, y: Array, x: Array) -> Array:
        _, height, width = self.space
        return self.has_plane(z) & (y < height) & (x < width)

    def _read(
        self,
        ref: Any,
        z: Any,
        y: Array,
        x: Array,
        channels: int,
        filled_up: int,
        is_read: Array,
    ) -> Array:
        from jax.experimental.pallas import triton

        numbers, exists = self._numbers(z, y, x, channels, filled_up)
        return triton.load(ref.at[numbers], mask=is_read[:, None] & exists, other=0.0)

    def _numbers(
        self, z: Any, y: Array, x: Array, channels: int, filled_up: int
    ) -> tuple[Array, Array]:
        """Where each channel of each voxel is in memory, and which channels exist."""
        depth, height, width = self.space
        voxel = ((self.volume * depth + z) * height + y) * width + x
        channel = jnp.arange(filled_up, dtype=jnp.int32)
        numbers = (voxel * channels)[:, None] + channel[None, :]
        exists = channel < channels if filled_up > channels else channel >= 0
        return numbers, exists[None, :]


def filled(channels: int) -> int:
    """How many channels a matrix has that tensor cores multiply."""
    return max(NARROWEST, pl.next_power_of_2(channels))


def matrix_numbers(index: Any, shape: tuple[int, int]) -> Array:
    """Where each number of a matrix is, in a row of matrices of that shape."""
    row = jnp.arange(shape[0], dtype=jnp.int32)[:, None]
    column = jnp.arange(shape[1], dtype=jnp.int32)[None, :]
    return (index * shape[0] + row) * shape[1] + column
