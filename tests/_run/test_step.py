"""The training step that a draft is compiled as, and the loss it is made of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import normal, weight

from jaxswap import Action
from jaxswap._gpu.target import find_target
from jaxswap._graph.graph import Graph
from jaxswap._request import search_of
from jaxswap._run.step import flatten_loss, step_of, types_of
from jaxswap._schedule.policy import as_policy
from jaxswap._simulate.draft import Draft
from jaxswap._trace.describe import graph_of
from jaxswap._trace.function import FlatFunction
from jaxswap._trace.program import Program, trace

W, V, X = weight(16, 16), weight(16, 16), normal(8, 16)
Struct = jax.ShapeDtypeStruct


def loss(w: jax.Array, v: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ v) @ w)


def flatten(
    fn: Callable[..., Any],
    *args: Any,
    argnums: Any = 0,
    has_aux: bool = False,
    **kwargs: Any,
) -> tuple[FlatFunction, list[bool]]:
    flat, perturbed, _ = flatten_loss(fn, args, kwargs, argnums, has_aux)
    return flat, perturbed


def traced(flat: FlatFunction, perturbed: list[bool]) -> tuple[Program, Graph]:
    program = trace(flat.call, flat.operands, perturbed, flat.out_avals)
    return program, graph_of(program)


def drafts(graph: Graph) -> list[Draft]:
    """The step laid out with everything kept, swapped and recomputed."""
    arranger = search_of(graph, find_target("h100")).arranger
    found = [arranger.follow(as_policy(action).decide(graph)) for action in Action]
    assert [bool(draft.swaps) for draft in found] == [False, True, False]
    return found


def assert_close(actual: Any, expected: Any) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_step_is_value_and_gradient_whatever_becomes_of_values() -> None:
    flat, perturbed = flatten(loss, W, V, X, argnums=(0, 1))
    program, graph = traced(flat, perturbed)
    value, gradients = jax.value_and_grad(loss, (0, 1))(W, V, X)
    for draft in drafts(graph):
        outputs, found = jax.jit(step_of(program, graph, draft))(W, V, X)
        assert_close(outputs[0], value)
        assert [g is None for g in found] == [False, False, True]
        for a, e in zip(found, gradients, strict=False):
            assert_close(a, e)


def test_auxiliary_results_have_no_part_in_the_gradient() -> None:
    def fn(w: jax.Array) -> Any:
        h = jnp.tanh(X @ w)
        return jnp.sum(h @ w), {"h": h @ V, "count": jnp.arange(3)}

    flat, perturbed = flatten(fn, W, has_aux=True)
    program, graph = traced(flat, perturbed)
    (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(W)
    for draft in drafts(graph):
        operands = [*flat.operands[: flat.closed_over_count], W]
        outputs, found = jax.jit(step_of(program, graph, draft))(*operands)
        assert_close(outputs[0], value)
        leaves = jax.tree.leaves(aux)
        for a, e in zip(outputs[1:], leaves, strict=True):
            assert_close(a, e)
        assert_close(found[-1], gradient)


def test_first_result_that_is_no_scalar_takes_a_cotangent() -> None:
    def fn(w: jax.Array, x: jax.Array) -> list[jax.Array]:
        return [jnp.tanh(jnp.tanh(x @ w) @ w)]

    shapes = jax.eval_shape(fn, W, X)
    program = trace(fn, [W, X], [True, True], shapes)
    graph = graph_of(program)
    types = types_of(program)
    assert [t.shape for t in types] == [W.shape, X.shape, X.shape]
    g = normal(8, 16)
    outputs, pullback = jax.vjp(lambda w, x: fn(w, x)[0], W, X)
    for draft in drafts(graph):
        found, gradients = jax.jit(step_of(program, graph, draft))(W, X, g)
        assert_close(found[0], outputs)
        for a, e in zip(gradients, pullback(g), strict=True):
            assert_close(a, e)


def test_step_takes_what_its_types_say() -> None:
    def fn(w: jax.Array, key: jax.Array, index: jax.Array) -> jax.Array:
        mask = jax.random.bernoulli(key, 0.5, X.shape)
        return jnp.sum(jnp.where(mask, X @ w, 0.0)[index])

    arguments = (W, jax.random.key(0), jnp.arange(2))
    flat, perturbed = flatten(fn, *arguments)
    program, graph = traced(flat, perturbed)
    types = types_of(program)
    assert [(t.shape, t.dtype) for t in types[flat.closed_over_count :]] == [
        (a.shape, a.dtype) for a in arguments
    ]
    draft = search_of(graph, find_target("h100")).kept
    outputs, _ = jax.eval_shape(step_of(program, graph, draft), *types)
    assert outputs[0].shape == ()


def test_arguments_are_operands_in_order_behind_what_is_closed_over() -> None:
    def fn(parameters: dict[str, jax.Array], x: jax.Array, *, scale: Any) -> jax.Array:
        return jnp.sum(x @ parameters["w"] @ parameters["v"] @ V) * scale

    parameters = {"w": W, "v": Struct((16, 16), jnp.float32)}
    flat, perturbed = flatten(fn, parameters, X, scale=2.0)
    assert flat.closed_over_count == 1
    assert [x.shape for x in flat.operands] == [(16, 16)] * 3 + [(8, 16), ()]
    # Closed over, then v and w of the first argument, x, scale.
    assert perturbed == [False, True, True, False, False]
    assert flatten(fn, parameters, X, scale=2.0, argnums=1)[1] == [
        False,
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [
        (0, [True, False, False]),
        (2, [False, False, True]),
        (-1, [False, False, True]),
        (-3, [True, False, False]),
        ((0, 2), [True, False, True]),
        ([1, -1], [False, True, True]),
        ((), [False, False, False]),
    ],
)
def test_argnums_are_those_of_jax(argnums: Any, expected: list[bool]) -> None:
    assert flatten(loss, W, V, X, argnums=argnums)[1] == expected


@pytest.mark.parametrize("argnums", [3, -4, (0, 3)])
def test_argnums_out_of_range_are_refused(argnums: Any) -> None:
    with pytest.raises(ValueError, match="`fn` is given 3 positional") as caught:
        flatten(loss, W, V, X, argnums=argnums)
    assert f"`argnums` is {argnums!r}" in str(caught.value)


def test_without_positional_arguments_nothing_can_be_differentiated() -> None:
    with pytest.raises(ValueError, match="`fn` is given 0 positional"):
        flatten(lambda *, w: jnp.sum(w), w=W)


def test_what_is_no_array_is_static() -> None:
    def fn(w: jax.Array, mode: str, times: Any, nothing: None) -> jax.Array:
        assert isinstance(mode, str)
        assert nothing is None
        return jnp.sum(getattr(jnp, mode)(w) * times)

    flat, perturbed = flatten(fn, W, "tanh", 2.0, None)
    assert [x.shape for x in flat.operands] == [(16, 16), ()]
    assert perturbed == [True, False]


def test_numpy_arrays_and_numbers_are_arrays_of_jaxs_types() -> None:
    def fn(w: jax.Array, *rest: Any) -> jax.Array:
        assert all(isinstance(x, jax.Array) for x in rest)
        return jnp.sum(w)

    given = (np.zeros(3), np.float32(1), True, 2, 2.5, np.arange(2))
    flat, _ = flatten(fn, W, *given)
    expected = [jnp.asarray(x).dtype for x in given]
    assert [x.dtype for x in flat.operands[1:]] == expected


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda w: w, r"\(16, 16\)"),
        (lambda w: jnp.sum(w, 0), r"\(16,\)"),
        (lambda w: (jnp.sum(w), w), r"\(\), \(16, 16\)"),
        (lambda w: None, ""),
        (lambda w: [], ""),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused(fn: Any, shapes: str) -> None:
    with pytest.raises(TypeError, match=f"must return a scalar .* it returns {shapes}"):
        flatten(fn, W)


@pytest.mark.parametrize(
    "fn",
    [
        lambda w: jnp.argmax(w),
        lambda w: jax.lax.complex(jnp.sum(w), jnp.sum(w)),
        lambda w: jnp.sum(w) > 0,
    ],
    ids=["integer", "complex", "boolean"],
)
def test_a_loss_that_has_no_gradient_is_refused_as_jax_does(fn: Any) -> None:
    with pytest.raises(TypeError):
        jax.grad(fn)(W)
    with pytest.raises(TypeError):
        flatten(fn, W)


def test_an_integer_loss_is_refused_beside_an_auxiliary_result() -> None:
    """Or else the auxiliary result would be differentiated in its place."""

    def fn(w: jax.Array) -> Any:
        return jnp.argmax(w), w @ w

    with pytest.raises(TypeError):
        flatten(fn, W, has_aux=True)


def test_an_argument_that_has_no_gradient_is_refused_as_jax_does() -> None:
    def fn(i: jax.Array) -> jax.Array:
        return jnp.sum(W[i])

    with pytest.raises(TypeError):
        jax.grad(fn)(jnp.arange(3))
    with pytest.raises(TypeError):
        flatten(fn, jnp.arange(3))


@pytest.mark.parametrize(
    "fn", [loss, lambda w, v, x: (loss(w, v, x), 1.0, 2.0)], ids=["scalar", "triple"]
)
def test_auxiliary_results_come_in_a_pair(fn: Any) -> None:
    with pytest.raises(TypeError, match="`fn` does not return a pair"):
        flatten(fn, W, V, X, has_aux=True)


def test_a_pair_is_no_loss_unless_it_is_said_to_be() -> None:
    def fn(w: jax.Array) -> Any:
        return jnp.sum(w), w

    assert flatten(fn, W, has_aux=True)[1] == [True]
    with pytest.raises(TypeError, match="must return a scalar"):
        flatten(fn, W)
