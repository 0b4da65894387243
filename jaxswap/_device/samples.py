"""The programs by which a device is measured, as plain JAX functions and arrays.

They are what networks are made of, in sizes that keep a GPU busy: a rate that is
measured with them is what networks get.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxswap import _compat

_MIB = 2**20
_GIB = 2**30

PRECISIONS = (
    ("bf16", jnp.bfloat16, lax.Precision.DEFAULT),
    ("tf32", jnp.float32, lax.Precision.DEFAULT),
    ("fp32", jnp.float32, lax.Precision.HIGHEST),
)
"""Name in `Rates`, type of the operands, precision of the product."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A function and what it is called with.

    Attributes:
        fn: The function.
        args: Its arguments, on the default device.
    """

    fn: Callable[..., Any]
    args: tuple[Array, ...]


@dataclasses.dataclass(frozen=True)
class Volume:
    """Features that are convolved with kernels of three along each axis.

    Attributes:
        spatial: Size of the image or volume.
        channels: Of the input and of the output.
        batch: Images or volumes.
    """

    spatial: tuple[int, ...]
    channels: int
    batch: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features."""
        return (self.batch, *self.spatial, self.channels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the programs are that are timed.

    Attributes:
        matmuls: Rows, summands and columns of each product.
        volumes: What is convolved, added and summed. The first has three axes of space.
        copy_bytes: Size of the arrays that are copied to the host and back.
    """

    matmuls: tuple[tuple[int, int, int], ...]
    volumes: tuple[Volume, ...]
    copy_bytes: int


def sizes_for(free_bytes: int, *, is_quick: bool = False) -> Sizes:
    """Choose sizes that keep a GPU busy and fit in its free memory.

    Args:
        free_bytes: Free device memory.
        is_quick: Choose smaller ones, which take less time and tell less.

    Returns:
        The sizes. Products are a cube and those of a layer of 1,024 features: forward
        and for the gradient of its weights. Volumes are levels of a 3-D U-Net and a
        layer of a ResNet.

    Raises:
        ValueError: If there is too little memory to measure anything.
    """
    if free_bytes < _GIB:
        raise ValueError(
            f"{free_bytes / _GIB:.2f} GiB of the device's memory are free, and "
            "measuring needs 1 GiB: end what else runs on the GPU."
        )
    is_small = is_quick or free_bytes < 6 * _GIB
    rows = 8192 if is_small else 32768
    cube = 2048 if is_small else 4096
    volumes = (
        (Volume((96, 96, 96), 16), Volume((48, 48, 48), 32), Volume((56, 56), 64, 16))
        if is_small
        else (
            Volume((160, 160, 160), 16),
            Volume((96, 96, 96), 32),
            Volume((48, 48, 48), 64),
            Volume((56, 56), 128, 32),
        )
    )
    return Sizes(
        matmuls=((cube, cube, cube), (rows, 1024, 1024), (1024, rows, 1024)),
        volumes=volumes,
        copy_bytes=min((64 if is_small else 256) * _MIB, free_bytes // 16),
    )


def matmul(size: tuple[int, int, int], dtype: Any, precision: lax.Precision) -> Sample:
    """Return a matrix product."""
    rows, summands, columns = size
    args = normal((rows, summands), dtype, 0), normal((summands, columns), dtype, 1)
    return Sample(functools.partial(jnp.matmul, precision=precision), args)


def convolution(
    volume: Volume,
    dtype: Any,
    precision: lax.Precision,
    *,
    is_kernel_gradient: bool,
    is_channels_first: bool = False,
) -> Sample:
    """Return a convolution with its input's gradient, or the gradient of its kernel."""
    rank = len(volume.spatial)
    axes = "DHW"[3 - rank :]
    features = f"NC{axes}" if is_channels_first else f"N{axes}C"
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1,) * rank,
        padding="SAME",
        dimension_numbers=(features, f"{axes}IO", features),
        precision=precision,
    )

    def kernel_gradient(x: Array, kernel: Array, cotangent: Array) -> Array:
        return jax.vjp(lambda k: convolve(x, k), kernel)[1](cotangent)[0]

    def forward_and_input_gradient(x: Array, kernel: Array, cotangent: Array) -> Any:
        y, pullback = jax.vjp(lambda x: convolve(x, kernel), x)
        return y, pullback(cotangent)[0]

    batch, *spatial, channels = volume.shape
    shape = (batch, channels, *spatial) if is_channels_first else volume.shape
    x, cotangent = (normal(shape, dtype, seed) for seed in (0, 1))
    kernel = normal((3,) * rank + (channels,) * 2, dtype, 2)
    fn = kernel_gradient if is_kernel_gradient else forward_and_input_gradient
    return Sample(fn, (x, kernel, cotangent))


def addition(volume: Volume) -> Sample:
    """Return a sum of features, element by element."""
    args = tuple(normal(volume.shape, jnp.bfloat16, seed) for seed in (0, 1))
    return Sample(jnp.add, args)


def statistics(volume: Volume) -> Sample:
    """Return mean and variance of each channel, as a normalisation takes them."""
    axes = tuple(range(1, 1 + len(volume.spatial)))

    def moments(x: Array) -> tuple[Array, Array]:
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, axes)
        return mean, jnp.mean(jnp.square(wide), axes) - jnp.square(mean)

    return Sample(moments, (normal(volume.shape, jnp.bfloat16, 0),))


def many_arguments(count: int) -> Sample:
    """Return a function of so many arrays, as a training step has parameters."""
    args = tuple(jnp.ones(8, jnp.float32) for _ in range(count))
    return Sample(lambda *xs: tuple(x + 1.0 for x in xs), args)


def normal(shape: tuple[int, ...], dtype: Any, seed: int) -> Array:
    """Random numbers: on zeros, a GPU draws less power and keeps a higher clock."""
    count = min(math.prod(shape), _MIB)
    values = np.random.default_rng(seed).standard_normal(count, np.float32)
    return jnp.asarray(np.resize(values, shape), dtype)


def layers(count: int) -> Callable[[Array], Array]:
    """So many layers of a network, each a product and a normalisation."""

    def program(x: Array) -> Array:
        for _ in range(count):
            y = jnp.tanh(x @ x)
            centred = y - jnp.mean(y, axis=-1, keepdims=True)
            x = lax.optimization_barrier(centred + x)
        return x

    return program


def round_trips(count: int) -> Callable[[Array], Array]:
    """So many copies to the host and back, one after the other."""

    def program(x: Array) -> Array:
        for _ in range(count):
            host = lax.optimization_barrier(_compat.to_host(x))
            x = lax.optimization_barrier(_compat.to_device(host))
        return x

    return program


def exchanges(count: int) -> Callable[[Array, Array], tuple[Array, Array]]:
    """So many times, one array goes to the host while another one comes from there.

    In between, both go back one after the other.
    """

    def program(x: Array, y: Array) -> tuple[Array, Array]:
        x, host = lax.optimization_barrier((x, _compat.to_host(y)))
        for _ in range(count):
            pair = _compat.to_host(x), _compat.to_device(host)
            x, y = lax.optimization_barrier(pair)
            y, host = lax.optimization_barrier((x, _compat.to_host(y)))
            x, host = lax.optimization_barrier((_compat.to_device(y), host))
        return x, _compat.to_device(host)

    return program
