"""Functions that are not compiled as a whole: traced once, right, and no leak."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

W = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)
X = jnp.linspace(0.0, 1.0, 8).reshape(2, 4)


def plain_loss(w: jax.Array, x: jax.Array = X) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)


def with_scan(w: jax.Array, x: jax.Array = X) -> jax.Array:
    step = lambda carry, _: (jnp.tanh(carry @ w), carry[0])  # noqa: E731
    carry, ys = jax.lax.scan(step, x, None, length=3)
    return jnp.sum(carry) + jnp.sum(ys**2)


def with_calls(w: jax.Array, x: jax.Array = X) -> jax.Array:
    @jax.custom_vjp
    def doubled(x: jax.Array) -> jax.Array:
        return 2 * x

    doubled.defvjp(lambda x: (2 * x, None), lambda _, ct: (2 * ct,))
    inner = jax.jit(jax.checkpoint(lambda x: jnp.tanh(doubled(x) @ w)))
    return jnp.sum(jax.lax.cond(w[0, 0] > 0, inner, jnp.sin, x) * jax.nn.relu(x @ w))


def test_calls_with_known_types_do_not_trace_anew() -> None:
    traces = 0

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return plain_loss(w, x)

    offloaded = jaxswap.offload(loss)
    for call in (offloaded, jax.grad(offloaded), jax.value_and_grad(offloaded)):
        for step in range(3):
            call(W + step, X)
    assert traces == 1
    jax.grad(offloaded)(W, X[:1])
    assert traces == 2


def test_a_plan_is_asked_for_once_for_each_set_of_differentiated_arguments() -> None:
    asked: list[Any] = []
    policy = lambda value: asked.append(value) or OFFLOAD  # noqa: E731
    offloaded = jaxswap.offload(plain_loss, policy=policy)
    for argnums in (0, (0, 1)):
        jax.grad(offloaded, argnums)(W, X)
        count = len(asked)
        jax.grad(offloaded, argnums)(W + 1, X)
        assert len(asked) == count > 0


@pytest.mark.parametrize("policy", [None, KEEP, OFFLOAD, RECOMPUTE])
def test_gradients_follow_captured_variables_that_change(policy: Any) -> None:
    scale, weights, layers = 1.0, W, [W]

    def loss(x: jax.Array) -> jax.Array:
        return scale * plain_loss(weights, x) + plain_loss(layers[0], x)

    offloaded = jax.grad(jaxswap.offload(loss, policy=policy))
    assert jnp.allclose(offloaded(X), jax.grad(loss)(X))
    scale = 3.0
    assert jnp.allclose(offloaded(X), jax.grad(loss)(X))
    weights = W.T
    assert jnp.allclose(offloaded(X), jax.grad(loss)(X))
    layers[0] = W + 1
    assert jnp.allclose(offloaded(X), jax.grad(loss)(X))


def test_gradients_reach_captured_tracers_in_each_call() -> None:
    held = W
    inner = jaxswap.offload(lambda x: plain_loss(held, x))

    def outer(w: jax.Array) -> jax.Array:
        nonlocal held
        held = w
        return inner(X)

    for step in range(3):
        expected = jax.grad(plain_loss)(W + step)
        assert jnp.allclose(jax.grad(outer)(W + step), expected)


def test_calls_may_be_nested_and_vectorized() -> None:
    inner = jaxswap.offload(plain_loss, policy=RECOMPUTE)
    outer = jaxswap.offload(lambda w, x: inner(w, x) ** 2, policy=OFFLOAD)
    expected = jax.grad(lambda w, x: plain_loss(w, x) ** 2)
    batch = jnp.stack([X, X + 1])
    for _ in range(2):
        assert jnp.allclose(jax.grad(outer)(W, X), expected(W, X))
        found = jax.vmap(jax.grad(outer), (None, 0))(W, batch)
        assert jnp.allclose(found, jax.vmap(expected, (None, 0))(W, batch))


@pytest.fixture
def older_objects_are_left_out() -> None:
    """JAX looks for leaks by collecting garbage: only what the test makes may leak."""
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("older_objects_are_left_out")
@pytest.mark.parametrize(
    ("fn", "policy"),
    [
        (plain_loss, None),
        (with_scan, OFFLOAD),
        (with_scan, None),
        (with_calls, OFFLOAD),
    ],
)
def test_no_tracer_outlives_its_trace(fn: Callable[..., Any], policy: Any) -> None:
    with jax.checking_leaks():
        offloaded = jaxswap.offload(fn, policy=policy)
        for transform in (jax.grad, lambda f: jax.jit(jax.grad(f))):
            transform(offloaded)(W)
            transform(lambda w: jaxswap.offload(lambda x: fn(w, x))(X))(W)
        jax.vmap(jax.grad(offloaded), (None, 0))(W, X[None])


def test_a_function_that_is_dropped_is_freed_with_what_it_captures() -> None:
    class Held(list[Any]):
        pass

    def used() -> weakref.ref[Held]:
        held = Held([W])
        jax.grad(jaxswap.offload(lambda x: plain_loss(held[0], x)))(X)
        return weakref.ref(held)

    reference = used()
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("is_bound_anew", [False, True])
def test_memory_is_flat_over_many_calls(is_bound_anew: bool) -> None:
    weights = W
    grad = jax.grad(jaxswap.offload(lambda x: plain_loss(weights, x), policy=OFFLOAD))

    def called(times: int) -> tuple[int, int]:
        nonlocal weights
        for _ in range(times):
            weights = weights * 0.99 if is_bound_anew else weights
            grad(X)
        gc.collect()
        return len(jax.live_arrays()), len(gc.get_objects())

    # JAX's own caches fill up first.
    arrays, objects = called(20)
    times = 40 if is_bound_anew else 200
    more_arrays, more_objects = called(times)
    assert more_arrays <= arrays + 2
    assert more_objects <= objects + 100
