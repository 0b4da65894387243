"""Convolutions of 16 to 64 channels by kernels for Hopper, in Pallas for Mosaic.

They are 3x3x3 convolutions of stride 1, channels last, in 16 bits. Rows of voxels are
copied into shared memory by the GPU's copy engine, and tensor cores multiply them from
there. A program goes through the planes of its tile one after the other and holds four
of them: three that it multiplies, and one that arrives meanwhile.

Tensor cores read groups of eight voxels, so a row cannot be read one voxel further.
Therefore three sums are made of each row, one for each column of the kernel. Those of
the outer columns are shifted by a voxel when all is added up.

No GPU has run them yet. JAX's interpreter has, and they are compiled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from jaxswap.medical.networks.convolution_kernels import by_jax
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

TYPES = ("bfloat16", "float16")
"""The numbers that kernels take; they are summed in float32."""
CHANNELS = (16, 32, 64)
"""What a voxel of features and results may have: what the copy engine can swizzle."""
ARCHITECTURE = 9
"""The major compute capability of GPUs that run the kernels: Hopper alone."""
OLDEST_JAX = (0, 12)
"""The JAX from which on kernels have been compiled."""

_OWNED = ROW - 2 * ALIGNED
"""Voxels of a row whose neighbours are in the row, too."""
_PADDING = 8
"""Numbers between rows of sums, so that threads do not meet at one bank."""
_SHARED_BYTES = 227 * 1024
"""Shared memory that one program may have."""
_RESERVED_BYTES = 2048
"""What the compiler takes of it, and barriers."""
_MOST_NUMBERS = 2**31
"""That 32 bits count."""


def can_take(shape: tuple[int, ...], kernel_shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether there are kernels for a convolution of stride 1, and this JAX has them.

    Args:
        shape: Of the features, (batch, depth, height, width, in).
        kernel_shape: Of the kernel, (depth, height, width, in, out).
        dtype: Of both.
    """
    numbers = math.prod(shape[:4]) * max(kernel_shape[3:])
    return (
        jnp.dtype(dtype).name in TYPES
        and kernel_shape[:3] == (3, 3, 3)
        and all(n in CHANNELS for n in kernel_shape[3:])
        and shape[0] == 1
        and shape[3] % ALIGNED == 0
        and 0 < numbers < _MOST_NUMBERS
        and jax.__version_info__ >= OLDEST_JAX
    )


def convolve(x: Array, kernel: Array, is_interpreted: bool = False) -> Array:
    """Convolve features with zeros around them. `convolve_by` has its gradient.

    Its derivatives are those of JAX's convolution, so that gradients have gradients.

    Args:
        x: The features, (1, depth, height, width, in).
        kernel: The kernel in the same type, (3, 3, 3, in, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The result, (1, depth, height, width, out).
    """
    return _convolve(is_interpreted, x, kernel)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(is_interpreted: bool, x: Array, kernel: Array) -> Array:
    # One volume at a time. In an array of several volumes, the planes around one are
    # the neighbours', not zeros.
    @jax.custom_batching.sequential_vmap
    def run(volume: Array, kernel: Array) -> Array:
        return _Convolution.of(volume, kernel, is_interpreted).run(volume, kernel)

    return varying_with(run(x[0], kernel)[None], x, kernel)


@_convolve.defjvp
def _(
    is_interpreted: bool,
    operands: tuple[Array, Array],
    tangents: tuple[Array, Array],
) -> tuple[Array, Array]:
    tangent = jax.jvp(by_jax, operands, tangents)[1]
    return _convolve(is_interpreted, *operands), tangent


@dataclass(frozen=True)
class _Convolution:
    """A convolution of one shape and type, with the program that computes it.

    Attributes:
        space: Depth, height and width.
        channels: Of the features.
        features: Of the result.
        dtype: Of features, kernel and result.
        is_interpreted: Whether the program runs on a CPU.
    """

    space: tuple[int, int, int]
    channels: int
    features: int
    dtype: Any
    is_interpreted: bool

    @classmethod
    def of(cls, volume: Array, kernel: Array, is_interpreted: bool) -> Self:
        """Describe the convolution of a volume, (depth, height, width, in)."""
        depth, height, width, channels = volume.shape
        space, dtype = (depth, height, width), volume.dtype
        return cls(space, channels, kernel.shape[4], dtype, is_interpreted)

    @cached_property
    def tile(self) -> tuple[int, int, int]:
        """Rows, planes and features of the result that one program computes."""
        fits = (
            (rows, block)
            for block in (64, 32, 16)
            if block <= self.features
            for most in (_SHARED_BYTES // 2, _SHARED_BYTES)
            for rows in (4, 2, 1)
            if rows <= self.space[1]
            if self._shared_bytes(rows, block) <= most - _RESERVED_BYTES
        )
        rows, block = next(fits)
        planes = min(MOST_PLANES, self.space[0])
        while planes > 4 and math.prod(self._grid(rows, planes, block)) < FEW:
            planes //= 2
        return rows, planes, block

    def _shared_bytes(self, rows: int, block: int) -> int:
        held = 2 * HELD * (rows + 2) * ROW * self.channels
        weights = 2 * 27 * block * self.channels
        sums = 4 * 2 * (ROW + 2 * ALIGNED) * (block + _PADDING)
        return held + weights + sums + 2 * rows * ROW * block

    def _grid(self, rows: int, planes: int, block: int) -> tuple[int, int, int, int]:
        depth, height, width = self.space
        return (
            self.features // block,
            pl.cdiv(width, _OWNED),
            pl.cdiv(height, rows),
            pl.cdiv(depth, planes),
        )

    def run(self, volume: Array, kernel: Array) -> Array:
        """Convolve a volume, (depth, height, width, in)."""
        rows, _, block = self.tile
        mosaic, swizzled = mosaic_gpu(), self._swizzled
        y = (*volume.shape[:3], self.features)
        nbytes = (volume.size + kernel.size + math.prod(y)) * volume.dtype.itemsize
        weights = (9, 3 * block, self.channels)
        call = mosaic.kernel(
            self._program,
            out_type=jax.ShapeDtypeStruct(y, self.dtype),
            scratch_types={
                "held": swizzled((HELD, rows + 2, ROW, self.channels)),
                "weights": swizzled(weights),
                "sides": mosaic.SMEM(
                    (2, ROW + 2 * ALIGNED, block + _PADDING), jnp.float32
                ),
                "result": swizzled((rows, ROW, block)),
                "arrived": mosaic.Barrier(num_arrivals=rows + 2, num_barriers=HELD),
                "has_weights": mosaic.Barrier(),
            },
            grid=self._grid(*self.tile),
            grid_names=("block", "x", "y", "z"),
            kernel_name="convolve3d_mosaic",
            # One thread at a time decides on layouts. The other way searches for them,
            # without end for some of these programs.
            compiler_params=mosaic.CompilerParams(
                lowering_semantics=mosaic.LoweringSemantics.Lane
            ),
            cost_estimate=pl.CostEstimate(
                flops=2 * kernel.size * math.prod(self.space),
                transcendentals=0,
                bytes_accessed=nbytes,
            ),
            interpret=mosaic.InterpretGPUParams() if self.is_interpreted else None,
        )
        blocks = kernel.reshape(9, 3, self.channels, -1, block)
        blocks = blocks.transpose(3, 0, 1, 4, 2).reshape(-1, *weights)
        return call(volume, blocks)

    def _swizzled(self, shape: tuple[int, ...]) -> Any:
        return swizzled(shape, shape[-1], self.dtype)

    def _program(
        self,
        x_ref: Any,
        kernel_ref: Any,
        y_ref: Any,
        *,
        held: Any,
        weights: Any,
        sides: Any,
        result: Any,
        arrived: Any,
        has_weights: Any,
    ) -> None:
        """Compute one tile of the result."""
        mosaic = mosaic_gpu()
        rows, planes, block = self.tile
        place = _Place.of_program(self.tile)
        fetch = partial(place.fetch, self.space, x_ref, held, arrived)
        mosaic.copy_gmem_to_smem(kernel_ref.at[place.block], weights, has_weights)
        for plane in range(min(HELD, planes + 2)):
            fetch(plane)
        nothing = jnp.zeros((ALIGNED, block), jnp.float32)
        for side, start in itertools.product(range(2), (0, ALIGNED + ROW)):
            sides[side, start : start + ALIGNED, :block] = nothing
        mosaic.barrier_wait(has_weights)
        for plane in range(2):
            mosaic.barrier_wait(arrived.at[plane])

        @pl.loop(0, planes)
        def _(plane: Any) -> None:
            mosaic.barrier_wait(arrived.at[lax.rem(plane + 2, HELD)])
            mosaic.wait_smem_to_gmem(0)
            for row in range(rows):
                sums = self._sums(partial(_multiply, plane, row, held, weights))
                result[row] = self._added_up(sums, sides).astype(self.dtype)
            mosaic.commit_smem()
            place.write(plane, rows, block, result, y_ref)
            pl.when(plane + HELD < planes + 2)(partial(fetch, plane + HELD))

        mosaic.wait_smem_to_gmem(0)

    def _sums(self, multiply: Callable[[Any], None]) -> Array:
        """Sum products of one row, (row, 3 block): those of each column beside."""

        def accumulated(sums: Any) -> Array:
            multiply(sums)
            return sums[...]

        shape = (ROW, 3 * self.tile[2])
        return pl.run_scoped(accumulated, mosaic_gpu().ACC(shape, jnp.float32))

    def _added_up(self, sums: Array, sides: Any) -> Array:
        """Add up the sums of three columns, which are those of neighbours."""
        mosaic = mosaic_gpu()
        block = self.tile[2]
        row = slice(ALIGNED, ALIGNED + ROW)
        sides[0, row, :block] = sums[:, :block]
        sides[1, row, :block] = sums[:, 2 * block :]
        total = sums[:, block : 2 * block]
        for side, shift in enumerate((-1, 1)):
            shifted = (pl.ds(ALIGNED + shift, ROW), pl.ds(0, block))
            total = total + mosaic.load(
                sides.at[side, *shifted], layout=mosaic.Layout.WGMMA, optimized=False
            )
        return total


@dataclass(frozen=True)
class _Place:
    """Where a program is in its volume. To be used inside of a kernel.

    Attributes:
        block: Which features of the result it computes.
        column: Which part of each row it owns.
        y: The first row that it owns.
        z: The first plane that it owns.
    """

    block: Any
    column: Any
    y: Any
    z: Any

    @classmethod
    def of_program(cls, tile: tuple[int, int, int]) -> Self:
        """Find out where this program is."""
        rows, planes, _ = tile
        block, column, y, z = (lax.axis_index(a) for a in ("block", "x", "y", "z"))
        return cls(block, column, y * rows, z * planes)

    def fetch(
        self,
        space: tuple[int, int, int],
        x_ref: Any,
        held: Any,
        arrived: Any,
        plane: Any,
    ) -> None:
        """Start to copy a plane, counted from the one before the tile."""
        x = ALIGNED * jnp.maximum(_OWNED // ALIGNED * self.column - 1, 0)
        of_row = (pl.ds(x, ROW),)
        fetch_plane(space, (self.z, self.y), of_row, x_ref, held, arrived, plane)

    def write(self, plane: Any, rows: int, block: int, result: Any, y_ref: Any) -> None:
        """Start to copy the result of a plane, where it is in the volume."""
        x, features = self.column * _OWNED, self.block * block

        def write_from(start: int) -> None:
            for row in range(rows):
                mosaic_gpu().copy_smem_to_gmem(
                    result.at[row, pl.ds(start, _OWNED)],
                    y_ref.at[
                        self.z + plane,
                        self.y + row,
                        pl.ds(x, _OWNED),
                        pl.ds(features, block),
                    ],
                )

        # The first part has no voxels before it.
        pl.when(self.column == 0)(partial(write_from, 0))
        pl.when(self.column > 0)(partial(write_from, ALIGNED))


def _multiply(plane: Any, row: int, held: Any, weights: Any, sums: Any) -> None:
    """Multiply three rows of three planes by the kernel."""
    for deep, down in itertools.product(range(3), range(3)):
        read = held.at[lax.rem(plane + deep, HELD), row + down]
        of_kernel = weights.at[3 * deep + down].transpose((1, 0))
        mosaic_gpu().wgmma(sums, read, of_kernel)
