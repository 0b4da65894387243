"""A traced program as plain data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from jaxswap._graph.graph import Graph, Value
from jaxswap._trace.describe import graph_of
from jaxswap._trace.tracing import trace


def graph(fn: Any, *operands: Any) -> Graph:
    out_avals = jax.make_jaxpr(fn)(*operands).out_avals
    return graph_of(trace(fn, operands, [True] * len(operands), out_avals))


def named(found: Graph, primitive: str) -> Value:
    return next(v for v in found.values if v.primitive == primitive)


def layers(x: jax.Array, key: jax.Array) -> list[jax.Array]:
    with jax.named_scope("first"):
        h = checkpoint_name(x @ x, "product")
    noise = jax.random.normal(key, h.shape, h.dtype)
    return [jnp.sin(h) * noise]


def test_values_carry_size_place_and_name() -> None:
    found = graph(layers, jnp.ones((4, 8, 8), jnp.bfloat16), jax.random.key(0))
    product = named(found, "dot_general")
    assert product.nbytes == 2 * 4 * 8 * 8
    assert product.shape == (4, 8, 8)
    assert product.dtype == np.dtype(jnp.bfloat16)
    assert product.scope == "first"
    assert product.name == "product"
    assert "test_describe.py" in product.source
    assert not product.is_argument


def test_keys_have_no_size() -> None:
    found = graph(layers, jnp.ones((2, 2)), jax.random.key(0))
    key = found.values[found.arguments[1]]
    assert key.is_argument
    assert (key.nbytes, key.dtype) == (0, None)


def test_equations_tell_heavy_cheap_and_views() -> None:
    def fn(x: jax.Array) -> list[jax.Array]:
        return [jnp.sin(x.reshape(8, 2).T @ x.reshape(8, 2))]

    found = graph(fn, jnp.ones((4, 4)))
    kinds = {
        e.primitive: (e.is_heavy, e.is_view, e.is_cheap)
        for e in found.equations
        if not e.is_backward
    }
    assert kinds["dot_general"] == (True, False, False)
    assert kinds["reshape"] == (False, True, True)
    assert kinds["sin"] == (False, False, True)


def test_side_effects_make_an_equation_impure() -> None:
    def fn(x: jax.Array) -> list[jax.Array]:
        jax.debug.print("{}", x.sum())
        return [jnp.sin(x)]

    found = graph(fn, jnp.ones(3))
    assert {e.is_pure for e in found.equations if e.primitive == "sin"} == {True}
    assert any(not e.is_pure for e in found.equations)


def test_a_checkpoint_is_known_by_what_it_executes() -> None:
    block = jax.checkpoint(lambda x: jnp.sin(x @ x))
    found = graph(lambda x: [block(x)], jnp.ones((8, 8)))
    bodies = [e.body for e in found.equations if e.body is not None]
    assert [[e.primitive for e in body.equations][:2] for body in bodies] == [
        ["dot_general", "cos"]  # again, in the backward pass
    ]


def test_the_forward_pass_of_a_checkpoint_in_a_loop_is_known_too() -> None:
    @jax.checkpoint
    def block(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jax.lax.fori_loop(0, 2, lambda _, x: jnp.sin(x @ x), x), None

    def fn(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.scan(block, x, None, length=3)[0]]

    for loop in graph(fn, jnp.ones((8, 8))).equations:
        if loop.primitive == "scan":
            assert loop.body is not None
            (call,) = (e for e in loop.body.equations if e.body is not None)
            assert call.body is not None
            assert "scan" in [e.primitive for e in call.body.equations]
