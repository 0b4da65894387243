"""An offloaded function inside JAX's transformations, and they inside it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from zoo import normal, weight

import jaxswap

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Composition = Callable[[Loss, jax.Array, jax.Array, jax.Array], Any]

POLICIES = {
    "offload": lambda value: jaxswap.OFFLOAD,
    "recompute": lambda value: jaxswap.RECOMPUTE,
    "lms": jaxswap.LMS(1, 1, min_bytes=0),
}


def loss(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)


def both(fn: Loss) -> Callable[..., Any]:
    return jax.grad(fn, (0, 1))


def mapped(fn: Loss) -> Callable[..., jax.Array]:
    return jax.vmap(fn, (0, None))


def summed(fn: Loss) -> Loss:
    return lambda batch, w: jnp.sum(mapped(fn)(batch, w))


def scanned(fn: Loss) -> Loss:
    def total(batch: jax.Array, w: jax.Array) -> jax.Array:
        start = jnp.float32(0)
        return lax.scan(lambda sum_, x: (sum_ + fn(x, w), None), start, batch)[0]

    return total


def branched(fn: Loss) -> Loss:
    def other(x: jax.Array, w: jax.Array) -> jax.Array:
        return 2.0 * fn(x, w)

    return lambda x, w: lax.cond(x[0, 0] > 0, fn, other, x, w)


def two_devices() -> Mesh:
    return jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))


def on_two_devices(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    spread = NamedSharding(two_devices(), P("data"))
    return both(summed(fn))(lax.with_sharding_constraint(batch, spread), w)


def in_shard_map(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    def local(batch: jax.Array, w: jax.Array) -> jax.Array:
        return lax.psum(summed(fn)(batch, w), "data")

    specs = {"in_specs": (P("data"), P()), "out_specs": P()}
    return both(jax.shard_map(local, mesh=two_devices(), **specs))(batch, w)


def pullback_used_twice(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    _, pullback = jax.vjp(fn, x, w)
    return pullback(jnp.float32(1.0)), pullback(jnp.float32(-2.0))


def several_cotangents(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    return jax.jacrev(lambda x: jnp.stack([fn(x, w), fn(2.0 * x, w)]))(x)


def offloaded_twice(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    outer = jaxswap.offload(lambda x, w: fn(x, w) ** 2, policy=POLICIES["recompute"])
    return both(outer)(x, w)


def closed_over(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    return jax.grad(lambda w: jaxswap.offload(lambda x: fn(x, w))(x))(w)


def gradient_penalty(fn: Loss, x: jax.Array, w: jax.Array, batch: jax.Array) -> Any:
    return jax.grad(lambda x: jnp.sum(jax.grad(fn)(x, w) ** 2))(x)


COMPOSITIONS: dict[str, Composition] = {
    "no gradient": lambda fn, x, w, batch: fn(x, w),
    "jit inside": lambda fn, x, w, batch: both(jax.jit(fn))(x, w),
    "gradient of one": lambda fn, x, w, batch: jax.grad(lambda w: fn(x, w))(w),
    "vmap of gradient": lambda fn, x, w, batch: jax.vmap(both(fn), (0, None))(batch, w),
    "gradient of vmap": lambda fn, x, w, batch: both(summed(fn))(batch, w),
    "scan": lambda fn, x, w, batch: both(scanned(fn))(batch, w),
    "cond": lambda fn, x, w, batch: both(branched(fn))(x, w),
    "checkpoint": lambda fn, x, w, batch: both(jax.checkpoint(fn))(x, w),
    "hessian": lambda fn, x, w, batch: jax.hessian(fn)(x, w),
    "several cotangents": several_cotangents,
    "offload twice": offloaded_twice,
    "closed over": closed_over,
    "pullback used twice": pullback_used_twice,
    "gradient of gradient": gradient_penalty,
    "two devices": on_two_devices,
    "shard_map": in_shard_map,
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_transformations_give_what_they_give_without_offload(
    name: str, policy: str
) -> None:
    arguments = normal(4, 8), weight(8, 8), normal(6, 4, 8)
    composed = jax.jit(COMPOSITIONS[name], static_argnums=0)
    expected = composed(loss, *arguments)
    actual = composed(jaxswap.offload(loss, policy=POLICIES[policy]), *arguments)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.max(jnp.abs(e)))
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * largest)


FORWARD: dict[str, Callable[..., Any]] = {
    "jvp": lambda f, x, w: jax.jvp(f, (x, w), (w[:4], w)),
    "jvp in jit": lambda f, x, w: jax.jit(lambda x: jax.jvp(f, (x, w), (x, w)))(x),
    "jacfwd": lambda f, x, w: jax.jacfwd(f)(x, w),
    "jacfwd in jit": lambda f, x, w: jax.jit(jax.jacfwd(f, 1))(x, w),
    "hessian": lambda f, x, w: jax.jit(jax.hessian(f))(x[:2], w),
    "twice": lambda f, x, w: jax.jacfwd(jax.jacfwd(f))(x[:2], w),
    "linearize": lambda f, x, w: jax.linearize(f, x, w)[1](x, w),
    "linearize twice": lambda f, x, w: jax.grad(
        lambda x: jax.linearize(f, x, w)[1](x, w)
    )(x),
    "one argument": lambda f, x, w: jax.jvp(lambda x: f(x, w), (x,), (x,)),
    "vmap": lambda f, x, w: jax.vmap(lambda t: jax.jvp(f, (x, w), (x * t, w)))(x[0]),
    "loop": lambda f, x, w: jax.lax.scan(
        lambda x, _: jax.jvp(lambda x: x * f(x, w), (x,), (x,)), x, None, length=2
    ),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode_is_that_of_plain_jax(name: str) -> None:
    x, w = normal(4, 8), weight(8, 8)
    found = FORWARD[name](jaxswap.offload(loss, policy=jaxswap.OFFLOAD), x, w)
    expected = FORWARD[name](loss, x, w)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.max(jnp.abs(e)))
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * largest)


def _count(name: str, jaxpr: Any) -> int:
    return str(jaxpr).count(f" {name}[")


def test_forward_mode_runs_nothing_twice() -> None:
    x, w = normal(4, 8), weight(8, 8)

    def traced(loss: Any) -> Any:
        return jax.make_jaxpr(lambda x: jax.jvp(loss, (x, w), (x, w)))(x)

    offloaded = traced(jaxswap.offload(loss, policy=jaxswap.OFFLOAD))
    assert _count("dot_general", offloaded) == _count("dot_general", traced(loss))
    assert "optimization_barrier" not in str(offloaded)


def test_a_derivative_of_the_user_that_pushes_forward_still_swaps() -> None:
    """JAX transposes what such a rule returns."""
    offloaded = jaxswap.offload(loss, policy=jaxswap.OFFLOAD)
    own = jax.custom_jvp(offloaded)
    own.defjvp(lambda primals, tangents: jax.jvp(offloaded, primals, tangents))
    x, w = normal(4, 8), weight(8, 8)
    gradient = jax.grad(own, (0, 1))
    assert _count("device_put", jax.make_jaxpr(gradient)(x, w))
    for a, e in zip(gradient(x, w), jax.grad(loss, (0, 1))(x, w), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5)


def test_results_without_a_cotangent_are_not_differentiated_twice() -> None:
    """As in plain JAX. The gradient of a grouped product has no second derivative."""
    sizes = jnp.array([1, 3], jnp.int32)
    w = jnp.ones((2, 4, 4))

    def loss(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        grouped = lax.ragged_dot(jnp.sin(w[0]), w, sizes)
        return jnp.sum(jnp.sin(w)), grouped

    def second(loss: Any) -> jax.Array:
        def of_gradient(w: jax.Array) -> jax.Array:
            return jnp.sum(jax.grad(loss, has_aux=True)(w)[0] ** 2)

        return jax.jit(jax.grad(of_gradient))(w)

    found = second(jaxswap.offload(loss, policy=jaxswap.OFFLOAD))
    np.testing.assert_allclose(found, second(loss), rtol=1e-6)
