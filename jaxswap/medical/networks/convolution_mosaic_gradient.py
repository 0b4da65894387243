"""The gradient of a convolution's kernel by kernels for Hopper, in Pallas for Mosaic.

For each place of the kernel, it is a matrix product of features and gradients of the
result, summed over all voxels. A program sums over one tile, for some channels and some
features. As for the convolution, it goes through planes, and copies arrive meanwhile.

Tensor cores read groups of eight voxels, so a row cannot be read one voxel further.
Therefore each row of gradients is written three times beside each other, as it is and
shifted by a voxel to either side. Other rows and planes are those of the features.

No GPU has run them yet. JAX's interpreter has, and they are compiled.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from jaxswap.medical.networks.convolution_kernels import kernel_gradient_by_jax
from jaxswap.medical.networks.convolution_mosaic_memory import (
    ALIGNED,
    FEW,
    HELD,
    MOST_PLANES,
    ROW,
    fetch_plane,
    mosaic_gpu,
    swizzled,
)
from jaxswap.medical.networks.shared_axes import varying_with

_BLOCK = 16
"""Channels and features that one program multiplies."""
_SHIFTS = 3
"""How often a row of gradients is written. One more part is zero: tensor cores multiply
64 rows at least."""
_TAPS = tuple(itertools.product(range(3), range(3)))
"""Plane and row of the kernel."""
_MOST_ROWS = 4
"""Of a tile."""
_PAIR = 2
"""What is written or arrives while the other one is read."""


def kernel_gradient(x: Array, gradient: Array, is_interpreted: bool = False) -> Array:
    """Return the gradient of the kernel of `convolve`, where that has a kernel.

    Its derivatives are those of JAX's, so that gradients have gradients.

    Args:
        x: The features, (1, depth, height, width, in).
        gradient: Of the result, in the same type, (1, depth, height, width, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The gradient, (3, 3, 3, in, out), in float32.
    """
    return _kernel_gradient(is_interpreted, x, gradient)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _kernel_gradient(is_interpreted: bool, x: Array, gradient: Array) -> Array:
    # One volume at a time, as for the convolution.
    @jax.custom_batching.sequential_vmap
    def run(volume: Array, gradient: Array) -> Array:
        return _Sums.of(volume, gradient, is_interpreted).run(volume, gradient)

    return varying_with(run(x[0], gradient[0]), x, gradient)


@_kernel_gradient.defjvp
def _(
    is_interpreted: bool,
    operands: tuple[Array, Array],
    tangents: tuple[Array, Array],
) -> tuple[Array, Array]:
    tangent = jax.jvp(kernel_gradient_by_jax, operands, tangents)[1]
    return _kernel_gradient(is_interpreted, *operands), tangent


@dataclass(frozen=True)
class _Sums:
    """The sums of one shape and type, with the program that computes them.

    Attributes:
        space: Depth, height and width.
        channels: Of the features.
        features: Of the result.
        dtype: Of features and gradient.
        is_interpreted: Whether the program runs on a CPU.
    """

    space: tuple[int, int, int]
    channels: int
    features: int
    dtype: Any
    is_interpreted: bool

    @classmethod
    def of(cls, volume: Array, gradient: Array, is_interpreted: bool) -> Self:
        """Describe the sums over a volume, (depth, height, width, in)."""
        depth, height, width, channels = volume.shape
        space, features = (depth, height, width), gradient.shape[3]
        return cls(space, channels, features, volume.dtype, is_interpreted)

    @cached_property
    def tile(self) -> tuple[int, int]:
        """Rows and planes over which one program sums."""
        depth, height, _ = self.space
        rows, planes = min(_MOST_ROWS, height), min(MOST_PLANES, depth)
        while planes > 4 and math.prod(self._grid(rows, planes)) < FEW:
            planes //= 2
        return rows, planes

    def _grid(self, rows: int, planes: int) -> tuple[int, int, int, int, int]:
        depth, height, width = self.space
        return (
            self.features // _BLOCK,
            self.channels // _BLOCK,
            pl.cdiv(width, ROW),
            pl.cdiv(height, rows),
            pl.cdiv(depth, planes),
        )

    def run(self, volume: Array, gradient: Array) -> Array:
        """Sum over a volume what features and gradient say of the kernel."""
        mosaic, rows = mosaic_gpu(), self.tile[0]
        features, channels, *tiles = grid = self._grid(*self.tile)
        summed = ((_SHIFTS + 1) * _BLOCK, len(_TAPS) * _BLOCK)
        parts = jax.ShapeDtypeStruct(
            (features, channels, math.prod(tiles), *summed), jnp.float32
        )
        nbytes = (volume.size + gradient.size) * volume.dtype.itemsize + 4 * parts.size
        multiplications = 27 * math.prod(self.space) * self.channels * self.features
        held, spread = (HELD, rows + 2, ROW, _BLOCK), (_PAIR, ROW, summed[0])
        call = mosaic.kernel(
            self._program,
            out_type=parts,
            scratch_types={
                "held": swizzled(held, _BLOCK, self.dtype),
                "given": mosaic.SMEM(
                    (_PAIR, rows, ROW + 3 * ALIGNED, _BLOCK), self.dtype
                ),
                "spread": swizzled(spread, _BLOCK, self.dtype),
                "arrived": mosaic.Barrier(num_arrivals=rows + 2, num_barriers=HELD),
                "is_given": mosaic.Barrier(num_arrivals=rows, num_barriers=_PAIR),
            },
            grid=grid,
            grid_names=("features", "channels", "x", "y", "z"),
            kernel_name="convolve3d_mosaic_kernel_gradient",
            compiler_params=mosaic.CompilerParams(
                lowering_semantics=mosaic.LoweringSemantics.Lane
            ),
            cost_estimate=pl.CostEstimate(
                flops=2 * multiplications, transcendentals=0, bytes_accessed=nbytes
            ),
            interpret=mosaic.InterpretGPUParams() if self.is_interpreted else None,
        )
        sums = call(volume, gradient).sum(2)
        sums = sums.reshape(features, channels, _SHIFTS + 1, _BLOCK, 3, 3, _BLOCK)
        sums = sums[:, :, :_SHIFTS].transpose(4, 5, 2, 1, 6, 0, 3)
        return sums.reshape(3, 3, 3, self.channels, self.features)

    def _program(
        self,
        x_ref: Any,
        gradient_ref: Any,
        parts_ref: Any,
        *,
        held: Any,
        given: Any,
        spread: Any,
        arrived: Any,
        is_given: Any,
    ) -> None:
        """Sum over one tile."""
        mosaic = mosaic_gpu()
        rows, planes = self.tile
        place = _Place.of_program(self.tile)
        fetch = partial(place.fetch, self.space, x_ref, held, arrived)
        fetch_given = partial(place.fetch_given, rows, gradient_ref, given, is_given)
        self._clear(given, spread)
        for plane in range(min(HELD, planes + 2)):
            fetch(plane)
        for plane in range(min(_PAIR, planes)):
            fetch_given(plane)
        for plane in range(2):
            mosaic.barrier_wait(arrived.at[plane])

        def summed(sums: Any) -> Array:
            @pl.loop(0, planes)
            def _(plane: Any) -> None:
                slot = lax.rem(plane, _PAIR)
                mosaic.barrier_wait(arrived.at[lax.rem(plane + 2, HELD)])
                mosaic.barrier_wait(is_given.at[slot])
                for row in range(rows):
                    if row >= _PAIR:  # What was written there has been multiplied.
                        mosaic.wgmma_wait(len(_TAPS))
                    shifted = spread.at[row % _PAIR]
                    _spread(given.at[slot, row], shifted)
                    _multiply(plane, row, held, shifted, sums)
                mosaic.wgmma_wait(0)
                pl.when(plane + HELD < planes + 2)(partial(fetch, plane + HELD))
                pl.when(plane + _PAIR < planes)(partial(fetch_given, plane + _PAIR))

            return sums[...]

        accumulator = mosaic.ACC(parts_ref.shape[3:], jnp.float32)
        total = pl.run_scoped(summed, accumulator)
        part = place.part(self._grid(*self.tile))
        parts_ref[place.features, place.channels, part] = total

    def _clear(self, given: Any, spread: Any) -> None:
        """Let what no copy writes be zero."""
        mosaic = mosaic_gpu()
        nothing = jnp.zeros((ALIGNED, _BLOCK), self.dtype)
        for slot, row in itertools.product(range(_PAIR), range(self.tile[0])):
            given[slot, row, :ALIGNED] = nothing
        nothing = jnp.zeros((ROW, _BLOCK), self.dtype)
        for slot in range(_PAIR):
            spread[slot, :, _SHIFTS * _BLOCK :] = mosaic.layout_cast(
                nothing, mosaic.Layout.WGMMA
            )
        mosaic.commit_smem()


@dataclass(frozen=True)
class _Place:
    """Where a program is in its volume. To be used inside of a kernel.

    Attributes:
        features: Which block of features it computes.
        channels: Which block of channels.
        column: Which part of each row it owns.
        row: Which rows.
        slab: Which planes.
        y: The first row that it owns.
        z: The first plane that it owns.
    """

    features: Any
    channels: Any
    column: Any
    row: Any
    slab: Any
    y: Any
    z: Any

    @classmethod
    def of_program(cls, tile: tuple[int, int]) -> Self:
        """Find out where this program is."""
        axes = ("features", "channels", "x", "y", "z")
        features, channels, column, row, slab = map(lax.axis_index, axes)
        y, z = row * tile[0], slab * tile[1]
        return cls(features, channels, column, row, slab, y, z)

    def part(self, grid: tuple[int, ...]) -> Any:
        """The number of the tile among all tiles of the volume."""
        _, _, columns, rows, _ = grid
        return (self.slab * rows + self.row) * columns + self.column

    def fetch(
        self,
        space: tuple[int, int, int],
        x_ref: Any,
        held: Any,
        arrived: Any,
        plane: Any,
    ) -> None:
        """Start to copy a plane of features, counted from the one before the tile."""
        of_row = (pl.ds(self.column * ROW, ROW), self._block(self.channels))
        fetch_plane(space, (self.z, self.y), of_row, x_ref, held, arrived, plane)

    def fetch_given(
        self, rows: int, gradient_ref: Any, given: Any, is_given: Any, plane: Any
    ) -> None:
        """Start to copy a plane of gradients with the voxels on either side."""
        slot = plane % _PAIR if isinstance(plane, int) else lax.rem(plane, _PAIR)
        x = ALIGNED * jnp.maximum(ROW // ALIGNED * self.column - 1, 0)
        wide, features = ROW + 2 * ALIGNED, self._block(self.features)

        def copy_to(start: int) -> None:
            for row in range(rows):
                mosaic_gpu().copy_gmem_to_smem(
                    gradient_ref.at[
                        self.z + plane, self.y + row, pl.ds(x, wide), features
                    ],
                    given.at[slot, row, pl.ds(start, wide)],
                    is_given.at[slot],
                )

        # The first part has no voxels before it.
        pl.when(self.column == 0)(partial(copy_to, ALIGNED))
        pl.when(self.column > 0)(partial(copy_to, 0))

    def _block(self, index: Any) -> Any:
        return pl.ds(index * _BLOCK, _BLOCK)


def _spread(given: Any, shifted: Any) -> None:
    """Write a row of gradients beside itself, for each column of the kernel.

    Features meet the gradient of the voxel after them, of their own, and before them.
    """
    mosaic = mosaic_gpu()
    for column in range(_SHIFTS):
        row = given.at[pl.ds(ALIGNED + 1 - column, ROW), :]
        read = mosaic.load(row, layout=mosaic.Layout.WGMMA, optimized=False)
        shifted[:, column * _BLOCK : (column + 1) * _BLOCK] = read
    mosaic.commit_smem()


def _multiply(plane: Any, row: int, held: Any, shifted: Any, sums: Any) -> None:
    """Multiply a row of gradients by three rows of three planes."""
    for tap, (deep, down) in enumerate(_TAPS):
        read = held.at[lax.rem(plane + deep, HELD), row + down]
        of_tap = sums.at[:, tap * _BLOCK : (tap + 1) * _BLOCK]
        mosaic_gpu().wgmma(of_tap, shifted.transpose((1, 0)), read)
