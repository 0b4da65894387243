"""Kernels of convolutions where depth is split over devices, which exchange halos."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxswap
from jaxswap.medical.networks.convolution_choice import relative_error
from jaxswap.medical.networks.convolution_forms import (
    PLAIN,
    Passes,
    convolve_by,
    forms_of,
)
from jaxswap.medical.networks.convolution_mosaic import OLDEST_JAX

# Pallas warns that kernels in Triton will not be there for good.
pytestmark = pytest.mark.filterwarnings("ignore:.*Triton:DeprecationWarning")

in_mosaic = (
    pytest.mark.skipif(
        jax.__version_info__ < OLDEST_JAX, reason="kernels need a newer JAX"
    ),
    pytest.mark.every_version,
)

PARTS = 4
MESH = Mesh(jax.devices()[:PARTS], "z", axis_types=(AxisType.Auto,))
DEPTH = PartitionSpec(None, "z")
SHAPE, KERNEL = (1, 2 * PARTS, 3, 4, 4), (3, 3, 3, 4, 4)


def in_form(name: str, x: Array, kernel: Array, *, is_interpreted: bool) -> Array:
    form = forms_of("convolve", x.shape, kernel.shape, "bfloat16")[name]
    if is_interpreted and name == "triton":
        form = dataclasses.replace(form, is_interpreted=True)
    return convolve_by(Passes(form, form, form), x, kernel)


def with_halos(convolve: Callable[[Array, Array], Array], x: Array, k: Array) -> Array:
    """Convolve this device's planes beside one plane of each neighbour."""
    up = [(i, i + 1) for i in range(PARTS - 1)]
    before = lax.ppermute(x[:, -1:], "z", up)
    after = lax.ppermute(x[:, :1], "z", [(b, a) for a, b in up])
    return convolve(jnp.concatenate([before, x, after], 1), k)[:, 1:-1]


def split(name: str, *, is_interpreted: bool, is_checked: bool) -> Any:
    convolve = partial(in_form, name, is_interpreted=is_interpreted)
    return jax.shard_map(
        partial(with_halos, convolve),
        mesh=MESH if is_interpreted else None,
        in_specs=(DEPTH, PartitionSpec()),
        out_specs=DEPTH,
        check_vma=is_checked,
    )


def loss(convolve: Any, kernel: Array, x: Array) -> Array:
    x = jnp.sin(convolve(x, kernel))
    return jnp.mean(jnp.sin(convolve(x, kernel)).astype(jnp.float32) ** 2)


@pytest.fixture(scope="module")
def arrays() -> list[Array]:
    rng = np.random.default_rng(0)
    kernel, x = (rng.standard_normal(shape) for shape in (KERNEL, SHAPE))
    return [jnp.asarray(kernel / 9, jnp.float32), jnp.asarray(x, jnp.float32)]


@pytest.fixture(scope="module")
def expected(arrays: list[Array]) -> Any:
    whole = partial(in_form, PLAIN, is_interpreted=True)
    return jax.value_and_grad(partial(loss, whole), (0, 1))(*arrays)


def assert_close(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert relative_error(a, b) <= 1e-5


# Pallas's interpreter does not keep to the checks.
@pytest.mark.parametrize(
    ("name", "is_checked"), [("triton", False), ("reshaped2", True)]
)
def test_value_and_gradient_are_those_of_one_device(
    name: str, is_checked: bool, arrays: list[Array], expected: Any
) -> None:
    convolve = split(name, is_interpreted=True, is_checked=is_checked)
    offloaded = jaxswap.offload(policy=jaxswap.OFFLOAD)(partial(loss, convolve))
    step = jax.value_and_grad(offloaded, (0, 1))
    assert_close(jax.jit(step)(*arrays), expected)


def test_halos_are_left_to_xla(arrays: list[Array], expected: Any) -> None:
    kernel, x = arrays
    x = jax.device_put(x, NamedSharding(MESH, DEPTH))
    whole = partial(in_form, "triton", is_interpreted=True)
    step = jax.value_and_grad(partial(loss, whole), (0, 1))
    assert_close(jax.jit(step)(kernel, x), expected)


@pytest.mark.parametrize(
    ("name", "call", "count"),
    [
        pytest.param("mosaic", 'custom_call_target="mosaic_gpu', 6, marks=in_mosaic),
        ("triton", "__gpu$xla.gpu.triton", 6),
    ],
)
def test_the_program_of_each_gpu_has_the_planes_of_that_gpu(
    name: str, call: str, count: int
) -> None:
    x = jax.ShapeDtypeStruct(
        (1, 16 * PARTS, 16, 16, 16), jnp.bfloat16, sharding=NamedSharding(MESH, DEPTH)
    )
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.bfloat16)
    convolve = split(name, is_interpreted=False, is_checked=True)
    with jax.set_mesh(MESH):
        step = jax.grad(partial(loss, convolve), (0, 1))
        seen = jaxswap.inspect(step, kernel, x, target="h200")
    assert seen.hlo_text.count(call) == count
    assert "bf16[1,18,16,16,16]" in seen.hlo_text
    assert "bf16[1,66,16,16,16]" not in seen.hlo_text
