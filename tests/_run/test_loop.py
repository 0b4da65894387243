"""Loops swap inside of their bodies, with the gradients of plain JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import jaxprs_in_params
from zoo import integers, normal, weight

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE, Action, Value
from jaxswap._schedule.swap_heavy import SwapHeavy

Array = jax.Array


TINY = SwapHeavy(min_bytes=0)


def swap_carry(value: Value) -> Action:
    return OFFLOAD if value.primitive == "carry" else RECOMPUTE


def thirds(value: Value) -> Action:
    return (OFFLOAD, KEEP, RECOMPUTE)[value.index % 3]


POLICIES = {
    "default": TINY,
    "carry": swap_carry,
    "offload": OFFLOAD,
    "keep": KEEP,
    "recompute": RECOMPUTE,
    "thirds": thirds,
    "lms": jaxswap.LMS(1, 1, min_bytes=0),
}


def layers(x: Array, weights: Array) -> Array:
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights)[0]


def backwards(x: Array, weights: Array) -> Array:
    def step(h: Array, w: Array) -> tuple[Array, Array]:
        h = jnp.tanh(h @ w)
        return h, jnp.sin(h)

    h, ys = lax.scan(step, x, weights, reverse=True)
    return jnp.sum(ys * jnp.cos(ys)) + h


def many_carries(x: Array, weights: Array) -> Array:
    """An integer, a float that no gradient reaches, a tuple, an unused result."""

    def step(carry: Any, w: Array) -> Any:
        count, still, (a, b) = carry
        a, b = jnp.tanh(b @ w) + still, jnp.sin(a * (1.0 + count))
        return (count + 1, lax.stop_gradient(still * 0.5), (a, b)), (a, count)

    start = (0, jnp.float32(0.3), (x, x * 2))
    (_, _, (a, b)), (ys, _) = lax.scan(step, start, weights)
    return a + b + jnp.sum(ys[1:] ** 2)


def closed_over(x: Array, weights: Array) -> Array:
    """Constants of the loop, used and derived from in each iteration."""
    shared = weights[0]

    def step(h: Array, _: Any) -> tuple[Array, None]:
        h = jnp.tanh(h @ jnp.sin(shared)) + x
        return h @ weights[1], None

    return lax.scan(step, x, None, length=4)[0]


def of_slices_alone(x: Array, weights: Array) -> Array:
    """No carry has a gradient; slices are results as well."""
    ys, slices = lax.map(lambda w: (jnp.sin(x @ w), w), weights)
    return jnp.sum(ys) + jnp.sum(slices**2)


def carry_is_result(x: Array, weights: Array) -> Array:
    """What comes in is what goes out, stacked."""
    h, before = lax.scan(lambda h, w: (jnp.sin(h @ w), h), x, weights)
    return h + jnp.sum(before**3)


def nested(x: Array, weights: Array) -> Array:
    def outer(h: Array, w: Array) -> tuple[Array, Array]:
        h = lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ w) + x, h)
        return h, jax.jit(layers)(h, jnp.stack([w, w.T]))

    h, ys = lax.scan(outer, x, weights)
    return h + jnp.sum(ys**2)


def in_jit_in_loop_in_jit(x: Array, weights: Array) -> Array:
    inner = jax.jit(lambda h, w: layers(h, jnp.stack([w, w])))
    step = lambda h, w: (inner(h, w) * 2, None)  # noqa: E731
    return jax.jit(lambda x: lax.scan(step, x, weights)[0])(x)


def with_branches(x: Array, weights: Array) -> Array:
    def step(h: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        i, w = item
        dot, sine = (lambda h: jnp.tanh(h @ w)), jnp.sin
        h = lax.cond(i % 2 == 0, dot, sine, h)
        return lax.switch(i % 3, [jnp.cos, dot, lambda h: h], h), None

    return lax.scan(step, x, (jnp.arange(len(weights)), weights))[0]


def with_checkpoint(x: Array, weights: Array) -> Array:
    @jax.checkpoint
    def step(h: Array, w: Array) -> tuple[Array, None]:
        return jnp.tanh(jnp.sin(h @ w) @ w), None

    return lax.scan(step, x, weights)[0]


def with_updates(x: Array, weights: Array) -> Array:
    """A buffer that each iteration writes a row of."""

    def step(carry: tuple[Array, Array], item: tuple[Array, Array]) -> Any:
        h, rows = carry
        i, w = item
        h = jnp.tanh(h @ w)
        return (h, rows.at[i].set(h[0])), None

    start = (x, jnp.zeros((len(weights), x.shape[1])))
    (h, rows), _ = lax.scan(step, start, (jnp.arange(len(weights)), weights))
    return h + jnp.sum(rows**2)


def with_dropout(x: Array, weights: Array) -> Array:
    def step(carry: tuple[Array, Array], w: Array) -> tuple[Any, None]:
        h, key = carry
        key, now = jax.random.split(key)
        keep = jax.random.bernoulli(now, 0.7, h.shape)
        return (jnp.where(keep, jnp.tanh(h @ w), 0.0), key), None

    return lax.scan(step, (x, jax.random.key(3)), weights)[0][0]


def with_rows_of_integers(x: Array, weights: Array) -> Array:
    step = lambda h, item: (h.at[item[0]].add(jnp.sin(h[item[0]] @ item[1])), None)  # noqa: E731
    return lax.scan(step, x, (ROWS, weights))[0]


def in_low_precision(x: Array, weights: Array) -> Array:
    def step(h: Array, w: Array) -> tuple[Array, None]:
        low = jnp.tanh(h.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16))
        return h + low.astype(h.dtype), None

    return lax.scan(step, x, weights)[0]


def unrolled(x: Array, weights: Array) -> Array:
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights, unroll=2)[0]


LOOPS: list[Callable[[Array, Array], Array]] = [
    layers,
    backwards,
    many_carries,
    closed_over,
    of_slices_alone,
    carry_is_result,
    nested,
    in_jit_in_loop_in_jit,
    with_branches,
    with_checkpoint,
    with_updates,
    with_dropout,
    with_rows_of_integers,
    in_low_precision,
    unrolled,
]
X, WEIGHTS, ROWS = normal(3, 6), weight(4, 6, 6), integers(3, 4, 2)


def loss(fn: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda x, weights: jnp.sum(fn(x, weights) ** 2)


def assert_equal(actual: Any, expected: Any, rtol: float = 1e-5) -> None:
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        largest = np.max(np.abs(np.asarray(e)), initial=0.0)
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * largest)


def gradients(fn: Callable[[Array, Array], Array]) -> Any:
    return jax.jit(jax.value_and_grad(fn, (0, 1)))(X, WEIGHTS)


@functools.cache
def plain_gradients(fn: Callable[[Array, Array], Array]) -> Any:
    return gradients(loss(fn))


FIRST = ("default", "offload", "thirds")


@pytest.mark.parametrize(
    "policy",
    [
        p if p in FIRST else pytest.param(p, marks=pytest.mark.thorough)
        for p in POLICIES
    ],
)
@pytest.mark.parametrize("fn", LOOPS, ids=lambda fn: fn.__name__)
@pytest.mark.filterwarnings("ignore:.*unroll.*")
def test_gradient_is_that_of_the_plain_loop(fn: Any, policy: str) -> None:
    swapped = jaxswap.offload(loss(fn), policy=POLICIES[policy])
    rtol = 2e-2 if fn is in_low_precision else 1e-5
    assert_equal(gradients(swapped), plain_gradients(fn), rtol)


@pytest.mark.parametrize("fn", [layers, many_carries, nested, carry_is_result])
def test_one_gradient_alone_is_that_of_the_plain_loop(fn: Any) -> None:
    """What is not differentiated has other loops: without its carries and sums."""
    swapped = jaxswap.offload(loss(fn), policy=OFFLOAD)
    for argnum in (0, 1):
        actual = jax.grad(swapped, argnum)(X, WEIGHTS)
        assert_equal(actual, jax.grad(loss(fn), argnum)(X, WEIGHTS))


@pytest.mark.parametrize("policy", ["default", "offload", "thirds"])
@pytest.mark.parametrize("fn", [layers, backwards, many_carries, nested])
def test_loops_under_vmap_and_second_order(fn: Any, policy: str) -> None:
    swapped, plain = jaxswap.offload(loss(fn), policy=POLICIES[policy]), loss(fn)
    xs = jnp.stack([X, 2 * X])
    over = lambda f: jax.vmap(jax.grad(f), (0, None))(xs, WEIGHTS)  # noqa: E731
    assert_equal(over(swapped), over(plain))

    def second(f: Callable[[Array, Array], Array]) -> Array:
        slope = lambda x: jnp.sum(jnp.sin(jax.grad(f)(x, WEIGHTS)))  # noqa: E731
        return jax.jit(jax.grad(slope))(X)

    assert_equal(second(swapped), second(plain), 1e-4)


def host_shapes(fn: Callable[..., Any], *args: Any) -> set[tuple[int, ...]]:
    """Shapes of all host arrays in a traced function, those within loops included."""
    found: set[tuple[int, ...]] = set()

    def visit(jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            for v in eqn.outvars:
                if getattr(v.aval, "memory_space", None) == jax.memory.Space.Host:
                    found.add(v.aval.shape)
            for inner in jaxprs_in_params(eqn.params):
                visit(inner)

    visit(jax.make_jaxpr(fn)(*args).jaxpr)
    return found


def test_the_carry_is_swapped_slice_by_slice() -> None:
    swapped = jaxswap.offload(loss(layers), policy=swap_carry)
    found = host_shapes(jax.grad(swapped), X, WEIGHTS)
    assert X.shape in found, "no copy within the loop"
    assert (4, *X.shape) in found, "no slices stacked in host memory"


@jax.custom_jvp
def undifferentiable(t: Array) -> Array:
    """Raise if JAX asks for a derivative, as diffrax does for times."""
    return t


def refuse(primals: Any, tangents: Any) -> Any:
    if not isinstance(tangents[0], SymbolicZero):
        raise RuntimeError("this has a tangent")
    return primals[0], tangents[0]


undifferentiable.defjvp(refuse, symbolic_zeros=True)


def advance(h: Array, t: Array, w: Array) -> tuple[Array, Array]:
    h = jnp.tanh(h @ w) * jnp.cos(undifferentiable(t))
    return h, jnp.where(jnp.sum(h) > 0, t + 0.1, t)


def twice(h: Array, t: Array, w: Array) -> Any:
    return lax.scan(lambda c, _: (advance(*c, w), None), (h, t), length=2)[0]


@pytest.mark.parametrize(
    "step",
    [
        advance,
        jax.jit(advance),
        jax.checkpoint(advance),
        lambda h, t, w: lax.cond(t < 1, advance, advance, h, t, w),
        twice,
    ],
    ids=["inline", "jit", "checkpoint", "cond", "scan"],
)
def test_a_carry_without_a_tangent_is_not_differentiated(step: Any) -> None:
    def loss(x: Array, weights: Array) -> Array:
        start = (x, jnp.float32(0))
        (h, t), _ = lax.scan(lambda c, w: (step(*c, w), None), start, weights)
        return jnp.sum(h**2) * t

    swapped = jaxswap.offload(loss, policy=OFFLOAD)
    assert_equal(gradients(swapped), gradients(loss))


def test_a_stopped_average_is_not_swapped() -> None:
    """Its cotangent is not zero, but no parameter gets a gradient from it."""

    def loss(x: Array, weights: Array) -> Array:
        def step(carry: Any, w: Array) -> Any:
            h, average = carry
            h = jnp.tanh(h @ w)
            return (h, jnp.sin(average) + lax.stop_gradient(h[:, :5])), None

        (h, average), _ = lax.scan(step, (x, jnp.zeros((3, 5))), weights)
        return jnp.sum(h) * jnp.sum(average)

    gradient = jax.grad(jaxswap.offload(loss, policy=OFFLOAD))
    swapped = host_shapes(gradient, X, WEIGHTS)
    assert (4, 3, 6) in swapped
    assert (4, 3, 5) not in swapped


def test_what_is_the_same_in_each_iteration_is_not_stored() -> None:
    swapped = jaxswap.offload(loss(closed_over), policy=OFFLOAD)
    found = host_shapes(jax.grad(swapped), X, WEIGHTS)
    assert (4, *X.shape) in found
    assert (4, *WEIGHTS[0].shape) not in found


def test_small_loops_are_left_to_jax() -> None:
    text = str(jax.make_jaxpr(jax.grad(jaxswap.offload(loss(layers))))(X, WEIGHTS))
    assert "<host>" not in text


def test_unrolling_is_given_up_with_the_reason() -> None:
    swapped = jaxswap.offload(loss(unrolled), policy=OFFLOAD)
    with pytest.warns(UserWarning, match="unroll=2.*XLA.*compile"):
        jax.grad(swapped)(X, WEIGHTS)


def test_a_policy_is_asked_about_the_carry() -> None:
    seen: list[Value] = []

    def policy(value: Value) -> Action:
        seen.append(value)
        return KEEP

    jax.grad(jaxswap.offload(loss(layers), policy=policy))(X, WEIGHTS)
    (carry,) = [value for value in seen if value.primitive == "carry"]
    assert carry.shape == X.shape
    assert not carry.is_argument
