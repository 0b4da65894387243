"""Kernels that find mean and variance of their result, and the normalisation after."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import jaxswap
from jaxswap.medical.networks.convolution_choice import relative_error
from jaxswap.medical.networks.convolution_forms import (
    Passes,
    convolve_with_moments_by,
    forms_of,
)
from jaxswap.medical.networks.convolution_kernels import by_jax, with_moments_by_jax
from jaxswap.medical.networks.instance_norm import instance_norm_leaky_relu

# Pallas warns that kernels in Triton will not be there for good.
pytestmark = pytest.mark.filterwarnings("ignore:.*Triton:DeprecationWarning")

UNSPILLED = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}


def by_kernel(x: Array, kernel: Array) -> Any:
    form = forms_of("convolve", x.shape, kernel.shape, x.dtype)["triton"]
    form = dataclasses.replace(form, is_interpreted=True)
    return convolve_with_moments_by(Passes(form, form, form), x, kernel)


def block(x: Array, kernel: Array, scale: Array, bias: Array) -> Array:
    y, moments = by_kernel(x, kernel)
    return instance_norm_leaky_relu(y, scale, bias, moments=moments)


def plain_block(x: Array, kernel: Array, scale: Array, bias: Array) -> Array:
    return instance_norm_leaky_relu(by_jax(x, kernel), scale, bias)


def all_passes(run: Any, gradient: Array, *arrays: Array) -> Any:
    y, pull = jax.vjp(run, *arrays)
    return y, pull(gradient)


def drawn(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def test_moments_are_those_of_the_result_far_from_zero_too() -> None:
    """Several tiles along each axis, none of which is full, of a batch of batches."""
    x, kernel = drawn((2, 1, 5, 6, 33, 4), (3, 3, 3, 4, 5))
    y, moments = jax.jit(jax.vmap(by_kernel, (0, None)))(x + 100, kernel)
    right_y, right = jax.vmap(with_moments_by_jax, (0, None))(x + 100, kernel)
    assert relative_error(y, right_y) <= 1e-5
    for found, expected in zip(moments, right, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_offloaded_block_in_float32_is_the_plain_one() -> None:
    shapes = ((1, 3, 5, 6, 4), (3, 3, 3, 4, 4), (4,), (4,))
    gradient, *arrays = drawn(shapes[0], *shapes)

    offloaded = jaxswap.offload(policy=jaxswap.OFFLOAD)(block)
    found = jax.jit(partial(all_passes, offloaded))(gradient, *arrays)
    expected = all_passes(plain_block, gradient, *arrays)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert relative_error(a, b) <= 1e-5


def test_a_block_in_16_bits_is_as_near_to_float32_as_the_plain_one() -> None:
    shapes = ((1, 3, 5, 6, 4), (3, 3, 3, 4, 4), (4,), (4,))
    wide = drawn(shapes[0], *shapes)
    narrow = [a.astype(jnp.bfloat16) for a in wide[:3]] + wide[3:]
    exact = all_passes(plain_block, *(a.astype(jnp.float32) for a in narrow))

    def errors(found: Any) -> list[float]:
        return list(map(relative_error, *map(jax.tree.leaves, (found, exact))))

    of_kernel = errors(jax.jit(partial(all_passes, block))(*narrow))
    # Compiled for a CPU, what is between its operations would not be rounded.
    of_plain = errors(all_passes(plain_block, *narrow))
    assert of_kernel[0] > 0
    for error, plain in zip(of_kernel, of_plain, strict=True):
        assert error <= 1.25 * plain


@pytest.mark.usefixtures("all_optimizations")
@pytest.mark.parametrize(
    ("target", "channels", "dtype"),
    [("h200", 32, "bfloat16"), ("a100-80", 16, "float32")],
)
def test_kernels_spill_no_registers(target: str, channels: int, dtype: str) -> None:
    shapes = ((1, 24, 24, 24, channels), (3, 3, 3, channels, channels))
    x, kernel = (jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    form = forms_of("convolve", x.shape, kernel.shape, x.dtype)["triton"]
    seen = jaxswap.inspect(
        form.with_moments, x, kernel, target=target, compiler_options=UNSPILLED
    )
    assert seen.hlo_text.count("__gpu$xla.gpu.triton") == 1
    assert seen.temp_bytes < 2**20
