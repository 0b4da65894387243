"""One way to compute a convolution and its two gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxswap.medical.networks import convolution_kernels as kernels
from jaxswap.medical.networks.instance_norm import Moments, moments_of
from jaxswap.medical.networks.shared_axes import summed_as, type_among

Pads = tuple[tuple[int, int], ...]
"""Before and after each axis."""

_AXES = ("NDHWC", "DHWIO", "NDHWC")


@dataclass(frozen=True)
class Form:
    """One way to compute a convolution and its two gradients.

    It is a plain convolution, or the transposition of one, of features some of whose
    neighbours are channels.

    Attributes:
        name: What it is called among the forms of its kind.
        spread: Maps the kernel to that of the plain convolution, and is linear.
        strides: Of the plain convolution.
        padding: Of the plain convolution, before and after each axis.
        packed: How many neighbours of the features become channels.
        unpacked: How many neighbours of the result are channels at first.
        is_transposed: Whether it is the transposition of the plain convolution.
        by_mirror: Whether the gradient of the features is the same form for the
            mirrored kernel, and not a transposition.
    """

    name: str
    spread: Callable[[Array], Array]
    strides: tuple[int, int, int]
    padding: Pads
    packed: int = 1
    unpacked: int = 1
    is_transposed: bool = False
    by_mirror: bool = False

    @property
    def is_untried(self) -> bool:
        """Whether no GPU has run it yet. Then it is timed only when that is asked."""
        return False

    def runs_on(self, compute_capability: tuple[int, int]) -> bool:
        """Whether a GPU has what it needs."""
        return True

    @property
    def has_moments(self) -> bool:
        """Whether its kernel finds mean and variance of its result while it writes."""
        return False

    def with_moments(self, x: Array, kernel: Array) -> tuple[Array, Moments]:
        """Convolve features, and return mean and variance of the result."""
        return self.then_moments(x, kernel)

    def then_moments(self, x: Array, kernel: Array) -> tuple[Array, Moments]:
        """Do the same in two steps: the result is read once more."""
        y = self.forward(x, kernel)
        return y, moments_of(y)

    def forward(self, x: Array, kernel: Array) -> Array:
        """Convolve features, (batch, depth, height, width, in)."""
        x, spread = _pack(x, self.packed), self.spread(kernel)
        if not self.is_transposed:
            return _unpack(self._plain(x, spread), self.unpacked)
        batch, *coarse, _ = x.shape
        fine = [n * stride for n, stride in zip(coarse, self.strides, strict=True)]
        result = type_among((batch, *fine, spread.shape[3]), x.dtype, x)
        return _unpack(self._transposed(x, spread, result), self.unpacked)

    def input_gradient(self, x: Array, kernel: Array, gradient: Array) -> Array:
        """Return the gradient of the features. Of them, only the shape is used."""
        if self.by_mirror:
            return summed_as(x, self.forward(gradient, kernels.mirrored(kernel)))
        spread, gradient = self.spread(kernel), _pack(gradient, self.unpacked)
        if self.is_transposed:
            return _unpack(self._plain(gradient, spread), self.packed)
        packed = jax.eval_shape(partial(_pack, count=self.packed), x)
        return _unpack(self._transposed(gradient, spread, packed), self.packed)

    def kernel_gradient(self, x: Array, kernel: Array, gradient: Array) -> Array:
        """Return the gradient of the kernel. Of it, only shape and type are used."""
        x, gradient = _pack(x, self.packed), _pack(gradient, self.unpacked)
        wide, narrow = (gradient, x) if self.is_transposed else (x, gradient)
        spread = jax.eval_shape(self.spread, kernel)
        of_spread = self._of_spread(wide, narrow, spread)
        # Several numbers of it are summed for each of the kernel.
        sums = jnp.float64 if kernel.dtype == jnp.float64 else jnp.float32
        summed = jax.linear_transpose(self.spread, kernel.astype(sums))
        return summed(of_spread.astype(sums))[0].astype(kernel.dtype)

    def _plain(self, x: Array, spread: Array) -> Array:
        return lax.conv_general_dilated(
            x, spread, self.strides, self.padding, dimension_numbers=_AXES
        )

    def _of_spread(self, x: Array, gradient: Array, spread: Any) -> Array:
        """Return the gradient of the kernel of the plain convolution."""
        return jax.linear_transpose(lambda k: self._plain(x, k), spread)(gradient)[0]

    def _transposed(self, y: Array, spread: Array, x: Any) -> Array:
        """Transpose the plain convolution of features of the type of `x`."""
        return jax.linear_transpose(lambda x: self._plain(x, spread), x)(y)[0]


def as_it_is(kernel: Array) -> Array:
    """Spread a kernel over no neighbours."""
    return kernel


def _pack(x: Array, count: int) -> Array:
    """Make so many neighbours along the last axis of space channels."""
    *before, width, channels = x.shape
    if count == 1:
        return x
    return x.reshape(*before, width // count, count * channels)


def _unpack(x: Array, count: int) -> Array:
    *before, width, channels = x.shape
    if count == 1:
        return x
    return x.reshape(*before, width * count, channels // count)
