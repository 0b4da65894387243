"""Programs with symbolic dimensions, described by numbers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.core import max_dim, min_dim

from jaxswap._graph.signature import signature_of
from jaxswap._trace.describe import Traced
from jaxswap._trace.symbolic import (
    STAND_IN,
    names_of,
    size_of,
    sized,
    sizes_of,
    symbols_of,
)
from jaxswap._trace.tracing import trace

B, C = export.symbolic_shape("b, c")


def loss(w: jax.Array, x: jax.Array) -> list[Any]:
    inner = jax.checkpoint(lambda x: jnp.sin(x).reshape(-1))(jax.nn.softmax(x @ w))
    return [jnp.mean(inner) + jnp.mean(jnp.pad(x, ((1, 1), (0, 0))) ** 2)]


def test_symbolic_dimensions_have_names_and_a_size() -> None:
    b, c = export.symbolic_shape("b, c_1")
    cases = {
        b: 7,
        4 * b: 28,
        b * b * c - 1: 146,
        (b + 3) // 2 * c: 15,
        b % 4 + c: 6,
        max_dim(b, 9): 9,
        min_dim(b, c): 3,
    }
    for dimension, size in cases.items():
        assert {"b", "c_1"} >= set(symbols_of(dimension)) != set()
        assert size_of(dimension, {"b": 7, "c_1": 3}) == size
    assert symbols_of(5) == symbols_of("text") == ()
    assert size_of(5, {}) == 5


def traced(rows: Any, sizes: Any) -> Traced:
    types = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 4), (rows, 4))]
    avals = [v.aval for v in jax.make_jaxpr(lambda *x: x)(*types).jaxpr.invars]
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    return Traced.of(trace(loss, avals, [True, False], [scalar]), sizes)


def test_a_program_is_described_as_with_the_size_that_a_dimension_stands_for() -> None:
    of_eight, symbolic = traced(8, {}), traced(B, {"b": 8})
    assert signature_of(symbolic.graph) == signature_of(of_eight.graph)
    assert names_of(symbolic.program.avals) == ("b",)
    unknown = traced(B, {})
    assert unknown.graph.values[unknown.graph.arguments[1]].shape == (STAND_IN, 4)


def test_a_program_of_numbers_is_its_own_twin() -> None:
    program = traced(8, {}).program
    assert sized(program, {"b": 8}) is program


def test_sizes_are_those_of_dimensions_that_are_names() -> None:
    types = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2 * B, 4), (C, B), ())]
    assert names_of(types) == ("b", "c")
    assert sizes_of(types, [(16, 4), (3, 8), ()]) == {"c": 3, "b": 8}
    assert sizes_of(types[:1], [(16, 4)]) == {}
