"""The layers of the U-Net in those forms that were timed to be the fastest on a GPU.

No form is believed to be fast. Each of the three passes of a convolution takes the form
whose products took the least time on that GPU, at that shape and type, among those
whose time is known. Where the time of the plain form is not known, it is the plain one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import Array, ShapeDtypeStruct

from jaxswap import Target, find_target
from jaxswap.extend import operation_seconds
from jaxswap.medical.networks.convolution import convolve_concatenation
from jaxswap.medical.networks.convolution_choice import (
    PASSES,
    THEN_MOMENTS,
    WITH_MOMENTS,
    candidates,
    is_right,
    pass_seconds,
    passes_of,
    passes_with_moments,
)
from jaxswap.medical.networks.convolution_forms import (
    KINDS,
    PLAIN,
    Kind,
    Passes,
    convolve_by,
    convolve_with_moments_by,
    forms_of,
)
from jaxswap.medical.networks.convolution_kernel_forms import KernelForm
from jaxswap.medical.networks.convolution_mosaic import OLDEST_JAX
from jaxswap.medical.networks.instance_norm import Moments
from jaxswap.medical.networks.layers import LEAN, Layers

_Convolve = Callable[[Array, Array], Array]


def fastest_layers(target: Target) -> Layers:
    """Return the layers that take for each convolution what was fastest on a GPU.

    Args:
        target: The GPU, with the times of its operations. `time_forms` takes them.

    Example:
        >>> import jaxswap
        >>> from jaxswap.medical.networks.unet import UNet3D
        >>> network = UNet3D(layers=fastest_layers(jaxswap.find_target("h200")))
    """
    return _layers(lambda kind: _Fastest(kind, target), _FastestWithMoments(target))


def layers_in_forms(forms: Mapping[str, str], moments: bool = False) -> Layers:
    """Return the layers in forms of one's choice, the same for all three passes.

    A convolution whose shape or type a form cannot take is plain.

    Args:
        forms: Name of the form by kind of convolution. Those left out are plain.
        moments: Whether kernels of `convolve` find mean and variance of their result
            for the normalisation that follows, which then reads it once less.

    Returns:
        The layers.

    Raises:
        ValueError: If there is no such kind, or no such form of it, or if its kernels
            do not find moments.

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
    name = forms.get("convolve", PLAIN)
    if moments and name != "triton":
        raise ValueError(f"`moments` needs 'convolve' as 'triton', and it is {name!r}.")
    with_moments = _InFormWithMoments(name) if moments else None
    return _layers(lambda kind: _InForm(kind, forms.get(kind, PLAIN)), with_moments)


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
    Kernels that find mean and variance for a normalisation are timed as well, and so is
    the fastest form with the reductions that do so otherwise.

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
        for form, name in itertools.product(forms.values(), PASSES):
            if form.is_untried and not untried:
                continue
            is_kernel = isinstance(form, KernelForm)
            if (
                is_kernel
                and pass_seconds(name, *types, form, target=target) is not None
            ):
                continue
            if not is_kernel or is_right(name, *types, form, forms[PLAIN]):
                pass_seconds(name, *types, form, progress=progress)
    for types in _before_normalisations(network, x):
        _time_moments(*types, find_target(), progress)
    return find_target()


def _time_moments(
    x: ShapeDtypeStruct,
    kernel: ShapeDtypeStruct,
    target: Target,
    progress: bool | Callable[[str], None],
) -> None:
    """Time kernels that find moments, and the fastest form with reductions after it."""
    forms = candidates("convolve", x, kernel, target)
    kernels = [form for form in forms.values() if form.has_moments]
    for form in kernels:
        known = pass_seconds(WITH_MOMENTS, x, kernel, form, target=target)
        if known is None and is_right(WITH_MOMENTS, x, kernel, form, forms[PLAIN]):
            pass_seconds(WITH_MOMENTS, x, kernel, form, progress=progress)
            # Plans simulate the kernel by itself.
            operation_seconds(form.with_moments, x, kernel, progress=progress)
    if kernels:
        fastest = passes_of("convolve", x, kernel, target).forward
        pass_seconds(THEN_MOMENTS, x, kernel, fastest, progress=progress)


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


def _before_normalisations(
    network: nn.Module, x: Any
) -> list[tuple[ShapeDtypeStruct, ShapeDtypeStruct]]:
    """List the different convolutions of a network whose result is normalized."""
    seen: dict[tuple[ShapeDtypeStruct, ShapeDtypeStruct], None] = {}

    def recorded(x: Array, kernel: Array) -> tuple[Array, None]:
        of_kernel = ShapeDtypeStruct(kernel.shape, x.dtype)
        seen[ShapeDtypeStruct(x.shape, x.dtype), of_kernel] = None
        return LEAN.convolve(x, kernel), None

    layers = dataclasses.replace(LEAN, convolve_with_moments=recorded)
    jax.eval_shape(network.clone(layers=layers).init, jax.random.key(0), x)
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


@dataclasses.dataclass(frozen=True)
class _FastestWithMoments:
    """A convolution before a normalisation, as it was the fastest on a GPU."""

    target: Target

    def __call__(self, x: Array, kernel: Array) -> tuple[Array, Moments | None]:
        types = (
            ShapeDtypeStruct(x.shape, x.dtype),
            ShapeDtypeStruct(kernel.shape, x.dtype),
        )
        passes = passes_with_moments(*types, self.target)
        if passes is None:
            return _Fastest("convolve", self.target)(x, kernel), None
        return convolve_with_moments_by(passes, x, kernel)


@dataclasses.dataclass(frozen=True)
class _InFormWithMoments:
    """A convolution before a normalisation, in one form."""

    name: str

    def __call__(self, x: Array, kernel: Array) -> tuple[Array, Moments | None]:
        forms = forms_of("convolve", x.shape, kernel.shape, x.dtype)
        if self.name not in forms:
            return _InForm("convolve", PLAIN)(x, kernel), None
        form = forms[self.name]
        return convolve_with_moments_by(Passes(form, form, form), x, kernel)


def _layers(
    convolution_of: Callable[[Kind], _Convolve],
    with_moments: Callable[[Array, Array], tuple[Array, Moments | None]] | None = None,
) -> Layers:
    convolve, strided, upsampled, transposed = map(convolution_of, KINDS)
    return dataclasses.replace(
        LEAN,
        convolve=convolve,
        convolve_strided=strided,
        convolve_upsampled=upsampled,
        convolve_transposed=transposed,
        convolve_concatenation=_Concatenation(convolve),
        convolve_with_moments=with_moments,
    )


@dataclasses.dataclass(frozen=True)
class _Concatenation:
    """The convolution of a concatenation as a sum of convolutions."""

    convolve: _Convolve

    def __call__(self, parts: tuple[Array, ...], kernel: Array) -> Array:
        return convolve_concatenation(parts, kernel, self.convolve)
