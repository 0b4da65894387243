"""The training step that a draft is compiled as."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from losses import V, W, X, loss, source_of
from zoo import normal

from jaxswap import Action
from jaxswap._gpu.target import built_in_target
from jaxswap._graph.graph import Graph
from jaxswap._request import search_of
from jaxswap._run.machine import Machine
from jaxswap._run.step import step_of, types_of
from jaxswap._schedule.policy import as_policy
from jaxswap._search.ways import keep_all
from jaxswap._simulate.draft import Draft
from jaxswap._trace.describe import Traced
from jaxswap._trace.tracing import trace

Struct = jax.ShapeDtypeStruct


def step_by(traced: Traced, draft: Draft) -> Callable[..., Any]:
    return step_of(Machine(traced, draft.schedule))


def drafts(graph: Graph) -> list[Draft]:
    """The step laid out with everything kept, swapped and recomputed."""
    arranger = search_of(graph, built_in_target("h100")).arranger
    found = [arranger.follow(as_policy(action).decide(graph)) for action in Action]
    assert [bool(draft.swaps) for draft in found] == [False, True, False]
    return found


def assert_close(actual: Any, expected: Any) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_step_is_value_and_gradient_whatever_becomes_of_values() -> None:
    source = source_of(loss, W, V, X, argnums=(0, 1))
    traced = source.traced(keep_all)
    value, gradients = jax.value_and_grad(loss, (0, 1))(W, V, X)
    for draft in drafts(traced.graph):
        outputs, found = jax.jit(step_by(traced, draft))(W, V, X)
        assert_close(outputs[0], value)
        assert [g is None for g in found] == [False, False, True]
        for a, e in zip(found, gradients, strict=False):
            assert_close(a, e)


def test_auxiliary_results_have_no_part_in_the_gradient() -> None:
    def fn(w: jax.Array) -> Any:
        h = jnp.tanh(X @ w)
        return jnp.sum(h @ w), {"h": h @ V, "count": jnp.arange(3)}

    source = source_of(fn, W, has_aux=True)
    traced = source.traced(keep_all)
    (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(W)
    for draft in drafts(traced.graph):
        operands = [X, V, W]  # what is closed over comes first
        outputs, found = jax.jit(step_by(traced, draft))(*operands)
        assert_close(outputs[0], value)
        leaves = jax.tree.leaves(aux)
        for a, e in zip(outputs[1:], leaves, strict=True):
            assert_close(a, e)
        assert_close(found[-1], gradient)


def test_first_result_that_is_no_scalar_takes_a_cotangent() -> None:
    def fn(w: jax.Array, x: jax.Array) -> list[jax.Array]:
        return [jnp.tanh(jnp.tanh(x @ w) @ w)]

    shapes = jax.eval_shape(fn, W, X)
    traced = Traced.of(trace(fn, [W, X], [True, True], shapes))
    types = types_of(traced.program)
    assert [t.shape for t in types] == [W.shape, X.shape, X.shape]
    g = normal(8, 16)
    outputs, pullback = jax.vjp(lambda w, x: fn(w, x)[0], W, X)
    for draft in drafts(traced.graph):
        found, gradients = jax.jit(step_by(traced, draft))(W, X, g)
        assert_close(found[0], outputs)
        for a, e in zip(gradients, pullback(g), strict=True):
            assert_close(a, e)


def test_step_takes_what_its_types_say() -> None:
    def fn(w: jax.Array, key: jax.Array, index: jax.Array) -> jax.Array:
        mask = jax.random.bernoulli(key, 0.5, X.shape)
        return jnp.sum(jnp.where(mask, X @ w, 0.0)[index])

    arguments = (W, jax.random.key(0), jnp.arange(2))
    source = source_of(fn, *arguments)
    traced = source.traced(keep_all)
    types = types_of(traced.program)
    assert [(t.shape, t.dtype) for t in types[source.flat.closed_over_count :]] == [
        (a.shape, a.dtype) for a in arguments
    ]
    draft = search_of(traced.graph, built_in_target("h100")).kept
    outputs, _ = jax.eval_shape(step_by(traced, draft), *types)
    assert outputs[0].shape == ()
