"""What only the backward pass reads, and is larger than what it is made of."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxswap._trace.describe import graph_of
from jaxswap._trace.program import Program
from jaxswap._trace.tracing import trace

X = jnp.ones((4, 4))


def traced(fn: Any, *operands: Any) -> Program:
    def flat(*args: Any) -> list[Any]:
        return [fn(*args)]

    return trace(flat, operands, [True] * len(operands), [jax.typeof(X)])


def layer(widen: Any) -> Any:
    """Return a function that stores 8-bit numbers, and widens them for its gradient."""
    own = jax.custom_vjp(jnp.tanh)
    own.defvjp(
        lambda x: (jnp.tanh(x), x.astype(jnp.float8_e4m3fn)),
        lambda x, g: (g * widen(x),),
    )
    return lambda x: own(x @ x)


def stored_bytes(program: Program) -> list[int]:
    graph = graph_of(program)
    made = [v for v in graph.residuals() if v not in graph.arguments]
    return [graph.values[v].nbytes for v in made]


def test_widened_numbers_are_stored_narrow() -> None:
    program = traced(layer(lambda x: x.astype(jnp.float32).T), X)
    assert 4 * X.size not in stored_bytes(program)
    assert X.size in stored_bytes(program)


def test_a_named_value_is_stored_as_it_is() -> None:
    def widen(x: jax.Array) -> jax.Array:
        return checkpoint_name(x.astype(jnp.float32), "wide")

    assert 4 * X.size in stored_bytes(traced(layer(widen), X))


def test_what_shrinks_is_stored() -> None:
    program = traced(layer(lambda x: jnp.sum(x.astype(jnp.float32))), X)
    assert X.size not in stored_bytes(program)
    assert 4 in stored_bytes(program)


def test_what_the_forward_pass_reads_stays_there() -> None:
    def fn(x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float8_e4m3fn).astype(jnp.float32)
        return jnp.sin(x) * wide

    program = traced(fn, X)
    names = [op.eqn.primitive.name for op in program.operations]
    first = names.index("convert_element_type")
    assert {first, first + 1}.isdisjoint(program.backward)


def test_what_the_function_returns_is_made_in_the_forward_pass() -> None:
    def widened(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float8_e4m3fn).astype(jnp.float32)

    def forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = widened(x)
        return wide, wide

    own = jax.custom_vjp(widened)
    own.defvjp(forward, lambda x, g: (g * x,))
    program = traced(own, X)
    (result,) = program.outputs
    makers = [i for i, op in enumerate(program.operations) if result in op.outputs]
    assert program.backward.isdisjoint(makers)


def test_transposed_operands_are_not_stored_beside_them() -> None:
    own = jax.custom_vjp(jnp.matmul)
    own.defvjp(
        lambda x, w: (x @ w, (x, w)),
        lambda residuals, g: (g @ residuals[1].T, residuals[0].T @ g),
    )
    graph = graph_of(traced(own, X, X))
    assert set(graph.residuals()) <= set(graph.arguments)
