"""All forms of a convolution and of its gradients are the same function."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

import jaxswap
from jaxswap.medical.networks.convolution_form import Form
from jaxswap.medical.networks.convolution_forms import (
    KINDS,
    PLAIN,
    Kind,
    Passes,
    convolve_by,
    forms_of,
)

SIDES: dict[Kind, tuple[int, int, int]] = {
    "convolve": (3, 3, 3),
    "convolve_strided": (3, 3, 3),
    "convolve_upsampled": (3, 3, 3),
    "convolve_transposed": (2, 2, 2),
}
IN, OUT = 3, 5


def arrays(
    kind: Kind, width: int, sides: tuple[int, ...], dtype: Any
) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    shape = (2, 4, 6, width, IN)
    kernel = rng.standard_normal((*sides, IN, OUT))
    return jnp.asarray(rng.standard_normal(shape), dtype), jnp.asarray(kernel, dtype)


def by_hand(kind: Kind, x: Array, kernel: Array) -> Array:
    """Write a convolution as it is usually written."""
    axes = ("NDHWC", "DHWIO", "NDHWC")
    half = [(n // 2, n // 2) for n in kernel.shape[:3]]
    if kind == "convolve_transposed":
        # Each voxel becomes a block of its own.
        blocks = jnp.einsum("bxyzi,pqrio->bxpyqzro", x, kernel)
        batch, depth, _, height, _, width, _, features = blocks.shape
        return blocks.reshape(batch, 2 * depth, 2 * height, 2 * width, features)
    if kind == "convolve_upsampled":
        for axis in (1, 2, 3):
            x = jnp.repeat(x, 2, axis)
    strides = (2, 2, 2) if kind == "convolve_strided" else (1, 1, 1)
    return lax.conv_general_dilated(x, kernel, strides, half, dimension_numbers=axes)


@partial(jax.jit, static_argnums=0)
def passes(form: Form, x: Array, kernel: Array, gradient: Array) -> list[Array]:
    by_form = Passes(form, form, form)
    y, pull = jax.vjp(lambda x, k: convolve_by(by_form, x, k), x, kernel)
    return [y, *pull(gradient)]


def relative(found: Array, expected: Array) -> float:
    """Error of the vector, relative to its length."""
    right = np.asarray(expected, np.float64)
    error = np.asarray(found, np.float64) - right
    return float(np.linalg.norm(error) / np.linalg.norm(right))


CASES = [(kind, SIDES[kind]) for kind in KINDS] + [
    ("convolve", (1, 1, 1)),
    ("convolve", (5, 3, 5)),
    ("convolve_strided", (1, 1, 1)),
]


@pytest.mark.parametrize(("kind", "sides"), CASES)
@pytest.mark.parametrize("width", [8, 5])
def test_forms_equal_the_convolution_by_hand(
    kind: Kind, sides: tuple[int, ...], width: int
) -> None:
    x, kernel = arrays(kind, width, sides, jnp.float32)
    y, pull = jax.vjp(lambda x, k: by_hand(kind, x, k), x, kernel)
    gradient = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    expected = [y, *pull(gradient)]
    for name, form in forms_of(kind, x.shape, kernel.shape).items():
        for found, right in zip(
            passes(form, x, kernel, gradient), expected, strict=True
        ):
            assert found.dtype == right.dtype
            assert relative(found, right) < 1e-5, name


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_in_16_bits_is_as_near_to_float32_as_that_of_the_plain_form(
    kind: Kind,
) -> None:
    wide = arrays(kind, 8, SIDES[kind], jnp.float32)
    x, kernel = (a.astype(jnp.bfloat16) for a in wide)
    y, pull = jax.vjp(lambda x, k: by_hand(kind, x, k), *wide)
    gradient = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    exact = [y, *pull(gradient)]
    forms = forms_of(kind, x.shape, kernel.shape)
    errors = {
        name: [
            relative(found, right)
            for found, right in zip(
                passes(form, x, kernel, gradient.astype(x.dtype)), exact, strict=True
            )
        ]
        for name, form in forms.items()
    }
    for name, found in errors.items():
        for error, plain in zip(found, errors[PLAIN], strict=True):
            assert error <= 1.25 * plain, name


def test_odd_widths_have_the_plain_form_alone() -> None:
    assert list(forms_of("convolve", (1, 8, 8, 7, 4), (3, 3, 3, 4, 8))) == [PLAIN]
    assert "reshaped4" not in forms_of("convolve", (1, 8, 8, 6, 4), (3, 3, 3, 4, 8))


def test_each_pass_has_a_form_of_its_own() -> None:
    x, kernel = arrays("convolve", 8, (3, 3, 3), jnp.float32)
    forms = forms_of("convolve", x.shape, kernel.shape)
    mixed = Passes(forms["reshaped2"], forms["strided4"], forms["plain"])
    y, pull = jax.vjp(lambda x, k: convolve_by(mixed, x, k), x, kernel)
    expected = passes(forms["plain"], x, kernel, y)
    for found, right in zip([y, *pull(y)], expected, strict=True):
        assert relative(found, right) < 1e-6
    text = str(jax.make_jaxpr(pull)(y))
    assert "window_strides=(1, 1, 4)" in text
    assert "2,4,6,4,6" not in text  # the packed features of the forward pass


def test_a_kernel_is_cast_to_the_type_of_the_features() -> None:
    x, kernel = arrays("convolve", 8, (3, 3, 3), jnp.float32)
    form = forms_of("convolve", x.shape, kernel.shape)["reshaped2"]
    by_form = Passes(form, form, form)
    y, pull = jax.vjp(lambda k: convolve_by(by_form, x.astype(jnp.bfloat16), k), kernel)
    assert y.dtype == jnp.bfloat16
    assert pull(y)[0].dtype == jnp.float32


@pytest.mark.parametrize("kind", KINDS)
def test_devices_of_a_shard_map_share_the_kernel(kind: Kind) -> None:
    x, kernel = arrays(kind, 4, SIDES[kind], jnp.float32)
    mesh = Mesh(jax.devices()[:2], "batch")
    specs = (PartitionSpec("batch"), PartitionSpec())

    @jax.jit
    def gradients(x: Array, kernel: Array) -> list[Any]:
        found: list[Any] = []
        for form in forms_of(kind, x.shape, kernel.shape).values():
            by = partial(convolve_by, Passes(form, form, form))
            split = jax.shard_map(by, mesh=mesh, in_specs=specs, out_specs=specs[0])
            found += [
                jax.grad(lambda *a, f=f: jnp.sum(f(*a) ** 2), (0, 1))(x, kernel)
                for f in (by, split)
            ]
        return found

    whole, *others = gradients(x, kernel)
    for other in others:
        for a, b in zip(other, whole, strict=True):
            assert relative(a, b) < 1e-5


def test_plain_convolutions_have_a_forward_mode() -> None:
    x, kernel = arrays("convolve", 8, (3, 3, 3), jnp.float32)
    form = forms_of("convolve", x.shape, kernel.shape)[PLAIN]
    by_form = Passes(form, form, form)
    y, tangent = jax.jvp(lambda x: convolve_by(by_form, x, kernel), (x,), (x,))
    np.testing.assert_array_equal(y, tangent)


@pytest.mark.parametrize("kind", KINDS)
def test_no_form_stores_features_anew_on_a_gpu(kind: Kind) -> None:
    x = jax.ShapeDtypeStruct((1, 48, 48, 48, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((*SIDES[kind], 16, 16), jnp.bfloat16)
    for name, form in forms_of(kind, x.shape, kernel.shape).items():
        y = jax.eval_shape(form.forward, x, kernel)
        run = jaxswap.inspect(
            lambda *args, form=form: passes(form, *args), x, kernel, y, target="h200"
        )
        assert run.temp_bytes + run.workspace_bytes < 0.1 * run.argument_bytes, name
