"""Values in host memory, of which sweeps read and write windows."""

import importlib.metadata
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from slab_programs import check_by_slabs, executed, traced

import jaxswap
from jaxswap import Evidence, Slabs
from jaxswap._base.xla_flags import MISPLACES_SLICES
from jaxswap._slabs.hosted import swappable
from jaxswap._sweeps.slabbed import by_slabs

Array = jax.Array
LAYOUTS = {"last": ("NHWC", "HWIO", "NHWC"), "first": ("NCHW", "OIHW", "NCHW")}


def convolved(x: Array, kernel: Array, layout: str = "last", stride: int = 1) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUTS[layout]
    )


def loss(x: Array, *kernels: Array) -> Array:
    for kernel in kernels:
        x = convolved(x, kernel)
        x = jnp.tanh(x - x.mean((1, 2), keepdims=True))
    return jnp.sum(x[..., 0] ** 2)


def channels_first(x: Array, *kernels: Array) -> Array:
    for kernel in kernels:
        x = jnp.tanh(convolved(x, kernel.transpose(3, 2, 0, 1), "first"))
        x = x / jnp.max(jnp.abs(x))
    return jnp.sum(x**2)


def of_two_levels(x: Array, fine: Array, coarse: Array, last: Array) -> Array:
    x = jnp.tanh(convolved(x, fine))
    y = jnp.tanh(convolved(convolved(x, coarse, stride=2), last))
    y = y - y.mean()
    return jnp.sum(x * jnp.repeat(jnp.repeat(y, 2, 1), 2, 2))


def arguments(*shape: int, kernels: int) -> list[Array]:
    keys = jax.random.split(jax.random.key(0), kernels + 1)
    image = jax.random.normal(keys[0], shape)
    return [image, *(jax.random.normal(key, (3, 3, 2, 2)) / 3 for key in keys[1:])]


@pytest.mark.parametrize(
    ("planes", "count"), [(16, 2), (16, 4), (16, 16), (16, 1), (15, 4), (26, 7)]
)
def test_windows_from_the_host_change_nothing(planes: int, count: int) -> None:
    args = arguments(1, planes, 6, 2, kernels=3)
    slabbed = check_by_slabs(loss, args, count=count, swap=swappable)
    written = {v for sweep in slabbed.sweeps for v in sweep.writes}
    assert len(slabbed.margins) == len(written) - 1  # The image's gradient is wanted.


def test_features_channels_first_are_moved() -> None:
    args = arguments(2, 2, 16, 5, kernels=2)
    slabbed = check_by_slabs(channels_first, args, count=4, swap=swappable)
    assert slabbed.margins
    for v in slabbed.margins:
        assert slabbed.described.lines[v].dimension == 2


@pytest.mark.parametrize(("levels", "length"), [(1, 16), (2, 16), (2, 18)])
def test_two_levels_come_from_the_host(levels: int, length: int) -> None:
    args = arguments(1, length, 8, 2, kernels=3)
    slabbed = check_by_slabs(
        of_two_levels, args, count=4, levels=levels, swap=swappable
    )
    planes = {slabbed.described.frame.axes[v].planes for v in slabbed.margins}
    assert planes == ({length} if levels == 1 else {length, length // 2})


def test_wide_windows_have_wide_margins() -> None:
    # Two of three results are computed again, so windows reach far into neighbours.
    args = arguments(1, 16, 6, 2, kernels=4)
    program = traced(loss, *args)
    slabbed = by_slabs(program, Slabs(count=8, recomputed=4), swap=swappable)
    assert any(margins.before > 2 for margins in slabbed.margins.values())

    def both(*operands: Array) -> tuple[list[Array], list[Array]]:
        return executed(program, operands), executed(slabbed.program, operands)

    for whole, found in zip(*jax.jit(both)(*args), strict=True):
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def seen() -> Evidence:
    """Value and gradient, compiled for a GPU that need not be here."""
    # Slabs of 63 planes: the last one reaches beyond.
    image = jax.ShapeDtypeStruct((1, 1000, 256, 16), jnp.bfloat16)
    kernels = [jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.bfloat16)] * 3
    by_windows = jaxswap.offload(
        loss, policy=jaxswap.KEEP, slabs=Slabs(count=16, swapped=9)
    )
    grad = jax.value_and_grad(by_windows, tuple(range(1, 4)))
    return jaxswap.inspect(grad, image, *kernels, target="h100", strict=True)


def test_compiled_loops_copy_windows_and_never_whole_values(seen: Evidence) -> None:
    whole = 1000 * 256 * 16 * 2
    assert seen.copies
    assert max(copy.nbytes for copy in seen.copies) < whole / 8
    assert seen.host_bytes > 4 * whole
    assert seen.temp_bytes < 1.5 * whole
    in_loops = [copy for copy in seen.copies if copy.in_loop]
    assert {copy.direction for copy in in_loops} == {"to_host", "to_device"}
    assert sum(c.total_bytes for c in in_loops) > 0.9 * seen.swapped_bytes


def test_compiled_loops_hold_what_one_slab_needs(seen: Evidence) -> None:
    # Windows of a slab and of the next one, and what is computed of one slab: neither
    # what both slabs of an iteration compute, nor zeros for all sweeps from the start.
    window = 65 * 256 * 16 * 2
    assert seen.temp_bytes < 8 * window


def test_compiled_windows_are_slices_of_host_arrays(seen: Evidence) -> None:
    # A copy engine knows where they lie from the number of the iteration: two slabs,
    # 126 planes. Or a kernel copies them, from where the program says.
    updates = [
        line
        for line in seen.hlo_text.splitlines()
        if re.search(r":S\(5\)} dynamic-update-slice\(", line) and "while/body" in line
    ]
    assert updates
    if importlib.metadata.version("jaxlib") in MISPLACES_SLICES:
        assert "dynamic_slice_config" not in seen.hlo_text
        return
    plane = 256 * 16 * 2
    for line in updates:
        found = re.search(
            r'"linear":\{"byte_offset":"(\d+)","byte_stride":"(\d+)"', line
        )
        assert found
        offset, stride = map(int, found.groups())
        assert stride == 2 * 63 * plane
        assert offset in (0, 63 * plane)


def test_compiled_copies_run_beside_convolutions(seen: Evidence) -> None:
    in_loops = [copy for copy in seen.copies if copy.in_loop]
    hidden = sum(c.total_bytes for c in in_loops if not c.is_exposed)
    assert hidden >= 0.85 * sum(c.total_bytes for c in in_loops)
