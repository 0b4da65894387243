"""Forms of a plain convolution of stride 1 by kernels of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxswap.medical.networks import convolution_kernels as triton
from jaxswap.medical.networks import convolution_mosaic as mosaic
from jaxswap.medical.networks import convolution_mosaic_gradient as mosaic_gradient
from jaxswap.medical.networks.convolution_form import (
    Form,
    Pads,
    as_it_is,
)
from jaxswap.medical.networks.instance_norm import Moments
from jaxswap.medical.networks.shared_axes import summed_as


@dataclass(frozen=True)
class KernelForm(Form):
    """A 3x3x3 convolution by kernels.

    Its gradients are differentiated as those of JAX's convolution are.

    Attributes:
        is_interpreted: Whether its kernels run on a CPU, slowly, to test them.
    """

    name: str = "kernel"
    spread: Callable[[Array], Array] = as_it_is
    strides: tuple[int, int, int] = (1, 1, 1)
    padding: Pads = ((1, 1),) * 3
    by_mirror: bool = True
    is_interpreted: bool = False


@dataclass(frozen=True)
class TritonForm(KernelForm):
    """All passes by kernels in Pallas for Triton."""

    name: str = "triton"

    def runs_on(self, compute_capability: tuple[int, int]) -> bool:
        """Whether a GPU has what it needs."""
        return compute_capability >= triton.OLDEST

    @property
    def has_moments(self) -> bool:
        """Whether its kernel finds mean and variance of its result while it writes."""
        return True

    def with_moments(self, x: Array, kernel: Array) -> tuple[Array, Moments]:
        """Convolve features, and return mean and variance of the result."""
        return triton.convolve_with_moments(x, kernel, self.is_interpreted)

    def _plain(self, x: Array, spread: Array) -> Array:
        return triton.convolve(x, spread, self.is_interpreted)

    def _of_spread(self, x: Array, gradient: Array, spread: Any) -> Array:
        sums = triton.kernel_gradient(x, gradient, self.is_interpreted)
        return summed_as(spread, sums)


@dataclass(frozen=True)
class MosaicForm(KernelForm):
    """All passes by kernels in Pallas for Mosaic."""

    name: str = "mosaic"

    @property
    def is_untried(self) -> bool:
        """Whether no GPU has run it yet. Then it is timed only when that is asked."""
        return True

    def runs_on(self, compute_capability: tuple[int, int]) -> bool:
        """Whether a GPU has what it needs."""
        return compute_capability[0] == mosaic.ARCHITECTURE

    def _plain(self, x: Array, spread: Array) -> Array:
        return mosaic.convolve(x, spread, self.is_interpreted)

    def _of_spread(self, x: Array, gradient: Array, spread: Any) -> Array:
        sums = mosaic_gradient.kernel_gradient(x, gradient, self.is_interpreted)
        return summed_as(spread, sums)
