"""The forms of each convolution: one function of the same kernel, other channels.

cuDNN is slow where voxels have few channels. Channels last, features of shape (..,
width, channel) and (.., width / 2, 2 channel) are the same bytes. So neighbours along
the last axis of space become channels without a copy, and the kernel is spread over
them. A spread kernel holds zeros, so there are more multiplications, which tensor cores
do not notice. Zero times infinity is not a number: features that overflow reach one
voxel further.

Which form is the fastest depends on the GPU, the shape and the type: see
`fastest_layers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxswap.medical.networks import convolution_kernels as kernels
from jaxswap.medical.networks import convolution_mosaic as mosaic
from jaxswap.medical.networks.convolution_form import Form, Pads, as_it_is
from jaxswap.medical.networks.convolution_kernel_forms import MosaicForm, TritonForm
from jaxswap.medical.networks.instance_norm import Moments

Kind = Literal[
    "convolve", "convolve_strided", "convolve_upsampled", "convolve_transposed"
]
"""The convolutions that have forms: functions of `Layers`."""
KINDS: tuple[Kind, ...] = get_args(Kind)

PLAIN = "plain"
"""The form that each convolution has."""

_SPACE = (0, 1, 2)


@dataclass(frozen=True)
class Passes:
    """The form of a convolution and of each of its gradients.

    Attributes:
        forward: What computes the convolution.
        input_gradient: What computes the gradient of the features.
        kernel_gradient: What computes the gradient of the kernel.
    """

    forward: Form
    input_gradient: Form
    kernel_gradient: Form


def convolve_by(passes: Passes, x: Array, kernel: Array) -> Array:
    """Convolve features by a form for each pass. The kernel is cast to their type.

    A plain convolution is left to JAX, which can differentiate it in forward mode too.
    """
    kernel = kernel.astype(x.dtype)
    forward = passes.forward
    is_plain = forward == passes.input_gradient == passes.kernel_gradient
    if is_plain and forward.name == PLAIN and not forward.is_transposed:
        return forward.forward(x, kernel)
    return _convolve_by(passes, x, kernel)


def convolve_with_moments_by(
    passes: Passes, x: Array, kernel: Array
) -> tuple[Array, Moments]:
    """Convolve as `convolve_by` does, and return mean and variance of the result.

    For differentiation they are constants: the gradient of the normalisation that is
    given them holds how the loss depends on them.
    """
    return _with_moments_by(passes, x, kernel.astype(x.dtype))


@lru_cache(maxsize=1024)
def forms_of(
    kind: Kind, shape: tuple[int, ...], kernel_shape: tuple[int, ...], dtype: Any = None
) -> dict[str, Form]:
    """Return by name the forms that can compute a convolution. All have the plain one.

    Args:
        kind: Which convolution.
        shape: Of the features, (batch, depth, height, width, in).
        kernel_shape: Of the kernel, (depth, height, width, in, out).
        dtype: Of both. `None`: only forms that take all types. Kernels are for some
            types, and for GPUs alone.

    Example:
        >>> list(forms_of("convolve", (1, 8, 8, 6, 4), (3, 3, 3, 4, 8)))
        ['plain', 'reshaped2', 'strided2']
        >>> list(forms_of("convolve", (1, 8, 8, 5, 4), (3, 3, 3, 4, 8), "bfloat16"))
        ['plain', 'triton']
    """
    made = _MADE[kind](kernel_shape[:3])
    if kind == "convolve" and dtype is not None:
        types = (shape, kernel_shape, dtype)
        made += [form() for form, can_take in _BY_KERNELS if can_take(*types)]
    return {
        form.name: form
        for form in made
        if shape[3] % form.packed == 0
        and (form.is_transposed or shape[3] % form.unpacked == 0)
    }


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_by(passes: Passes, x: Array, kernel: Array) -> Array:
    return passes.forward.forward(x, kernel)


def _forward(
    passes: Passes, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return passes.forward.forward(x, kernel), (x, kernel)


def _backward(
    passes: Passes, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    return (
        passes.input_gradient.input_gradient(*residuals, gradient),
        passes.kernel_gradient.kernel_gradient(*residuals, gradient),
    )


_convolve_by.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_moments_by(passes: Passes, x: Array, kernel: Array) -> tuple[Array, Moments]:
    return passes.forward.with_moments(x, kernel)


def _forward_with_moments(passes: Passes, x: Array, kernel: Array) -> Any:
    return passes.forward.with_moments(x, kernel), (x, kernel)


def _backward_with_moments(
    passes: Passes, residuals: tuple[Array, Array], gradients: tuple[Array, Moments]
) -> tuple[Array, Array]:
    return _backward(passes, residuals, gradients[0])


_with_moments_by.defvjp(_forward_with_moments, _backward_with_moments)


def _convolve(sides: tuple[int, ...]) -> list[Form]:
    pads = tuple((side // 2, side // 2) for side in sides)
    made = [Form(PLAIN, as_it_is, (1, 1, 1), pads)]
    for count in (2, 4):
        made.append(_reshaped(count, pads))
        if pads[2][0] > 0:
            made.append(_strided(count, pads))
    return made


def _reshaped(count: int, pads: Pads) -> Form:
    """So many neighbours are channels, of the features and of the result."""
    half = pads[2][0]
    blocks = -(-half // count)
    window, first = (2 * blocks + 1) * count, blocks * count - half
    return Form(
        f"reshaped{count}",
        partial(_spread, count=count, window=window, first=first, packed=count),
        strides=(1, 1, 1),
        padding=(*pads[:2], (blocks, blocks)),
        packed=count,
        unpacked=count,
    )


def _strided(count: int, pads: Pads) -> Form:
    """So many neighbours of the result are channels."""
    window = count + 2 * pads[2][0]
    return Form(
        f"strided{count}",
        partial(_spread, count=count, window=window, first=0, packed=1),
        strides=(1, 1, count),
        padding=pads,
        unpacked=count,
        by_mirror=True,
    )


def _convolve_strided(sides: tuple[int, ...]) -> list[Form]:
    pads = tuple((side // 2, side // 2) for side in sides)
    made = [Form(PLAIN, as_it_is, (2, 2, 2), pads)]
    if sides[2] == 3:
        # Two blocks would do, but cuDNN pads both sides alike.
        spread = partial(_spread, count=1, window=6, first=1, packed=2)
        pad = (*pads[:2], (1, 1))
        made.append(Form("paired", spread, (2, 2, 1), pad, packed=2))
    return made


def _convolve_upsampled(sides: tuple[int, ...]) -> list[Form]:
    ones = ((1, 1),) * 3
    return [
        Form(PLAIN, _upsampling, (2, 2, 2), ones, is_transposed=True),
        Form(
            "paired", _upsampling_pairs, (2, 2, 1), ones, unpacked=2, is_transposed=True
        ),
    ]


def _convolve_transposed(sides: tuple[int, ...]) -> list[Form]:
    none = ((0, 0),) * 3
    return [
        Form(PLAIN, _swapped, (2, 2, 2), none, is_transposed=True),
        Form("paired", _swapped_pairs, (2, 2, 1), none, unpacked=2, is_transposed=True),
    ]


_MADE: dict[Kind, Callable[[tuple[int, ...]], list[Form]]] = {
    "convolve": _convolve,
    "convolve_strided": _convolve_strided,
    "convolve_upsampled": _convolve_upsampled,
    "convolve_transposed": _convolve_transposed,
}


_BY_KERNELS = ((TritonForm, kernels.can_take), (MosaicForm, mosaic.can_take))


def _spread(
    kernel: Array, *, count: int, window: int, first: int, packed: int
) -> Array:
    """Spread a kernel over a window, for so many results beside each other.

    Result `i` reads the window from `first + i` on. So many voxels of the window are
    channels.
    """
    *across, size, channels, features = kernel.shape
    none = [(0, 0, 0)] * 2
    zero = jnp.zeros((), kernel.dtype)
    shifted = [
        lax.pad(kernel, zero, [*none, (start, window - size - start, 0), *none])
        for start in range(first, first + count)
    ]
    spread = jnp.concatenate(shifted, axis=-1)
    return spread.reshape(
        *across, window // packed, packed * channels, count * features
    )


def _swapped(kernel: Array) -> Array:
    return jnp.swapaxes(kernel, 3, 4)


def _swapped_pairs(kernel: Array) -> Array:
    """(2, 2, 2, in, out) -> (2, 2, 1, 2 out, in)."""
    depth, height, pair, channels, features = kernel.shape
    swapped = kernel.transpose(0, 1, 2, 4, 3)
    return swapped.reshape(depth, height, 1, pair * features, channels)


def _upsampling(kernel: Array) -> Array:
    """Sum the kernel of fine voxels over those that one coarse voxel becomes.

    A nearest-neighbour upsampling and a convolution are the transposition of one
    convolution of stride 2. Its kernel is mirrored and maps out to in.
    """
    summed = _swapped(lax.rev(kernel, _SPACE))
    for axis in _SPACE:
        summed = _summed(summed, axis)
    return summed


def _upsampling_pairs(kernel: Array) -> Array:
    """Do the same, with both fine voxels of a coarse one as channels."""
    summed = _swapped(lax.rev(kernel, _SPACE))
    for axis in (0, 1):
        summed = _summed(summed, axis)
    one, two, three = jnp.split(summed, 3, axis=2)
    nothing = jnp.zeros_like(one)
    # Along the last axis, a coarse voxel takes part in three pairs of fine ones.
    firsts = jnp.concatenate([nothing, two + one, three], axis=2)
    seconds = jnp.concatenate([one, three + two, nothing], axis=2)
    return jnp.concatenate([firsts, seconds], axis=3)


def _summed(kernel: Array, axis: int) -> Array:
    before, after = [(0, 0)] * 5, [(0, 0)] * 5
    before[axis], after[axis] = (1, 0), (0, 1)
    return jnp.pad(kernel, before) + jnp.pad(kernel, after)
