"""Work of an equation, and whether it is heavy or cheap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.extend.core import primitives as jax_primitives

from jaxswap._gpu.work import Work
from jaxswap._trace import cost

X = jnp.ones((2, 8))
W = jnp.ones((8, 16))


def equation(fn: Callable[..., Any], *args: Any) -> Any:
    """The last equation of a traced function."""
    return jax.make_jaxpr(fn)(*args).jaxpr.eqns[-1]


def test_product_counts_two_operations_for_each_multiplication() -> None:
    assert cost.flops(equation(jnp.dot, X, W)) == 2 * 2 * 8 * 16


def test_batched_product_counts_every_batch() -> None:
    fn = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)  # noqa: E731
    eqn = equation(jax.jit(fn), jnp.ones((5, 2, 8)), jnp.ones((5, 8, 16)))
    assert cost.flops(eqn) == 5 * 2 * 2 * 8 * 16


@pytest.mark.parametrize(("groups", "inputs"), [(1, 6), (2, 3)])
def test_convolution_counts_the_kernel_for_each_output(
    groups: int, inputs: int
) -> None:
    def convolve(x: jax.Array, k: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            k,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    eqn = equation(convolve, jnp.ones((1, 4, 4, 6)), jnp.ones((3, 3, inputs, 8)))
    assert cost.flops(eqn) == 2 * (4 * 4 * 8) * (3 * 3 * inputs)


def test_loop_counts_its_iterations() -> None:
    def fn(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=7)[0]

    assert cost.flops(equation(fn, X)) == 7 * X.size


def test_branch_counts_its_dearest_side() -> None:
    def fn(p: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.cond(p, lambda x: jnp.sin(jnp.cos(x)), lambda x: x, x)

    assert cost.flops(equation(fn, jnp.array(True), X)) == 2 * X.size


def test_calls_are_as_heavy_as_what_they_hold() -> None:
    def scan(body: Callable[[Any, Any], Any]) -> Any:
        return equation(lambda x: jax.lax.scan(body, x, length=2)[0], jnp.ones((8, 8)))

    assert cost.is_heavy(scan(lambda c, _: (c @ c, None)))
    assert not cost.is_heavy(scan(lambda c, _: (jnp.sin(c), None)))
    assert cost.is_heavy(equation(jnp.dot, X, W))
    assert not cost.is_heavy(equation(jnp.sin, X))


BIG = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
SMALL = jax.ShapeDtypeStruct((16, 16), jnp.float32)
PLACES = jnp.zeros(2048, jnp.int32)


def callback(x: jax.Array) -> jax.Array:
    return jax.pure_callback(lambda x: x, x, x)


LONG: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sort": lambda x: jax.lax.sort(x),
    "top_k": lambda x: jax.lax.top_k(x, 2)[0],
    "fft": lambda x: jax.lax.fft(x, "RFFT", (x.shape[1],)),
    "cumsum": lambda x: jax.lax.cumsum(x),
    "solve": lambda x: jax.lax.linalg.triangular_solve(x, x, left_side=True),
    "cholesky": lambda x: jax.lax.linalg.cholesky(x, symmetrize_input=False),
    "gather": lambda x: x.at[PLACES].get(mode="promise_in_bounds"),
    "scatter": lambda x: x.at[PLACES].add(jnp.ones((2048, x.shape[1]), x.dtype)),
    "unknown": callback,
}
"""Operations with kernels of their own."""


def heavy(fn: Callable[[jax.Array], jax.Array], x: jax.ShapeDtypeStruct) -> list[Any]:
    """The heavy equations of a traced function."""
    return [eqn for eqn in jax.make_jaxpr(fn)(x).jaxpr.eqns if cost.is_heavy(eqn)]


@pytest.mark.parametrize("name", LONG)
def test_what_takes_as_long_as_a_copy_of_its_operands_is_heavy(name: str) -> None:
    (found,) = heavy(LONG[name], BIG)
    assert not cost.is_cheap(found)
    assert not heavy(LONG[name], SMALL)


SHORT: dict[str, Callable[[jax.Array], jax.Array]] = {
    "few rows of a table": lambda x: x.at[PLACES[:9]].get(mode="promise_in_bounds"),
    "few rows written": lambda x: x.at[PLACES[:9]].add(jnp.ones((9, x.shape[1]))),
    "a slice written": lambda x: jax.lax.dynamic_update_slice(x, x[:9], (0, 0)),
    "a sum": lambda x: jax.lax.reduce_sum(x, [0]),
    "fused": lambda x: jnp.tanh(x),
    "a larger view": lambda x: jax.lax.broadcast(x, (9,)),
}


@pytest.mark.parametrize("name", SHORT)
def test_what_takes_less_than_a_copy_of_its_operands_is_not_heavy(name: str) -> None:
    assert not heavy(SHORT[name], BIG)


def kernel(estimate: Any = None) -> Any:
    """The equation of a Pallas kernel that computes a product inside."""

    def body(x: Any, w: Any, y: Any) -> None:
        y[...] = x[...] @ w[...]

    made = jax.ShapeDtypeStruct((2, 16), jnp.float32)
    call = pl.pallas_call(body, out_shape=made, cost_estimate=estimate)
    return equation(call, X, W)


def test_a_kernel_is_heavy_and_nothing_in_it_counts() -> None:
    eqn = kernel()
    assert cost.is_heavy(eqn)
    assert not cost.is_cheap(eqn)
    assert not cost.is_known(eqn)
    assert cost.called(eqn) == []
    assert (cost.flops(eqn), cost.inner_bytes(eqn), cost.work(eqn)) == (32, 0, None)


def test_a_kernel_costs_what_its_estimate_says() -> None:
    eqn = kernel(pl.CostEstimate(flops=512, bytes_accessed=4096, transcendentals=0))
    assert cost.is_known(eqn)
    assert (cost.flops(eqn), cost.inner_bytes(eqn)) == (512, 4096)
    assert cost.work(eqn) == Work.TF32_MATMUL


def test_cheap_are_elementwise_operations_and_calls_of_them() -> None:
    assert cost.is_cheap(equation(jnp.sin, X))
    assert cost.is_cheap(equation(jax.nn.relu, X))
    assert not cost.is_cheap(equation(jnp.dot, X, W))
    assert not cost.is_cheap(equation(jnp.cumsum, X))
    assert not cost.is_cheap(equation(jnp.sort, X))


def test_names_are_those_of_primitives() -> None:
    """A renamed primitive must not silently become dear."""
    known = {p.name for p in vars(jax_primitives).values() if hasattr(p, "name")}
    known |= {p.name for n, p in vars(jax.lax).items() if n.endswith("_p")}
    only_in_some_versions = set(
        "one_minus_square eq_to le_to log2 lt_to mulhi polynomial tile".split()
    )
    not_public = {"random_wrap", "random_unwrap", "ragged_dot_general", "geqrf"}
    ours = cost.KNOWN
    assert ours - known <= only_in_some_versions | not_public


def test_joining_and_parting_arrays_has_a_known_cost() -> None:
    """From JAX 0.11 on, `stack` and `unstack` are primitives of their own."""
    jaxpr = jax.make_jaxpr(lambda x: jnp.stack(jnp.unstack(x)[::-1]))(jnp.ones((3, 4)))
    assert all(cost.is_known(eqn) and cost.is_cheap(eqn) for eqn in jaxpr.eqns)
