"""Kernels of convolutions: the same functions as JAX's, compiled for absent GPUs."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

import jaxswap
from jaxswap.medical.networks.convolution_choice import relative_error
from jaxswap.medical.networks.convolution_forms import Passes, convolve_by, forms_of
from jaxswap.medical.networks.convolution_kernels import can_take

# Pallas warns that kernels in Triton will not be there for good.
pytestmark = pytest.mark.filterwarnings("ignore:.*Triton:DeprecationWarning")

Convolve = Callable[[Array, Array], Array]
SHAPE, KERNEL = (2, 5, 6, 33, 4), (3, 3, 3, 4, 5)
"""Several tiles along each axis, none of which is full."""
UNSPILLED = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}
"""What lets XLA refuse programs that spill registers."""


def plain(x: Array, kernel: Array) -> Array:
    axes = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=axes
    )


def by_kernels(x: Array, kernel: Array) -> Array:
    form = forms_of("convolve", x.shape, kernel.shape, x.dtype)["triton"]
    return convolve_by(Passes(form, form, form), x, kernel)


def interpreted(x: Array, kernel: Array) -> Array:
    form = forms_of("convolve", x.shape, kernel.shape, x.dtype)["triton"]
    form = dataclasses.replace(form, is_interpreted=True)
    return convolve_by(Passes(form, form, form), x, kernel)


def drawn(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def close(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert relative_error(a, b) <= 1e-5


def all_passes(by: Convolve, x: Array, kernel: Array, gradient: Array) -> Any:
    y, pull = jax.vjp(by, x, kernel)
    return y, pull(gradient)


def test_all_passes_are_those_of_the_convolution() -> None:
    arrays = drawn(SHAPE, KERNEL, (*SHAPE[:4], KERNEL[4]))
    found = jax.jit(all_passes, static_argnums=0)(interpreted, *arrays)
    close(found, all_passes(plain, *arrays))


def test_exact_products_of_many_channels_with_few_features() -> None:
    arrays = drawn((1, 1, 2, 3, 40), (3, 3, 3, 40, 5), (1, 1, 2, 3, 5))
    with jax.default_matmul_precision("highest"):
        found = jax.jit(all_passes, static_argnums=0)(interpreted, *arrays)
    close(found, all_passes(plain, *arrays))


def test_rounding_in_16_bits_is_as_near_to_float32_as_that_of_the_plain_form() -> None:
    wide = drawn((1, 4, 5, 6, 8), (3, 3, 3, 8, 8), (1, 4, 5, 6, 8))
    narrow = [a.astype(jnp.bfloat16) for a in wide]
    exact = all_passes(plain, *wide)

    def errors(by: Convolve) -> list[float]:
        found = jax.jit(all_passes, static_argnums=0)(by, *narrow)
        wider = [a.astype(jnp.float32) for a in jax.tree.leaves(found)]
        return list(map(relative_error, wider, jax.tree.leaves(exact)))

    for error, of_plain in zip(errors(interpreted), errors(plain), strict=True):
        assert 0 < error <= 1.25 * of_plain


def second_derivatives(by: Convolve, *arrays: Array) -> Any:
    """The Hessian times a vector, in forward and in reverse mode over a gradient."""
    at, along = arrays[:2], arrays[2:]

    def loss(x: Array, kernel: Array) -> Array:
        return jnp.sum(jnp.sin(by(by(x, kernel), kernel)))

    def slope(*at: Array) -> Array:
        gradient = jax.grad(loss, (0, 1))(*at)
        return sum(map(jnp.vdot, gradient, along), start=jnp.zeros(()))

    forward = jax.jvp(jax.grad(loss, (0, 1)), at, along)[1]
    return forward, jax.grad(slope, (0, 1))(*at)


def test_gradients_have_gradients() -> None:
    x, kernel, *along = drawn(*((1, 2, 3, 3, 4), (3, 3, 3, 4, 4)) * 2)
    arrays = (x, kernel / 9, *along)
    both = jax.jit(second_derivatives, static_argnums=0)
    close(both(interpreted, *arrays), both(plain, *arrays))


def test_all_passes_are_mapped_over_a_batch_of_batches() -> None:
    arrays = drawn((2, 1, 3, 3, 3, 4), (2, 3, 3, 3, 4, 4), (2, 1, 3, 3, 3, 4))
    mapped = jax.jit(jax.vmap(partial(all_passes, interpreted)))
    close(mapped(*arrays), jax.vmap(partial(all_passes, plain))(*arrays))


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype"),
    [
        ((1, 8, 8, 8, 16), (3, 3, 3, 16, 16), "float64"),
        ((1, 8, 8, 8, 16), (1, 1, 1, 16, 16), "bfloat16"),
        ((1, 8, 8, 8, 3), (3, 3, 3, 3, 16), "bfloat16"),
        ((1, 8, 8, 8, 16), (3, 3, 3, 16, 65), "bfloat16"),
        ((0, 8, 8, 8, 16), (3, 3, 3, 16, 16), "bfloat16"),
        ((8, 256, 1024, 256, 4), (3, 3, 3, 4, 4), "bfloat16"),
    ],
    ids=[
        "type",
        "sides",
        "few channels",
        "many channels",
        "empty",
        "offsets",
    ],
)
def test_what_kernels_cannot_take_has_other_forms(
    shape: tuple[int, ...], kernel: tuple[int, ...], dtype: str
) -> None:
    assert not can_take(shape, kernel, dtype)
    assert "triton" not in forms_of("convolve", shape, kernel, dtype)


def test_kernels_take_any_width_and_both_types_of_16_bits() -> None:
    for dtype in ("bfloat16", "float16"):
        forms = forms_of("convolve", (2, 5, 6, 7, 4), (3, 3, 3, 4, 64), dtype)
        assert list(forms) == ["plain", "triton"]


def arrays_of(
    channels: int, side: int, dtype: str = "bfloat16"
) -> list[jax.ShapeDtypeStruct]:
    shapes = ((1, side, side, side, channels), (3, 3, 3, channels, channels))
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]


def test_indices_are_not_rounded_down() -> None:
    """Else Triton would load each number by itself."""
    x, kernel = arrays_of(16, 40)
    text = str(jax.make_jaxpr(lambda *a: all_passes(by_kernels, *a))(x, kernel, x))
    assert text.count("pallas_call[") == 3
    assert " div " in text
    for name in ("floor_divide", "remainder", " sign "):
        assert name not in text


def test_products_of_float32_are_rounded_as_jax_is_told_to() -> None:
    types = arrays_of(16, 8, "float32")

    def program() -> str:
        return str(jax.make_jaxpr(lambda *a: by_kernels(*a))(*types))

    assert "TF32_TF32_F32_X3" not in program()
    with jax.default_matmul_precision("highest"):
        assert program().count("TF32_TF32_F32_X3") == 27


def test_every_call_says_what_it_costs() -> None:
    x, kernel = arrays_of(16, 8)
    text = str(jax.make_jaxpr(lambda *a: all_passes(by_kernels, *a))(x, kernel, x))
    assert text.count(f"flops={2 * 27 * 8**3 * 16 * 16}") == 3


@pytest.mark.usefixtures("all_optimizations")
@pytest.mark.parametrize(
    ("target", "channels", "side", "dtype", "precision"),
    [
        ("h200", 16, 96, "bfloat16", None),
        ("a100-80", 64, 24, "bfloat16", None),
        ("a100-80", 64, 24, "float32", None),
        ("h200", 32, 24, "float32", "highest"),
        ("h200", 64, 24, "float32", "highest"),
    ],
)
def test_all_passes_are_compiled_and_spill_no_registers(
    target: str, channels: int, side: int, dtype: str, precision: str | None
) -> None:
    x, kernel = arrays_of(channels, side, dtype)

    def step(x: Array, kernel: Array, gradient: Array) -> Any:
        return all_passes(by_kernels, x, kernel, gradient)

    with jax.default_matmul_precision(precision):
        seen = jaxswap.inspect(
            step, x, kernel, x, target=target, compiler_options=UNSPILLED
        )
    assert seen.hlo_text.count("__gpu$xla.gpu.triton") == 3
    # The parts of the kernel's gradient, which XLA adds up.
    assert seen.temp_bytes < 2**25


@pytest.mark.usefixtures("all_optimizations")
@pytest.mark.parametrize(
    ("target", "channels", "features", "dtype"),
    [
        ("h200", 64, 4, "bfloat16"),
        ("h200", 64, 4, "float32"),
        ("a100-80", 5, 7, "float32"),
    ],
)
def test_channels_that_differ_spill_no_registers(
    target: str, channels: int, features: int, dtype: str
) -> None:
    shapes = ((1, 20, 20, 20, channels), (3, 3, 3, channels, features))
    types = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    with jax.default_matmul_precision("highest"):
        jaxswap.inspect(by_kernels, *types, target=target, compiler_options=UNSPILLED)


def test_a_plan_swaps_what_kernels_compute() -> None:
    x, kernel = arrays_of(16, 24)

    def loss(kernel: Array, x: Array) -> Array:
        for _ in range(3):
            x = jnp.tanh(by_kernels(x, kernel))
        return jnp.sum(x.astype(jnp.float32))

    plan = jaxswap.plan(loss, kernel, x, target="h200", progress=False)
    step = jax.value_and_grad(jaxswap.offload(loss, plan=plan))
    seen = jaxswap.inspect(step, kernel, x, target="h200")
    assert "__gpu$xla.gpu.triton" in seen.hlo_text
