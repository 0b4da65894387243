"""The layers of the U-Net in those forms that were timed to be the fastest on a GPU.

No form is believed to be fast. Each of the three passes of a convolution takes the form
whose products took the least time on that GPU, at that shape and type, among those
whose time is known. Where the time of the plain form is not known, it is the plain one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct

from jaxswap import Target, find_target
from jaxswap.extend import operation_seconds
from jaxswap.medical.networks.convolution import convolve_concatenation
from jaxswap.medical.networks.convolution_form import Form
from jaxswap.medical.networks.convolution_forms import (
    KINDS,
    PLAIN,
    Kind,
    Passes,
    convolve_by,
    forms_of,
)
from jaxswap.medical.networks.convolution_kernel_forms import KernelForm
from jaxswap.medical.networks.convolution_mosaic import OLDEST_JAX
from jaxswap.medical.networks.layers import LEAN, Layers

MOST_CHANNELS = 128
"""Of packed features. With as many a plain convolution keeps tensor cores busy."""

MOST_DIFFERENCE = {"bfloat16": 0.02, "float16": 0.02, "float32": 0.002}
"""Of a kernel's result from the plain form's, relative to its length.

On tensor cores, products of float32 are rounded as well: to TF32.
"""

_Convolve = Callable[[Array, Array], Array]
_PASSES = tuple(field.name for field in dataclasses.fields(Passes))


def fastest_layers(target: Target) -> Layers:
    """Return the layers that take for each convolution what was fastest on a GPU.

    Args:
        target: The GPU, with the times of its operations. `time_forms` takes them.

    Example:
        >>> import jaxswap
        >>> from jaxswap.medical.networks.unet import UNet3D
        >>> network = UNet3D(layers=fastest_layers(jaxswap.find_target("h200")))
    """
    return _layers(lambda kind: _Fastest(kind, target))


def layers_in_forms(forms: Mapping[str, str]) -> Layers:
    """Return the layers in forms of one's choice, the same for all three passes.

    A convolution whose shape or type a form cannot take is plain.

    Args:
        forms: Name of the form by kind of convolution. Those left out are plain.

    Returns:
        The layers.

    Raises:
        ValueError: If there is no such kind, or no such form of it.

    Example:
        >>> from jaxswap.medical.networks.unet import UNet3D
        >>> network = UNet3D(layers=layers_in_forms({"convolve": "reshaped2"}))
    """
    for kind, name in forms.items():
        if kind not in KINDS:
            raise ValueError(
                f"`forms` names the convolution {kind!r}; choose {', '.join(KINDS)}."
            )
        if name not in (names := _form_names(kind)):
            raise ValueError(
                f"`forms` wants {kind!r} as {name!r}, which it cannot have here; "
                f"choose {', '.join(names)}.{_why_not(name)}"
            )
    return _layers(lambda kind: _InForm(kind, forms.get(kind, PLAIN)))


def _why_not(name: str) -> str:
    if name != "mosaic":
        return ""
    oldest = ".".join(map(str, OLDEST_JAX))
    return (
        f" Kernels in Mosaic are for 3x3x3 convolutions, under JAX {oldest} or newer."
    )


def _form_names(kind: Kind) -> list[str]:
    """List the forms of a convolution that can have each of them."""
    side = 2 if kind == "convolve_transposed" else 3
    kernel = (side, side, side, 16, 16)
    return list(forms_of(kind, (1, 8, 8, 8, 16), kernel, "bfloat16"))


def time_forms(
    network: nn.Module,
    x: Any,
    progress: bool | Callable[[str], None] = False,
    untried: bool = False,
) -> Target:
    """Time the forms of a network's convolutions on the GPU of this machine.

    What was timed before is not timed again. The times are saved with the target. A
    kernel is first executed, and is timed only if its result is that of the plain form.

    Args:
        network: A network with a field `layers`.
        x: What it is called with, (batch, x, y, z, channel), or its
            `jax.ShapeDtypeStruct`. Only single convolutions are executed.
        progress: Is told each result. Or whether to write them to stderr.
        untried: Whether to time forms as well that no GPU has run yet. They are kernels
            in Mosaic. A mistake in one could end this process, or let it wait for ever.

    Returns:
        The GPU with all that is known, for `fastest_layers`.

    Raises:
        ValueError: If there is no GPU in this machine.
    """
    target = find_target()
    for kind, features, kernel in convolutions_of(network, x):
        types = (features, kernel)
        forms = candidates(kind, *types, target)
        for form, name in itertools.product(forms.values(), _PASSES):
            if form.is_untried and not untried:
                continue
            is_kernel = isinstance(form, KernelForm)
            if is_kernel and _seconds(name, *types, form, target=target) is not None:
                continue
            if not is_kernel or is_right(name, *types, form, forms[PLAIN]):
                _seconds(name, *types, form, progress=progress)
    return find_target()


def in_fastest_forms(
    network: nn.Module,
    x: Any,
    target: str | None,
    progress: bool | Callable[[str], None] = False,
) -> nn.Module:
    """Return a network in which each convolution has the form that is fastest there.

    Args:
        network: Any network. One without a field `layers`, or with other layers than
            `LEAN`, stays as it is.
        x: What it is called with, (batch, x, y, z, channel), or its
            `jax.ShapeDtypeStruct`.
        target: The name of the GPU to plan for. Nothing is timed for it. `None`: JAX's
            default device. If that is a GPU that jaxswap knows, forms whose time is not
            known are timed now.
        progress: Is told each result. Or whether to write them to stderr.

    Raises:
        ValueError: If `target` is not known.
    """
    if getattr(network, "layers", None) != LEAN:
        return network
    if target is not None:
        return network.clone(layers=fastest_layers(find_target(target)))
    if jax.default_backend() != "gpu":
        return network
    try:
        known = time_forms(network, x, progress)
    except ValueError:  # A GPU without a description can train and predict, too.
        return network
    return network.clone(layers=fastest_layers(known))


def convolutions_of(
    network: nn.Module, x: Any
) -> list[tuple[Kind, ShapeDtypeStruct, ShapeDtypeStruct]]:
    """List the different convolutions of a network.

    Args:
        network: A network with a field `layers`.
        x: What it is called with, or its `jax.ShapeDtypeStruct`.

    Returns:
        Kind, features and kernel of each.
    """
    seen: dict[tuple[Kind, ShapeDtypeStruct, ShapeDtypeStruct], None] = {}

    def recorded(kind: Kind) -> _Convolve:
        def convolve(x: Array, kernel: Array) -> Array:
            of_kernel = ShapeDtypeStruct(kernel.shape, x.dtype)
            seen[kind, ShapeDtypeStruct(x.shape, x.dtype), of_kernel] = None
            return getattr(LEAN, kind)(x, kernel)

        return convolve

    jax.eval_shape(network.clone(layers=_layers(recorded)).init, jax.random.key(0), x)
    return list(seen)


@dataclasses.dataclass(frozen=True)
class _Fastest:
    """A convolution in the forms that were the fastest on a GPU."""

    kind: Kind
    target: Target

    def __call__(self, x: Array, kernel: Array) -> Array:
        types = (
            ShapeDtypeStruct(x.shape, x.dtype),
            ShapeDtypeStruct(kernel.shape, x.dtype),
        )
        return convolve_by(passes_of(self.kind, *types, self.target), x, kernel)


@dataclasses.dataclass(frozen=True)
class _InForm:
    """A convolution in one form."""

    kind: Kind
    name: str

    def __call__(self, x: Array, kernel: Array) -> Array:
        forms = forms_of(self.kind, x.shape, kernel.shape, x.dtype)
        form = forms.get(self.name, forms[PLAIN])
        return convolve_by(Passes(form, form, form), x, kernel)


def _layers(convolution_of: Callable[[Kind], _Convolve]) -> Layers:
    convolve, strided, upsampled, transposed = map(convolution_of, KINDS)
    return dataclasses.replace(
        LEAN,
        convolve=convolve,
        convolve_strided=strided,
        convolve_upsampled=upsampled,
        convolve_transposed=transposed,
        convolve_concatenation=_Concatenation(convolve),
    )


@dataclasses.dataclass(frozen=True)
class _Concatenation:
    """The convolution of a concatenation as a sum of convolutions."""

    convolve: _Convolve

    def __call__(self, parts: tuple[Array, ...], kernel: Array) -> Array:
        return convolve_concatenation(parts, kernel, self.convolve)


@functools.lru_cache(maxsize=1024)
def passes_of(
    kind: Kind, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, target: Target
) -> Passes:
    """Return the fastest form of each pass of a convolution on a GPU.

    Args:
        kind: Which convolution.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        target: The GPU.
    """
    forms = candidates(kind, x, kernel, target)

    plain = forms[PLAIN]

    def fastest(name: str) -> Form:
        seconds = functools.partial(_seconds, name, x, kernel, target=target)
        if seconds(plain) is None:
            return plain
        timed = {form: s for form in forms.values() if (s := seconds(form)) is not None}
        return min(timed, key=timed.__getitem__)

    return Passes(*map(fastest, _PASSES))


def candidates(
    kind: Kind, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, target: Target
) -> dict[str, Form]:
    """Return by name the plain form and those that a GPU may be faster at.

    Args:
        kind: Which convolution.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        target: The GPU.
    """
    most = max(kernel.shape[3:])
    return {
        name: form
        for name, form in forms_of(kind, x.shape, kernel.shape, x.dtype).items()
        if name == PLAIN
        or (
            most * max(form.packed, form.unpacked) <= MOST_CHANNELS
            and form.runs_on(target.compute_capability)
        )
    }


def is_right(
    name: str, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, form: Form, plain: Form
) -> bool:
    """Execute one pass of a form, and tell whether the result is the plain form's.

    Args:
        name: Of the pass: a field of `Passes`.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        form: What is executed. One that the device refuses is not right.
        plain: The plain form.
    """
    arrays = draw(_types(name, x, kernel, form))
    try:
        found, right = (jax.jit(getattr(f, name))(*arrays) for f in (form, plain))
    except jax.errors.JaxRuntimeError:
        return False
    return relative_error(found, right) <= MOST_DIFFERENCE[x.dtype.name]


def draw(types: Iterable[ShapeDtypeStruct]) -> list[Array]:
    """Draw random numbers for arrays of these types, always the same.

    Args:
        types: Shape and dtype of each.
    """
    return [
        jax.random.normal(jax.random.key(seed), a.shape, a.dtype)
        for seed, a in enumerate(types)
    ]


def relative_error(found: Array, right: Array) -> float:
    """Return the length of the difference of two results, relative to the second's.

    Args:
        found: A result, of any shape.
        right: Another one of the same shape.

    Example:
        >>> round(relative_error(jnp.array([3.0, 4.1]), jnp.array([3.0, 4.0])), 3)
        0.02
    """
    a, b = (x.astype(jnp.float32).ravel() for x in (found, right))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def _seconds(
    name: str, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, form: Form, **options: Any
) -> float | None:
    """Return the seconds of one pass of a form, if its operations were timed."""
    types = _types(name, x, kernel, form)
    return operation_seconds(getattr(form, name), *types, **options)


def _types(
    name: str, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, form: Form
) -> list[ShapeDtypeStruct]:
    """Return what one pass of a form takes."""
    if name == "forward":
        return [x, kernel]
    return [x, kernel, jax.eval_shape(form.forward, x, kernel)]
