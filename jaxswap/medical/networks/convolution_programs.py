"""The programs of kernels for convolutions, in Pallas for Triton.

A program goes through the planes of its tile one after the other. It reads each of them
nine times, and adds to three planes of the result.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from jaxswap.medical.networks.convolution_moments import TileMoments, merged
from jaxswap.medical.networks.convolution_tiles import (
    Place,
    Tile,
    filled,
    matrix_numbers,
    tile_of,
)
from jaxswap.medical.networks.instance_norm import Moments
from jaxswap.medical.networks.shared_axes import type_among

ACROSS = tuple(itertools.product(range(3), range(3)))
"""Row and column of the kernel: where a plane is read for one voxel of the result."""
_PLANES = (2, 1, 0)
"""Planes of the kernel that a plane of features meets, for the one before and on."""
_KEPT_BYTES = 2 * 32 * 32
"""The largest matrices of a kernel of which a program keeps all 27 while it runs."""
_EXACT = ("highest", "float32")
"""Values of `jax_default_matmul_precision` for which products are not rounded."""


@dataclass(frozen=True)
class Convolution:
    """A convolution of one shape and type, with the programs that compute it.

    Attributes:
        batch: How many volumes.
        space: Depth, height and width.
        channels: Of the features.
        features: Of the result.
        dtype: Of features, kernel and result.
        per_tile: How many programs share the work on one tile.
        is_interpreted: Whether the programs run on a CPU.
        has_moments: Whether they sum the moments of the result as well.
    """

    batch: int
    space: tuple[int, int, int]
    channels: int
    features: int
    dtype: Any
    per_tile: int
    is_interpreted: bool
    has_moments: bool = False

    @classmethod
    def of(cls, x: Array, features: int, per_tile: int, is_interpreted: bool) -> Self:
        """Describe the convolution of features."""
        batch, depth, height, width, channels = x.shape
        space, counts = (depth, height, width), (channels, features)
        return cls(batch, space, *counts, x.dtype, per_tile, is_interpreted)

    @cached_property
    def filled(self) -> tuple[int, int]:
        """Channels and features of the matrices that are multiplied.

        Exact products of many channels with few features do not fit into registers.
        With more features, which are zero, they do.
        """
        channels, features = filled(self.channels), filled(self.features)
        return channels, max(features, channels // 2) if self._is_exact else features

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return jnp.dtype(self.dtype).itemsize

    @cached_property
    def tile(self) -> Tile:
        """What each program owns."""
        programs = self.per_tile * self.batch
        width = max(self.filled)
        kinds = self._is_exact, self.has_moments
        return tile_of(self.space, width, self.itemsize, programs, *kinds)

    def forward(self, x: Array, kernel: Array) -> Array:
        """Convolve features by a kernel."""
        return self._forward("convolve3d", [], x, kernel)[0]

    def with_moments(self, x: Array, kernel: Array) -> tuple[Array, Moments]:
        """Convolve features by a kernel, and return the moments of the result."""
        summing = replace(self, has_moments=True)
        shape = (self.batch, math.prod(summing.tile.grid(self.space)), 2)
        parts = jax.ShapeDtypeStruct((*shape, self.filled[1]), jnp.float32)
        name = "convolve3d_with_moments"
        y, found = summing._forward(name, [parts], x, kernel)
        mean, variance = merged(found, summing.tile, self.space)
        return y, (mean[..., : self.features], variance[..., : self.features])

    def _forward(
        self, name: str, more: list[jax.ShapeDtypeStruct], x: Array, kernel: Array
    ) -> list[Array]:
        missing = (w - n for w, n in zip(self.filled, kernel.shape[3:], strict=True))
        wide = jnp.pad(kernel, [(0, 0)] * 3 + [(0, count) for count in missing])
        y = jax.ShapeDtypeStruct((*x.shape[:4], self.features), x.dtype)
        return self._run(self._convolve_tile, name, [y, *more], x, wide)

    def kernel_gradient(self, x: Array, gradient: Array) -> Array:
        """Sum over all voxels what features and gradient say of the kernel."""
        tiles = self.batch * math.prod(self.tile.grid(self.space))
        parts = jax.ShapeDtypeStruct((tiles, 3, 3, 3, *self.filled), jnp.float32)
        name = "convolve3d_kernel_gradient"
        sums = self._run(self._sum_tile, name, [parts], x, gradient)[0].sum(0)
        return sums[..., : self.channels, : self.features]

    def _run(
        self,
        program: Callable[..., None],
        name: str,
        results: list[jax.ShapeDtypeStruct],
        *arrays: Array,
    ) -> list[Array]:
        """Run a program for each tile of the batch."""
        from jax.experimental.pallas import triton

        multiplications = 27 * self.batch * math.prod(self.space)
        multiplications *= self.channels * self.features
        whole = pl.BlockSpec(memory_space=pl.ANY)
        call = pl.pallas_call(
            program,
            out_shape=[type_among((r.size,), r.dtype, *arrays) for r in results],
            grid=(self.per_tile, *self.tile.grid(self.space), self.batch),
            in_specs=[whole] * len(arrays),
            out_specs=[whole] * len(results),
            name=name,
            interpret=self.is_interpreted,
            compiler_params=triton.CompilerParams(
                num_warps=self.tile.warps, num_stages=self.tile.stages
            ),
            cost_estimate=pl.CostEstimate(
                flops=2 * multiplications,
                transcendentals=0,
                bytes_accessed=sum(
                    a.size * a.dtype.itemsize for a in (*arrays, *results)
                ),
            ),
        )
        made = call(*(a.ravel() for a in arrays))
        return [a.reshape(r.shape) for a, r in zip(made, results, strict=True)]

    def _convolve_tile(
        self, x_ref: Any, kernel_ref: Any, y_ref: Any, parts_ref: Any = None
    ) -> None:
        """Compute one tile of the result, and its moments if they are asked for."""
        place = self._place()
        weights = partial(self._weights, kernel_ref)
        channels = self.channels, self.filled[0]
        if max(self.filled) ** 2 * self.itemsize <= _KEPT_BYTES:
            everywhere = itertools.product(range(3), repeat=3)
            weights = {at: weights(at) for at in everywhere}.__getitem__

        def add_plane(i: Array, carried: Any) -> Any:
            sums, known = carried
            z = place.first - 1 + i
            for row, column in ACROSS:
                read = place.read(x_ref, z, *channels, row - 1, column - 1)
                sums = tuple(
                    total + self._product(read, weights((plane, row, column)), (1, 0))
                    for plane, total in zip(_PLANES, sums, strict=True)
                )
            done, *rest = sums
            place.write(y_ref, z - 1, self.features, done)
            if known is not None:
                stored = done.astype(self.dtype).astype(jnp.float32)
                known = known.with_plane(place, z - 1, stored)
            return (*rest, zero), known

        width = self.filled[1]
        zero = jnp.zeros((self.tile.voxels, width), jnp.float32)
        nothing = None if parts_ref is None else TileMoments.of_nothing(width)
        start = ((zero,) * 3, nothing)
        _, known = lax.fori_loop(0, self.tile.planes + 2, add_plane, start)
        if known is not None:
            known.store(parts_ref, place.part)

    def _sum_tile(self, x_ref: Any, gradient_ref: Any, sums_ref: Any) -> None:
        """Sum over one tile, for one row and column of the kernel."""
        from jax.experimental.pallas import triton

        across, place = pl.program_id(0), self._place()
        down, right = lax.div(across, 3) - 1, lax.rem(across, 3) - 1
        counts = self.channels, self.features
        channels, features = zip(counts, self.filled, strict=True)

        def add_plane(i: Array, carried: Any) -> Any:
            before, here, sums = carried
            z = place.first - 1 + i
            after = place.read_owned(gradient_ref, z + 1, *features)
            read = place.read(x_ref, z, *channels, down, right)
            sums = tuple(
                total + self._product(read, gradient, (0, 0))
                for total, gradient in zip(sums, (before, here, after), strict=True)
            )
            return here, after, sums

        none = jnp.zeros((self.tile.voxels, self.filled[1]), self.dtype)
        zero = jnp.zeros(self.filled, jnp.float32)
        start = (none, none, (zero,) * 3)
        *_, sums = lax.fori_loop(0, self.tile.planes + 2, add_plane, start)
        for plane, total in zip(_PLANES, sums, strict=True):
            index = (place.part * 3 + plane) * len(ACROSS) + across
            triton.store(sums_ref.at[matrix_numbers(index, self.filled)], total)

    def _weights(self, kernel_ref: Any, at: tuple[int, ...]) -> Array:
        from jax.experimental.pallas import triton

        plane, row, column = at
        index = (plane * 3 + row) * 3 + column
        return triton.load(kernel_ref.at[matrix_numbers(index, self.filled)])

    def _product(self, a: Array, b: Array, summed: tuple[int, int]) -> Array:
        """Multiply matrices, and sum over an axis of each, in float32."""
        return lax.dot_general(
            a,
            b,
            (((summed[0],), (summed[1],)), ((), ())),
            precision=self._precision,
            preferred_element_type=jnp.float32,
        )

    @property
    def _precision(self) -> lax.DotAlgorithmPreset | lax.Precision | None:
        """How products of float32 are rounded: as JAX is told to, by default to TF32.

        Exact products would not fit into registers. Sums of three of TF32 are as good.
        """
        if self.dtype != jnp.float32:
            return None
        if self.is_interpreted:
            return lax.Precision.HIGHEST
        return lax.DotAlgorithmPreset.TF32_TF32_F32_X3 if self._is_exact else None

    @property
    def _is_exact(self) -> bool:
        config: Any = jax.config
        is_asked = config.jax_default_matmul_precision in _EXACT
        return is_asked and self.dtype == jnp.float32

    def _place(self) -> Place:
        """Find out which tile this program owns."""
        x, y, z, volume = (pl.program_id(axis) for axis in (1, 2, 3, 4))
        return Place(self.tile, self.space, volume, (x, y, z))
