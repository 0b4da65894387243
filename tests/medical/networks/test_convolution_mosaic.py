"""Kernels of convolutions for Hopper: interpreted, and compiled for absent GPUs."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import jaxswap
from jaxswap._trace.cost import equations_within
from jaxswap._trace.operations import operation_name
from jaxswap.medical.networks.convolution_choice import relative_error
from jaxswap.medical.networks.convolution_forms import (
    PLAIN,
    Passes,
    convolve_by,
    forms_of,
)
from jaxswap.medical.networks.convolution_kernels import kernel_gradient_by_jax
from jaxswap.medical.networks.convolution_mosaic import CHANNELS, OLDEST_JAX, can_take
from jaxswap.medical.networks.convolution_mosaic_gradient import kernel_gradient

pytestmark = pytest.mark.every_version

KERNEL = (3, 3, 3, 16, 16)

needs_mosaic = pytest.mark.skipif(
    jax.__version_info__ < OLDEST_JAX, reason="kernels need a newer JAX"
)


def by(name: str, x: Array, kernel: Array, *, is_interpreted: bool = False) -> Array:
    form = forms_of("convolve", x.shape, kernel.shape, x.dtype)[name]
    if is_interpreted:
        form = dataclasses.replace(form, is_interpreted=True)
    return convolve_by(Passes(form, form, form), x, kernel)


interpreted = partial(by, "mosaic", is_interpreted=True)


def drawn(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def all_passes(convolve: Any, x: Array, kernel: Array, gradient: Array) -> list[Array]:
    y, pull = jax.vjp(convolve, x, kernel)
    return [y, *pull(gradient)]


def drawn_narrow(space: tuple[int, ...]) -> list[Array]:
    features = (1, *space, 16)
    return [a.astype(jnp.bfloat16) for a in drawn(features, KERNEL, features)]


def assert_as_near_to_float32(run: Any, *arrays: Array) -> None:
    """What kernels compute is no further from it than what JAX computes."""
    exact = run(partial(by, PLAIN), *(a.astype(jnp.float32) for a in arrays))

    def errors(convolve: Any) -> list[float]:
        return list(map(relative_error, run(convolve, *arrays), exact))

    plain = errors(partial(by, PLAIN))
    for error, of_plain in zip(errors(interpreted), plain, strict=True):
        assert 0 < error <= 1.25 * of_plain


@needs_mosaic
@pytest.mark.parametrize("space", [(5, 1, 8), (1, 3, 8), (1, 1, 56)])
def test_rounding_is_as_near_to_float32_as_that_of_the_plain_form(
    space: tuple[int, ...],
) -> None:
    """Along one axis there are several tiles, of which the last one is not full."""
    x, kernel, _ = drawn_narrow(space)
    assert_as_near_to_float32(lambda convolve, *a: [convolve(*a)], x, kernel)


@needs_mosaic
@pytest.mark.parametrize(
    ("space", "channels", "features"), [((5, 1, 8), 16, 32), ((1, 5, 72), 16, 16)]
)
def test_the_gradient_of_the_kernel_is_that_of_jax_in_float32(
    space: tuple[int, ...], channels: int, features: int
) -> None:
    """Along each axis there are several tiles, of which the last one is not full."""
    wide = drawn((1, *space, channels), (1, *space, features))
    narrow = [a.astype(jnp.bfloat16) for a in wide]
    exact = kernel_gradient_by_jax(*(a.astype(jnp.float32) for a in narrow))
    found = kernel_gradient(*narrow, is_interpreted=True)
    assert relative_error(found, exact) <= 1e-6


@needs_mosaic
def test_gradients_are_as_near_to_float32_as_those_of_the_plain_form() -> None:
    assert_as_near_to_float32(all_passes, *drawn_narrow((1, 1, 8)))


@needs_mosaic
def test_volumes_of_a_batch_of_batches_are_computed_one_by_one() -> None:
    """Beside each other in memory, one would be the border of the next."""
    arrays = [a.astype(jnp.float16) for a in drawn((2, 1, 1, 1, 8, 16), KERNEL)]
    mapped = jax.vmap(interpreted, in_axes=(0, None))
    expected = jax.vmap(partial(by, PLAIN), in_axes=(0, None))(*arrays)
    assert relative_error(mapped(*arrays), expected) < 0.001
    x, kernel = arrays
    passes = jax.vmap(partial(all_passes, partial(by, "mosaic")), (0, None, 0))
    # Each of the three kernels has a loop, and is in one.
    assert str(jax.make_jaxpr(passes)(x, kernel, x)).count("scan[") == 2 * 3


def types_of(channels: int, features: int) -> list[jax.ShapeDtypeStruct]:
    shapes = ((1, 24, 24, 96, channels), (3, 3, 3, channels, features))
    return [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]


@needs_mosaic
@pytest.mark.parametrize(
    ("pass_name", "channels"),
    [("forward", 16), ("forward", 64), ("kernel_gradient", 16)],
)
def test_kernels_are_compiled_and_spill_no_registers(
    pass_name: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOSAIC_GPU_DUMP_PTX", "1")
    monkeypatch.setenv("MOSAIC_GPU_DUMP_TO", str(tmp_path))
    x, kernel = types_of(channels, channels)
    form = forms_of("convolve", x.shape, kernel.shape, x.dtype)["mosaic"]
    types = [x, kernel] if pass_name == "forward" else [x, kernel, x]
    seen = jaxswap.inspect(getattr(form, pass_name), *types, target="h200")
    (assembled,) = tmp_path.glob("*.ptxas")
    assert "0 bytes spill stores, 0 bytes spill loads" in assembled.read_text()
    assert seen.hlo_text.count('custom_call_target="mosaic_gpu') == 1
    # The kernel in another order, or the sums of each tile.
    assert seen.temp_bytes <= (kernel.size * 2 if pass_name == "forward" else 2**23)


def layers(convolve: Any, x: Array, kernel: Array) -> Array:
    return jnp.tanh(convolve(jnp.tanh(convolve(x, kernel)), kernel))


@needs_mosaic
def test_recomputed_layers_have_the_gradients_of_the_layers() -> None:
    """The interpreter cannot run beside swaps; a GPU that is not here is next."""
    arrays = drawn_narrow((1, 1, 8))
    run = partial(layers, interpreted)
    again = jaxswap.offload(policy=jaxswap.RECOMPUTE)(run)
    found = jax.jit(partial(all_passes, again))(*arrays)
    expected = jax.jit(partial(all_passes, run))(*arrays)
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) == 0


@needs_mosaic
def test_results_of_kernels_are_swapped() -> None:
    x, kernel = types_of(16, 16)
    swapped = jaxswap.offload(policy=jaxswap.OFFLOAD)(
        partial(layers, partial(by, "mosaic"))
    )
    seen = jaxswap.inspect(partial(all_passes, swapped), x, kernel, x, target="h200")
    assert seen.hlo_text.count('custom_call_target="mosaic_gpu') == 6
    assert seen.host_bytes >= 2 * x.size * 2


@needs_mosaic
def test_every_call_says_what_it_costs_and_can_be_timed() -> None:
    (x, kernel), (y, _) = types_of(16, 32), types_of(32, 16)
    jaxpr = jax.make_jaxpr(partial(all_passes, partial(by, "mosaic")))(x, kernel, y)
    assert str(jaxpr).count(f"flops={2 * 27 * 24 * 24 * 96 * 16 * 32}") == 3
    names = map(operation_name, equations_within(jaxpr.eqns))
    called = sorted(name.rpartition(" ")[0] for name in names if "mosaic" in name)
    volumes = " ".join(f"bfloat16[24,24,96,{n}]" for n in (16, 32))
    assert called[0].startswith("mpmd_map convolve3d_mosaic bfloat16[24,24,96,16] ")
    name = f"mpmd_map convolve3d_mosaic_kernel_gradient {volumes} "
    assert called[2].startswith(name)


@needs_mosaic
def test_every_width_has_a_tile() -> None:
    for channels in CHANNELS:
        for features in CHANNELS:
            forms = forms_of(
                "convolve", *(t.shape for t in types_of(channels, features)), "float16"
            )
            y = jax.eval_shape(forms["mosaic"].forward, *types_of(channels, features))
            assert y.shape == (1, 24, 24, 96, features)


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype"),
    [
        ((1, 8, 8, 8, 16), (3, 3, 3, 16, 16), "float32"),
        ((1, 8, 8, 8, 16), (1, 1, 1, 16, 16), "bfloat16"),
        ((1, 8, 8, 8, 48), (3, 3, 3, 48, 16), "bfloat16"),
        ((1, 8, 8, 12, 16), (3, 3, 3, 16, 16), "bfloat16"),
        ((2, 8, 8, 8, 16), (3, 3, 3, 16, 16), "bfloat16"),
        ((1, 512, 512, 512, 16), (3, 3, 3, 16, 16), "bfloat16"),
    ],
    ids=["type", "sides", "channels", "width", "batch", "offsets"],
)
def test_what_kernels_cannot_take_has_other_forms(
    shape: tuple[int, ...], kernel: tuple[int, ...], dtype: str
) -> None:
    assert not can_take(shape, kernel, dtype)
    assert "mosaic" not in forms_of("convolve", shape, kernel, dtype)
