"""The layers of the U-Net as a set of functions, and the three sets there are.

All sets compute the same function of the same parameters. They differ in the bytes
that a backward pass needs and in how fast a device is at them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jax import Array

from jaxswap.medical.networks import convolution, convolution_cpu, instance_norm
from jaxswap.medical.networks.instance_norm import Moments


@dataclass(frozen=True)
class Layers:
    """One implementation of each layer; arrays are (batch, space..., channel).

    Attributes:
        convolve: Features and kernel to features.
        convolve_strided: The same at stride 2.
        convolve_upsampled: The same after twofold nearest-neighbor upsampling.
        convolve_transposed: The same from each voxel to the 2x2x2 that it becomes.
        convolve_concatenation: The same for the concatenation of several features.
        normalize: Features, scale, bias and negative slope to activations. If layers
            have the next function, it takes the moments of the features as `moments`.
        convolve_with_moments: As `convolve`, where a normalisation follows. It returns
            mean and variance of its result beside it, or `None` where the normalisation
            is to find them. `None`: `convolve` is used there, too.
    """

    convolve: Callable[[Array, Array], Array]
    convolve_strided: Callable[[Array, Array], Array]
    convolve_upsampled: Callable[[Array, Array], Array]
    convolve_transposed: Callable[[Array, Array], Array]
    convolve_concatenation: Callable[[tuple[Array, ...], Array], Array]
    normalize: Callable[..., Array]
    convolve_with_moments: (
        Callable[[Array, Array], tuple[Array, Moments | None]] | None
    ) = None


LEAN = Layers(
    convolve=convolution.convolve,
    convolve_strided=convolution.convolve_strided,
    convolve_upsampled=convolution.convolve_upsampled,
    convolve_transposed=convolution.convolve_transposed,
    convolve_concatenation=convolution.convolve_concatenation,
    normalize=instance_norm.instance_norm_leaky_relu,
)
"""Fewest bytes on a GPU: nothing upsampled, concatenated or normalized is stored."""

TEXTBOOK = Layers(
    convolve=convolution.convolve,
    convolve_strided=convolution.convolve_strided,
    convolve_upsampled=convolution.convolve_upsampled_textbook,
    convolve_transposed=convolution.convolve_transposed,
    convolve_concatenation=convolution.convolve_concatenation_textbook,
    normalize=instance_norm.instance_norm_leaky_relu_textbook,
)
"""The layers as they are usually written, for comparison."""

CPU = Layers(
    convolve=convolution_cpu.convolve_slices,
    convolve_strided=convolution_cpu.convolve_strided_slices,
    convolve_upsampled=convolution_cpu.convolve_upsampled_slices,
    convolve_transposed=convolution_cpu.convolve_transposed_slices,
    convolve_concatenation=convolution_cpu.convolve_concatenation_slices,
    normalize=instance_norm.instance_norm_leaky_relu,
)
"""Fastest on a CPU."""
