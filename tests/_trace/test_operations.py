"""Names of heavy operations: equal where the time is."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxswap._trace.operations import operation_name

X = jnp.ones((1, 8, 8, 8, 16), jnp.bfloat16)
KERNEL = jnp.ones((3, 3, 3, 16, 16), jnp.bfloat16)
LAST = ("NDHWC", "DHWIO", "NDHWC")


def name_of(fn: Any, *args: Any) -> str:
    """Name of the last equation of a traced function."""
    return operation_name(jax.make_jaxpr(fn)(*args).jaxpr.eqns[-1])


def convolve(x: Any, kernel: Any, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "window_strides": (1, 1, 1),
        "padding": "SAME",
        "dimension_numbers": LAST,
    }
    return lax.conv_general_dilated(x, kernel, **(options | changes))


def test_a_name_says_what_it_is() -> None:
    text = name_of(convolve, X, KERNEL)
    assert text.startswith(
        "conv_general_dilated bfloat16[1,8,8,8,16] bfloat16[3,3,3,16,16] "
        "bfloat16[1,8,8,8,16] "
    )
    assert name_of(convolve, X + 1, KERNEL * 2) == text


@pytest.mark.parametrize(
    "changes",
    [
        {"padding": "VALID"},
        {"window_strides": (2, 2, 2)},
        {"rhs_dilation": (2, 2, 2)},
        {"precision": "highest"},
    ],
    ids=str,
)
def test_what_changes_the_time_changes_the_name(changes: dict[str, Any]) -> None:
    def changed(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, **changes)

    assert name_of(changed, X, KERNEL) != name_of(convolve, X, KERNEL)


def test_layout_and_type_change_the_name() -> None:
    first = jnp.ones((1, 16, 8, 8, 8), jnp.bfloat16)
    wide = X.astype(jnp.float32), KERNEL.astype(jnp.float32)

    def channels_first(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, dimension_numbers=("NCDHW", "DHWIO", "NCDHW"))

    names = {
        name_of(convolve, X, KERNEL),
        name_of(convolve, *wide),
        name_of(channels_first, first, KERNEL),
    }
    assert len(names) == 3


def test_a_transposed_product_has_another_name() -> None:
    a = jnp.ones((8, 8))
    assert name_of(lambda a: lax.dot(a, a), a) != name_of(
        lambda a: lax.dot_general(a, a, (((0,), (0,)), ((), ()))), a
    )


def kernel(x: Any, factor: int = 2, warps: int = 4, **options: Any) -> Any:
    def body(x_ref: Any, y_ref: Any) -> None:
        y_ref[...] = x_ref[...] * x_ref[...] if factor == 0 else factor * x_ref[...]

    return pl.pallas_call(
        body,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(1,),
        name="times",
        compiler_params=triton.CompilerParams(num_warps=warps),
        **options,
    )(x)


def test_a_kernel_is_named_by_its_name_types_and_grid() -> None:
    text = name_of(kernel, jnp.ones((4, 8)))
    assert text.startswith("pallas_call times float32[4,8] float32[4,8] (1) ")
    assert name_of(kernel, jnp.zeros((4, 8))) == text
    # It is the same with all versions of JAX that jaxswap runs on.
    assert text.endswith(" a31509178199")


def test_what_a_kernel_executes_and_how_changes_its_name() -> None:
    x = jnp.ones((4, 8))
    names = {
        name_of(lambda x, options=options: kernel(x, **options), x)
        for options in ({}, {"factor": 0}, {"warps": 8})
    }
    assert len(names) == 3


def test_a_kernel_whose_time_depends_on_numbers_has_no_name() -> None:
    assert name_of(kernel, jnp.ones((4, 8), jnp.int32)) == ""


def test_a_kernel_that_cannot_be_repeated_has_no_name() -> None:
    in_place: Any = {"input_output_aliases": {0: 0}}
    assert name_of(lambda x: kernel(x, **in_place), jnp.ones((4, 8))) == ""
    assert name_of(lambda x: kernel(x, interpret=True), jnp.ones((4, 8))) == ""


def test_what_xla_fuses_has_no_name() -> None:
    assert name_of(jnp.tanh, X) == ""
