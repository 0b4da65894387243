"""A call that runs one loop over parts of arrays, as numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._device.resolve import find_target
from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Equation
from jaxswap._simulate.simulate import Simulator
from jaxswap._trace.describe import graph_of
from jaxswap._trace.inner_loop import loop_in
from jaxswap._trace.program import Operation, Program

SIDE, COUNT = 1024, 16
PART = SIDE * SIDE * 4
X = jax.ShapeDtypeStruct((COUNT * SIDE, SIDE), jnp.float32)
SMALL = jax.ShapeDtypeStruct((4, 4), jnp.float32)


def in_parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Read a part, write a part, and carry one that nobody gets."""

    def body(i: Any, carry: Any) -> Any:
        whole, total, before = carry
        part = lax.dynamic_slice_in_dim(x, i * SIDE, SIDE)
        made = jnp.tanh(part @ part) + before
        whole, made = lax.optimization_barrier((whole, made))
        whole = lax.dynamic_update_slice_in_dim(whole, made, i * SIDE, 0)
        return whole, total + made.sum(), made

    empty = (jnp.zeros(X.shape), jnp.zeros(()), jnp.zeros((SIDE, SIDE)))
    whole, total, _ = lax.fori_loop(0, COUNT, body, empty)
    return whole, total


def twice(x: jax.Array) -> jax.Array:
    for _ in range(2):
        x = lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) * i, x)
    return x


def call_of(fn: Any, *types: jax.ShapeDtypeStruct) -> Any:
    (eqn,) = jax.make_jaxpr(jax.jit(fn))(*types).eqns
    return eqn


@pytest.fixture(scope="module")
def described() -> tuple[Equation, Simulator]:
    eqn = call_of(in_parts, X)
    avals = (eqn.invars[0].aval, *(v.aval for v in eqn.outvars))
    one = Operation(eqn, (0,), (1, 2), "")
    graph = graph_of(
        Program((one,), avals, {}, (0,), (1, 2), (None,) * 2, (None,), frozenset())
    )
    rates = rates_of(find_target("h100"))
    return graph.equations[0], Simulator(graph, rates)


def test_an_iteration_takes_time_for_its_parts(described: Any) -> None:
    eqn, simulator = described
    assert eqn.trip_count == COUNT
    rates = simulator.rates
    products = 2 * SIDE**3 / rates.tf32_matmul_flops_per_second
    at_most = products + 8 * PART / rates.memory_bytes_per_second
    launches = 8 * rates.launch_seconds
    assert products < simulator.fixed_seconds(eqn) / COUNT < at_most + launches


def test_an_iteration_takes_memory_for_its_parts(described: Any) -> None:
    eqn, simulator = described
    # Carried and not returned: one part, and the number of the iteration.
    assert PART <= eqn.workspace_bytes < PART + 16
    assert 2 * PART <= simulator.inner_bytes(0) <= 5 * PART


def test_only_a_call_of_one_loop_is_one() -> None:
    assert loop_in(call_of(in_parts, X)) is not None
    assert loop_in(call_of(twice, SMALL)) is None
    assert loop_in(call_of(jnp.sin, SMALL)) is None
    (bare,) = jax.make_jaxpr(jnp.sin)(SMALL).eqns
    assert loop_in(bare) is None
