"""Convolutions of few channels by kernels of their own, in Pallas for Triton.

They are 3x3x3 convolutions of stride 1, channels last. As matrix products they would
read each voxel 27 times. Here a program goes through the planes of its tile one after
the other. It reads each of them nine times, and adds to three planes of the result.

Whether that is faster than cuDNN is for each GPU to say: see `fastest_layers`.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from jaxswap.medical.networks.convolution_tiles import (
    Place,
    Tile,
    filled,
    matrix_numbers,
    tile_of,
)

TYPES = ("bfloat16", "float16", "float32")
"""The numbers that kernels take; they are summed in float32."""
FEWEST_CHANNELS, MOST_CHANNELS = 4, 64
"""How few and how many channels features and results may have."""
OLDEST = (8, 0)
"""The compute capability from which on GPUs run the kernels: Ampere."""

_ACROSS = tuple(itertools.product(range(3), range(3)))
"""Row and column of the kernel: where a plane is read for one voxel of the result."""
_PLANES = (2, 1, 0)
"""Planes of the kernel that a plane of features meets, for the one before and on."""
_KEPT_BYTES = 2 * 32 * 32
"""The largest matrices of a kernel of which a program keeps all 27 while it runs."""
_MOST_NUMBERS = 2**31
"""That 32 bits count."""
_EXACT = ("highest", "float32")
"""Values of `jax_default_matmul_precision` for which products are not rounded."""


def can_take(shape: tuple[int, ...], kernel_shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether there are kernels for a convolution of stride 1, and this JAX runs them.

    Args:
        shape: Of the features, (batch, depth, height, width, in).
        kernel_shape: Of the kernel, (depth, height, width, in, out).
        dtype: Of both.
    """
    fewest, most = sorted(kernel_shape[3:])
    numbers = math.prod(shape[:4]) * most
    return (
        jnp.dtype(dtype).name in TYPES
        and kernel_shape[:3] == (3, 3, 3)
        and fewest >= FEWEST_CHANNELS
        and most <= MOST_CHANNELS
        and 0 < numbers < _MOST_NUMBERS
        and _has_triton()
    )


def convolve(x: Array, kernel: Array, is_interpreted: bool = False) -> Array:
    """Convolve features with zeros around them. `convolve_by` has its gradient.

    Its derivatives are those of JAX's convolution, so that gradients have gradients.

    Args:
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel in the same type, (3, 3, 3, in, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The result, (batch, depth, height, width, out).
    """
    return _convolve(is_interpreted, x, kernel)


def kernel_gradient(x: Array, gradient: Array, is_interpreted: bool = False) -> Array:
    """Return the gradient of the kernel of `convolve`.

    Args:
        x: The features, (batch, depth, height, width, in).
        gradient: Of the result, in the same type, (batch, depth, height, width, out).
        is_interpreted: Whether to run the kernels on a CPU, slowly, to test them.

    Returns:
        The gradient, (3, 3, 3, in, out), in float32.
    """
    return _kernel_gradient(is_interpreted, x, gradient)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(is_interpreted: bool, x: Array, kernel: Array) -> Array:
    return _Convolution.of(x, kernel.shape[4], 1, is_interpreted).forward(x, kernel)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _kernel_gradient(is_interpreted: bool, x: Array, gradient: Array) -> Array:
    programs = len(_ACROSS)
    convolution = _Convolution.of(x, gradient.shape[4], programs, is_interpreted)
    return convolution.kernel_gradient(x, gradient)


_Operands = tuple[Array, Array]


@_convolve.defjvp
def _(is_interpreted: bool, operands: _Operands, tangents: _Operands) -> _Operands:
    tangent = jax.jvp(by_jax, operands, tangents)[1]
    return _convolve(is_interpreted, *operands), tangent


@_kernel_gradient.defjvp
def _(is_interpreted: bool, operands: _Operands, tangents: _Operands) -> _Operands:
    tangent = jax.jvp(kernel_gradient_by_jax, operands, tangents)[1]
    return _kernel_gradient(is_interpreted, *operands), tangent


def by_jax(x: Array, kernel: Array) -> Array:
    """Convolve by JAX's convolution: what kernels must equal."""
    axes = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=axes
    )


def kernel_gradient_by_jax(x: Array, gradient: Array) -> Array:
    """Return the gradient of the kernel of JAX's convolution, in float32."""
    counts = (x.shape[4], gradient.shape[4])
    kernel = jax.ShapeDtypeStruct((3, 3, 3, *counts), x.dtype)
    pull = jax.linear_transpose(partial(by_jax, x), kernel)
    return pull(gradient)[0].astype(jnp.float32)


@dataclass(frozen=True)
class _Convolution:
    """A convolution of one shape and type, with the programs that compute it.

    Attributes:
        batch: How many volumes.
        space: Depth, height and width.
        channels: Of the features.
        features: Of the result.
        dtype: Of features, kernel and result.
        per_tile: How many programs share the work on one tile.
        is_interpreted: Whether the programs run on a CPU.
    """

    batch: int
    space: tuple[int, int, int]
    channels: int
    features: int
    dtype: Any
    per_tile: int
    is_interpreted: bool

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
        return tile_of(self.space, width, self.itemsize, programs, self._is_exact)

    def forward(self, x: Array, kernel: Array) -> Array:
        """Convolve features by a kernel."""
        wide, narrow = self.filled, kernel.shape[3:]
        more = [(0, 0)] * 3 + [(0, w - n) for w, n in zip(wide, narrow, strict=True)]
        y = jax.ShapeDtypeStruct((*x.shape[:4], self.features), x.dtype)
        return self._run(self._convolve_tile, "convolve3d", y, x, jnp.pad(kernel, more))

    def kernel_gradient(self, x: Array, gradient: Array) -> Array:
        """Sum over all voxels what features and gradient say of the kernel."""
        tiles = self.batch * math.prod(self.tile.grid(self.space))
        parts = jax.ShapeDtypeStruct((tiles, 3, 3, 3, *self.filled), jnp.float32)
        name = "convolve3d_kernel_gradient"
        sums = self._run(self._sum_tile, name, parts, x, gradient).sum(0)
        return sums[..., : self.channels, : self.features]

    def _run(
        self,
        program: Callable[..., None],
        name: str,
        result: jax.ShapeDtypeStruct,
        *arrays: Array,
    ) -> Array:
        """Run a program for each tile of the batch."""
        from jax.experimental.pallas import triton

        multiplications = 27 * self.batch * math.prod(self.space)
        multiplications *= self.channels * self.features
        whole = pl.BlockSpec(memory_space=pl.ANY)
        call = pl.pallas_call(
            program,
            out_shape=type_among((result.size,), result.dtype, *arrays),
            grid=(self.per_tile, *self.tile.grid(self.space), self.batch),
            in_specs=[whole] * len(arrays),
            out_specs=whole,
            name=name,
            interpret=self.is_interpreted,
            compiler_params=triton.CompilerParams(
                num_warps=self.tile.warps, num_stages=self.tile.stages
            ),
            cost_estimate=pl.CostEstimate(
                flops=2 * multiplications,
                transcendentals=0,
                bytes_accessed=sum(
                    a.size * a.dtype.itemsize for a in (*arrays, result)
                ),
            ),
        )
        return call(*(a.ravel() for a in arrays)).reshape(result.shape)

    def _convolve_tile(self, x_ref: Any, kernel_ref: Any, y_ref: Any) -> None:
        """Compute one tile of the result."""
        place = self._place()
        weights = partial(self._weights, kernel_ref)
        channels = self.channels, self.filled[0]
        if max(self.filled) ** 2 * self.itemsize <= _KEPT_BYTES:
            everywhere = itertools.product(range(3), repeat=3)
            weights = {at: weights(at) for at in everywhere}.__getitem__

        def add_plane(i: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
            z = place.first - 1 + i
            for row, column in _ACROSS:
                read = place.read(x_ref, z, *channels, row - 1, column - 1)
                sums = tuple(
                    total + self._product(read, weights((plane, row, column)), (1, 0))
                    for plane, total in zip(_PLANES, sums, strict=True)
                )
            done, *rest = sums
            place.write(y_ref, z - 1, self.features, done)
            return (*rest, zero)

        zero = jnp.zeros((self.tile.voxels, self.filled[1]), jnp.float32)
        lax.fori_loop(0, self.tile.planes + 2, add_plane, (zero,) * 3)

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
            index = (place.part * 3 + plane) * len(_ACROSS) + across
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


def type_among(shape: Sequence[int], dtype: Any, *arrays: Any) -> jax.ShapeDtypeStruct:
    """Return the type of a result, which varies over a `jax.shard_map` as arrays do.

    Args:
        shape: Of the result.
        dtype: Of the result.
        *arrays: What it is computed of.
    """

    def computed(*arrays: Array) -> Array:
        firsts = [a.ravel()[0].astype(dtype) for a in arrays]
        return jnp.full(shape, sum(firsts[1:], start=firsts[0]))

    return jax.eval_shape(computed, *arrays)


def axes_of(x: Any) -> frozenset[str]:
    """Return the axes of a `jax.shard_map` along which an array is another one.

    Args:
        x: The array, or its type.
    """
    type_ = jax.eval_shape(lambda x: x, x)
    return getattr(getattr(type_, "manual_axis_type", None), "varying", frozenset())


@cache
def _has_triton() -> bool:
    """Whether this JAX has kernels in Triton. It will not have them for good."""
    return importlib.util.find_spec("jax.experimental.pallas.triton") is not None


def mirrored(kernel: Array) -> Array:
    """Return the kernel whose convolution is the gradient of the features."""
    return jnp.swapaxes(lax.rev(kernel, (0, 1, 2)), 3, 4)
