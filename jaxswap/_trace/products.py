"""Matrix products and convolutions -> how a GPU's matrix units compute them.

cuDNN computes a convolution as a matrix product ("implicit GEMM"): a row for each voxel
of the result, a column for each output channel, and a sum over all input channels of
all places of the window. The gradient of the kernel is another such product: a row for
each place of the window and input channel, and a sum over all voxels. Matrix units work
in whole tiles of rows, columns and summands. A tile that is not full takes as long as a
full one.

Everything is read from shapes and parameters; nothing is executed.
"""

import dataclasses
import math
from typing import Any

_MATMUL_COLUMNS = 64
"""Columns of the smallest tile of a matrix product's kernels (NVIDIA, Deep Learning
Performance Guide, "Matrix Multiplication Background", tile quantization)."""

_MATMUL_TILE = 128
"""Rows and columns of the tiles that large products are split into (`tilesize128x128`
in the profiles of an H200 of 2026-11-28)."""

# Tiles of the kernels that cuDNN ran for a 3-D U-Net of 16 to 256 channels on an H200
# (profile of 2026-11-28): forward `tilesize256x32x32`, kernel gradient
# `tilesize32x128x32`, with 16-bit features.
_CONVOLUTION_COLUMNS = 32
_GRADIENT_ROWS = 128
_SUMMAND_BYTES = 64

_INDEXED_BELOW_CHANNELS = 16
"""With fewer input channels, cuDNN sums over places and channels in one run. It pads
the channels to eight (`nhwcAddPaddingKernel` of that profile)."""
_FEWEST_CHANNELS = 8

_STRIDED_GRADIENT = 4.5
"""How much longer the kernel gradient of a strided convolution takes than its tiles
say. All kernel gradients of that profile took 14.3 ms; without this it were 9.6."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of a traced program, in the terms of its matrix product.

    Attributes:
        is_kernel_gradient: Whether the window is larger than the result. Such is the
            gradient of the kernel.
        columns: Output channels.
        voxels: What one channel of the result has, over the whole batch.
        places: Places of the window that are not between voxels of a dilated operand.
        channels: Input channels of one group.
        is_strided: Whether the window moves, or is spread, by more than one voxel.
        itemsize: Bytes of one element of an operand.
        nbytes: Of both operands and the result.
        is_matmul: Whether the window or the result is one voxel, so that XLA makes a
            matrix product of it.
        is_channels_first: Whether the operand's last axis is one of space.
        rank: Number of axes of space.
    """

    is_kernel_gradient: bool
    columns: int
    voxels: int
    places: float
    channels: int
    is_strided: bool
    itemsize: int
    nbytes: int
    is_matmul: bool
    is_channels_first: bool
    rank: int

    @property
    def flops(self) -> float:
        """Floating point operations; what is multiplied by no voxel does not count."""
        return 2.0 * self.voxels * self.columns * self.places * self.channels

    @property
    def tile_flops(self) -> float:
        """Floating point operations in whole tiles."""
        columns = _up(self.columns, _CONVOLUTION_COLUMNS)
        if self.is_kernel_gradient:
            rows = _up(self.voxels, _GRADIENT_ROWS)
            times = _STRIDED_GRADIENT if self.is_strided else 1.0
            return 2.0 * rows * columns * self.places * self.channels * times
        summands = _SUMMAND_BYTES // self.itemsize
        if self.channels < _INDEXED_BELOW_CHANNELS:
            channels = _up(self.channels, _FEWEST_CHANNELS)
            depth = _up(math.ceil(self.places * channels), summands)
        else:
            depth = self.places * _up(self.channels, summands)
        return 2.0 * self.voxels * columns * depth

    @property
    def is_converted(self) -> bool:
        """Whether cuDNN brings operands and result into another layout and back.

        Its kernels want channels last. XLA stores features of three axes of space as
        the program does, those of two channels last.
        """
        return self.is_channels_first and self.rank == 3 and not self.is_matmul


def convolution_of(eqn: Any) -> Convolution:
    """Describe an equation of `conv_general_dilated`."""
    params = eqn.params
    numbers = params["dimension_numbers"]
    avals = [v.aval for v in (*eqn.invars[:2], eqn.outvars[0])]
    left, window, result = (a.shape for a in avals)
    space = [window[d] for d in numbers.rhs_spec[2:]]
    grid = [result[d] for d in numbers.out_spec[2:]]
    dilation = math.prod(params["lhs_dilation"])
    spread = (*params["window_strides"], *params["rhs_dilation"])
    is_gradient = math.prod(space) > math.prod(grid)
    batch, channels = result[numbers.out_spec[0]], window[numbers.rhs_spec[1]]
    return Convolution(
        is_kernel_gradient=is_gradient,
        columns=result[numbers.out_spec[1]],
        voxels=batch * math.prod(grid),
        places=math.prod(space) / dilation,
        channels=channels,
        is_strided=dilation > 1 or any(step > 1 for step in spread),
        itemsize=max(a.dtype.itemsize for a in avals[:2]),
        nbytes=sum(math.prod(a.shape) * a.dtype.itemsize for a in avals),
        is_matmul=1 in (math.prod(space), math.prod(grid)),
        is_channels_first=len(left) - 1 in numbers.lhs_spec[2:],
        rank=len(space),
    )


@dataclasses.dataclass(frozen=True)
class Matmul:
    """One `dot_general` of a traced program.

    Attributes:
        batch: How many products.
        rows: Of each.
        columns: Of each.
        summands: What each element of the result sums.
        groups: Into how many groups one operand is split.
        copied_count: How many operands XLA copies for each group.
    """

    batch: int
    rows: int
    columns: int
    summands: int
    groups: int = 1
    copied_count: int = 1

    @property
    def flops(self) -> float:
        """Floating point operations."""
        return 2.0 * self.batch * self.rows * self.columns * self.summands

    @property
    def tile_flops(self) -> float:
        """Floating point operations, the shorter side in whole tiles."""
        columns = max(1, min(self.rows, self.columns))
        return self.flops * _up(columns, _MATMUL_COLUMNS) / columns

    @property
    def tile_count(self) -> int:
        """Large tiles of the result: each keeps a multiprocessor busy."""
        rows, columns = (-(-n // _MATMUL_TILE) for n in (self.rows, self.columns))
        return self.batch * rows * columns


def matmul_of(eqn: Any) -> Matmul:
    """Describe an equation of `dot_general`."""
    (contracted, right_contracted), (batch, right_batch) = eqn.params[
        "dimension_numbers"
    ]
    left, right = (v.aval.shape for v in eqn.invars[:2])
    return Matmul(
        batch=math.prod(left[axis] for axis in batch),
        rows=_without(left, (*contracted, *batch)),
        columns=_without(right, (*right_contracted, *right_batch)),
        summands=math.prod(left[axis] for axis in contracted),
    )


def grouped_of(eqn: Any) -> Matmul:
    """Describe an equation of `ragged_dot_general` as the product that XLA makes of it.

    On NVIDIA's GPUs XLA copies the left operand for each group, with zeros outside of
    the group, and computes a dense product (github.com/openxla/xla/pull/45999). It sums
    over the groups. If what is summed is grouped, it copies the right operand, too, and
    makes a result for each group.
    """
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (contracted, right_contracted), (batch, right_batch) = numbers.dot_dimension_numbers
    left, right, sizes = (v.aval.shape for v in eqn.invars[:3])
    (ragged,) = numbers.lhs_ragged_dimensions
    of_group = tuple(numbers.rhs_group_dimensions)
    groups = 1 if ragged in batch else sizes[-1]
    is_summed = ragged not in contracted
    return Matmul(
        batch=math.prod(left[axis] for axis in batch) * (1 if is_summed else groups),
        rows=_without(left, (*contracted, *batch)),
        columns=_without(right, (*right_contracted, *right_batch, *of_group)),
        summands=math.prod(left[a] for a in contracted) * (groups if is_summed else 1),
        groups=groups,
        copied_count=1 if is_summed else 2,
    )


def _without(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """Elements of an array along all axes but some."""
    return math.prod(n for axis, n in enumerate(shape) if axis not in axes)


def _up(count: int, tile: int) -> int:
    """The next multiple of a tile."""
    return -(-count // tile) * tile
