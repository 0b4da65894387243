"""How matrix units compute products and convolutions, from shapes alone."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._gpu.work import Work
from jaxswap._trace import cost
from jaxswap._trace.products import (
    Convolution,
    convolution_of,
    grouped_of,
    matmul_of,
)

FIRST = ("NCDHW", "DHWIO", "NCDHW")
LAST = ("NDHWC", "DHWIO", "NDHWC")


def convolve(
    x: jax.Array, kernel: jax.Array, numbers: Any = LAST, stride: int = 1
) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride,) * (x.ndim - 2), "SAME", dimension_numbers=numbers
    )


def equations(fn: Any, *args: Any) -> list[Any]:
    """The convolutions of a traced function."""
    found = jax.make_jaxpr(fn)(*args).jaxpr.eqns
    return [eqn for eqn in found if eqn.primitive.name == "conv_general_dilated"]


def features(size: int, channels: int, dtype: Any = jnp.bfloat16) -> jax.Array:
    return jnp.ones((1, size, size, size, channels), dtype)


def kernel(size: int, inputs: int, outputs: int, dtype: Any = jnp.bfloat16) -> Any:
    return jnp.ones((size, size, size, inputs, outputs), dtype)


def passes(x: jax.Array, k: jax.Array, **options: Any) -> tuple[Convolution, ...]:
    """Forward, gradient of the input, gradient of the kernel."""

    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(convolve(x, k, **options) ** 2)

    forward, *backward = equations(jax.grad(loss, (0, 1)), x, k)
    found = [convolution_of(eqn) for eqn in (forward, *backward)]
    gradients = [one for one in found if one.is_kernel_gradient]
    others = [one for one in found if not one.is_kernel_gradient]
    return (*others, *gradients)


def test_all_three_passes_have_the_same_operations() -> None:
    forward, input_gradient, kernel_gradient = passes(
        features(8, 32), kernel(3, 32, 64)
    )
    flops = 2 * 8**3 * 27 * 32 * 64
    assert forward.flops == input_gradient.flops == kernel_gradient.flops == flops


def test_zeros_between_voxels_are_not_multiplied() -> None:
    found = passes(features(8, 32), kernel(3, 32, 64), stride=2)
    flops = 2 * 4**3 * 27 * 32 * 64
    assert [one.flops for one in found] == [flops] * 3


def test_channels_are_filled_up_to_whole_tiles() -> None:
    full, *_ = passes(features(8, 32), kernel(3, 32, 32))
    narrow, *_ = passes(features(8, 16), kernel(3, 16, 16))
    assert full.tile_flops == full.flops
    assert narrow.tile_flops == full.tile_flops == 4 * narrow.flops
    wide, *_ = passes(features(8, 33), kernel(3, 33, 33))
    assert wide.tile_flops == 4 * full.flops


def test_a_tile_of_summands_holds_half_as_many_wide_numbers() -> None:
    x, k = features(8, 16, jnp.float32), kernel(3, 16, 16, jnp.float32)
    forward, *_ = passes(x, k)
    assert forward.tile_flops == 2 * forward.flops


def test_few_channels_are_summed_with_all_places_in_one_run() -> None:
    forward, *_ = passes(features(8, 4), kernel(3, 4, 32))
    # 27 places of 8 channels (4 filled up) are 216 summands, filled up to 224.
    assert forward.tile_flops == 2 * 8**3 * 32 * 224


def test_rows_of_a_kernel_gradient_are_filled_up() -> None:
    *_, gradient = passes(features(8, 16), kernel(3, 16, 16))
    # 27 places of 16 channels are 432 rows, filled up to 512; 16 columns to 32.
    assert gradient.tile_flops == 2 * 512 * 32 * 8**3


def test_kernel_gradients_of_strided_convolutions_take_longer() -> None:
    *_, plain = passes(features(8, 32), kernel(3, 32, 32))
    *_, strided = passes(features(8, 32), kernel(3, 32, 32), stride=2)
    per_operation = [one.tile_flops / one.flops for one in (plain, strided)]
    assert per_operation[1] == pytest.approx(4.5 * per_operation[0])


@pytest.mark.parametrize(("size", "nbytes"), [(2, 0), (9, 2 * 2 * 2 * 3 * (4 + 4 * 4))])
def test_gradient_of_maxima_in_large_windows_needs_maxima_and_indices(
    size: int, nbytes: int
) -> None:
    def pooled(x: jax.Array) -> jax.Array:
        window = (1, size, size, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID").sum()

    eqns = jax.make_jaxpr(jax.grad(pooled))(jnp.ones((2, 18, 18, 3))).eqns
    found = {eqn.primitive.name: cost.routed_bytes(eqn) for eqn in eqns}
    assert found.pop("select_and_scatter_add") == nbytes
    assert not any(found.values())


@pytest.mark.parametrize(
    ("numbers", "shape", "size", "is_converted"),
    [
        (FIRST, (1, 16, 8, 8, 8), 3, True),
        (FIRST, (1, 16, 8, 8, 8), 1, False),  # a matrix product
        (LAST, (1, 8, 8, 8, 16), 3, False),
        (("NCHW", "HWIO", "NCHW"), (1, 16, 8, 8), 3, False),  # XLA's own choice
    ],
)
def test_features_channels_first_are_converted_in_a_workspace(
    numbers: tuple[str, ...], shape: tuple[int, ...], size: int, is_converted: bool
) -> None:
    x = jnp.ones(shape, jnp.bfloat16)
    k = jnp.ones((size,) * (x.ndim - 2) + (16, 16), jnp.bfloat16)

    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(convolve(x, k, numbers) ** 2)

    for eqn in equations(jax.grad(loss, (0, 1)), x, k):
        nbytes = 2 * x.nbytes + k.nbytes
        assert cost.converted_bytes(eqn) == (nbytes if is_converted else 0)


def test_work_tells_kernel_gradients_apart() -> None:
    x, k = features(8, 16), kernel(3, 16, 16)

    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(convolve(x, k) ** 2)

    found = [cost.work(eqn) for eqn in equations(jax.grad(loss, (0, 1)), x, k)]
    assert sorted(map(str, found)) == sorted(
        map(
            str,
            [
                Work.BF16_CONVOLUTION,
                Work.BF16_CONVOLUTION,
                Work.BF16_KERNEL_GRADIENT,
            ],
        )
    )


def test_tiles_of_a_product_count_its_batch() -> None:
    fn = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)  # noqa: E731
    args = jnp.ones((5, 130, 8)), jnp.ones((5, 8, 16))
    (eqn,) = jax.make_jaxpr(fn)(*args).jaxpr.eqns
    while eqn.primitive.name != "dot_general":
        (eqn,) = cost.called(eqn)[0].eqns
    one = matmul_of(eqn)
    assert (one.batch, one.rows, one.columns, one.summands) == (5, 130, 16, 8)
    assert one.tile_count == 5 * 2 * 1
    assert one.tile_flops == 2 * 5 * 130 * 64 * 8


def test_a_grouped_product_is_computed_once_for_each_group() -> None:
    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sum(lax.ragged_dot(x, w, jnp.array([2, 4, 0])) ** 2)

    x, w = jnp.ones((6, 8)), jnp.ones((3, 8, 16))
    eqns = jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, w).jaxpr.eqns
    grouped = [e for e in eqns if e.primitive.name == "ragged_dot_general"]
    assert [cost.flops(eqn) for eqn in grouped] == [3 * 2 * 6 * 8 * 16] * 3
    assert [grouped_of(eqn).batch for eqn in grouped].count(3) == 1
    of_weights = next(eqn for eqn in grouped if grouped_of(eqn).batch == 3)
    assert cost.padded_bytes(grouped[0]) == 3 * x.nbytes
    assert cost.padded_bytes(of_weights) == 3 * (x.nbytes + 4 * 6 * 16)
    assert all(cost.is_heavy(eqn) and cost.is_known(eqn) for eqn in grouped)
    assert cost.work(grouped[0]) == Work.TF32_MATMUL


SHAPES_WITH_NOTHING = [((0, 8), (8, 8)), ((4, 0), (0, 8)), ((4, 8), (8, 0))]


@pytest.mark.parametrize(("left", "right"), SHAPES_WITH_NOTHING)
def test_products_of_empty_arrays_take_no_arithmetic(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    dot, grouped = (
        jax.make_jaxpr(fn)(jnp.ones(left), jnp.ones(right)).jaxpr.eqns[-1]
        for fn in (lax.dot, lambda x, w: lax.ragged_dot(x, w[None], jnp.array([0])))
    )
    for eqn in (dot, grouped):
        assert cost.flops(eqn) == cost.tile_flops(eqn) == 0


@pytest.mark.parametrize("empty", ["batch", "space", "inputs", "outputs"])
def test_convolutions_of_empty_arrays_take_no_arithmetic(empty: str) -> None:
    sizes = {"batch": 1, "space": 4, "inputs": 3, "outputs": 5} | {empty: 0}
    x = jnp.ones((sizes["batch"], sizes["space"], 4, sizes["inputs"]))
    k = jnp.ones((3, 3, sizes["inputs"], sizes["outputs"]))
    (eqn,) = equations(lambda x, k: convolve(x, k, ("NHWC", "HWIO", "NHWC")), x, k)
    assert cost.flops(eqn) == cost.tile_flops(eqn) == 0
