"""What a planned function may be given, and that a plan knows it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planned_losses import W, X, assert_same, follow, loss, plan, with_aux

import jaxswap
from jaxswap import OFFLOAD

pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.mark.parametrize("argnums", [0, 1, -1, (0, 1), (1,), (0, -1)])
def test_argnums_are_those_of_value_and_grad(argnums: Any) -> None:
    made = plan(loss, W, X, argnums=argnums, policy=OFFLOAD)
    expected = jax.value_and_grad(loss, argnums)(W, X)
    assert_same(follow(made, loss, W, X, argnums=argnums), expected)
    other = 0 if argnums in (1, -1, (1,)) else 1
    if argnums not in ((0, 1), (0, -1)):
        with pytest.raises(ValueError, match="made for other arguments"):
            follow(made, loss, W, X, argnums=other)


def test_auxiliary_results_are_returned_and_cost_memory() -> None:
    made = plan(with_aux, W, X, has_aux=True)
    bare = plan(lambda w, x: with_aux(w, x)[0], W, X)
    assert made.device_bytes >= bare.device_bytes
    expected = jax.value_and_grad(with_aux, has_aux=True)(W, X)
    assert_same(follow(made, with_aux, W, X, has_aux=True), expected)


def test_keywords_are_arguments_of_the_function() -> None:
    def fn(w: jax.Array, *, x: jax.Array, activation: str, bias: Any = None) -> Any:
        h = getattr(jnp, activation)(x @ w) @ w
        return jnp.sum(h if bias is None else h + bias)

    made = plan(fn, W, x=X, activation="tanh", policy=OFFLOAD)
    wrapped = jaxswap.offload(fn, plan=made)
    given: dict[str, Any] = {"x": X, "activation": "tanh"}
    expected = jax.value_and_grad(fn)(W, **given)
    assert_same(jax.value_and_grad(wrapped)(W, **given), expected)
    for other in ({"activation": "sin"}, {"bias": X[0, 0]}):
        with pytest.raises(ValueError, match="made for other arguments"):
            jax.grad(wrapped)(W, **(given | other))


def test_arrays_that_are_closed_over_are_part_of_the_program() -> None:
    scale = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 16)

    def fn(w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(jnp.tanh(X @ w) @ w) * scale)

    made = plan(fn, W, policy=OFFLOAD)
    for is_jitted in (True, False):
        actual = follow(made, fn, W, is_jitted=is_jitted)
        assert_same(actual, jax.value_and_grad(fn)(W))


def test_numpy_arrays_stand_for_arrays() -> None:
    w, x = np.asarray(W), np.asarray(X)
    made = plan(loss, w, x, policy=OFFLOAD)
    assert made.signature == plan(loss, W, X, policy=OFFLOAD).signature
    assert_same(follow(made, loss, w, x), jax.value_and_grad(loss)(W, X))


def scaled(w: jax.Array, scale: Any) -> jax.Array:
    return loss(w, X) * scale


def test_numbers_stand_for_arrays() -> None:
    made = plan(scaled, W, 2.0, policy=OFFLOAD)
    assert made.signature.arguments[-1] == "float32[]"
    assert_same(follow(made, scaled, W, 2.0), jax.value_and_grad(scaled)(W, 2.0))


def test_weakly_typed_arrays_are_planned_as_they_are() -> None:
    """A weak float32 times bfloat16 is bfloat16."""
    scale = jnp.asarray(2.0)
    assert scale.weak_type

    def fn(w: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh((w * scale) @ w).astype(jnp.float32))

    narrow = W.astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        made = plan(fn, narrow, scale)
        actual = follow(made, fn, narrow, scale)
        assert_same(actual, jax.jit(jax.value_and_grad(fn))(narrow, scale))


def test_what_is_no_array_is_static() -> None:
    def fn(w: jax.Array, mode: str, rest: tuple[Any, ...]) -> jax.Array:
        assert rest == (None, "text")
        return jnp.sum(getattr(jnp, mode)(X @ w) @ w)

    made = plan(fn, W, "tanh", (None, "text"))
    expected = jax.value_and_grad(fn)(W, "tanh", (None, "text"))
    actual = follow(made, fn, W, "tanh", (None, "text"), is_jitted=False)
    assert_same(actual, expected)
