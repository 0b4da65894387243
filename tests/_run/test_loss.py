"""What a loss must be, and which of its operands are differentiated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses import V, W, X, loss, source_of

Struct = jax.ShapeDtypeStruct


def test_arguments_are_operands_in_order_behind_what_is_closed_over() -> None:
    def fn(parameters: dict[str, jax.Array], x: jax.Array, *, scale: Any) -> jax.Array:
        return jnp.sum(x @ parameters["w"] @ parameters["v"] @ V) * scale

    parameters = {"w": W, "v": Struct((16, 16), jnp.float32)}
    source = source_of(fn, parameters, X, scale=2.0)
    assert source.flat.closed_over_count == 1
    assert [x.shape for x in source.flat.types] == [(16, 16)] * 3 + [(8, 16), ()]
    # Closed over, then v and w of the first argument, x, scale.
    assert source.perturbed == [False, True, True, False, False]
    assert source_of(fn, parameters, X, scale=2.0, argnums=1).perturbed == [
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
    assert source_of(loss, W, V, X, argnums=argnums).perturbed == expected


@pytest.mark.parametrize("argnums", [3, -4, (0, 3)])
def test_argnums_out_of_range_are_refused(argnums: Any) -> None:
    with pytest.raises(ValueError, match="`fn` is given 3 positional") as caught:
        source_of(loss, W, V, X, argnums=argnums)
    assert f"`argnums` is {argnums!r}" in str(caught.value)


def test_without_positional_arguments_nothing_can_be_differentiated() -> None:
    with pytest.raises(ValueError, match="`fn` is given 0 positional"):
        source_of(lambda *, w: jnp.sum(w), w=W)


def test_what_is_no_array_is_static() -> None:
    def fn(w: jax.Array, mode: str, times: Any, nothing: None) -> jax.Array:
        assert isinstance(mode, str)
        assert nothing is None
        return jnp.sum(getattr(jnp, mode)(w) * times)

    source = source_of(fn, W, "tanh", 2.0, None)
    assert [x.shape for x in source.flat.types] == [(16, 16), ()]
    assert source.perturbed == [True, False]


def test_numpy_arrays_and_numbers_are_arrays_of_jaxs_types() -> None:
    def fn(w: jax.Array, *rest: Any) -> jax.Array:
        assert all(isinstance(x, jax.Array) for x in rest)
        return jnp.sum(w)

    given = (np.zeros(3), np.float32(1), True, 2, 2.5, np.arange(2))
    source = source_of(fn, W, *given)
    expected = [jnp.asarray(x).dtype for x in given]
    assert [x.dtype for x in source.flat.types[1:]] == expected


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
        source_of(fn, W)


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
        source_of(fn, W)


def test_an_integer_loss_is_refused_beside_an_auxiliary_result() -> None:
    """Or else the auxiliary result would be differentiated in its place."""

    def fn(w: jax.Array) -> Any:
        return jnp.argmax(w), w @ w

    with pytest.raises(TypeError):
        source_of(fn, W, has_aux=True)


def test_an_argument_that_has_no_gradient_is_refused_as_jax_does() -> None:
    def fn(i: jax.Array) -> jax.Array:
        return jnp.sum(W[i])

    with pytest.raises(TypeError):
        jax.grad(fn)(jnp.arange(3))
    with pytest.raises(TypeError):
        source_of(fn, jnp.arange(3))


@pytest.mark.parametrize(
    "fn", [loss, lambda w, v, x: (loss(w, v, x), 1.0, 2.0)], ids=["scalar", "triple"]
)
def test_auxiliary_results_come_in_a_pair(fn: Any) -> None:
    with pytest.raises(TypeError, match="`fn` does not return a pair"):
        source_of(fn, W, V, X, has_aux=True)


def test_a_pair_is_no_loss_unless_it_is_said_to_be() -> None:
    def fn(w: jax.Array) -> Any:
        return jnp.sum(w), w

    assert source_of(fn, W, has_aux=True).perturbed == [True]
    with pytest.raises(TypeError, match="must return a scalar"):
        source_of(fn, W)
