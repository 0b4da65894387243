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

X, W, BATCH = normal(4, 8), weight(8, 8), normal(6, 4, 8)
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


def mesh() -> Mesh:
    return jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))


def over_scan(fn: Loss) -> Loss:
    def total(batch: jax.Array, w: jax.Array) -> jax.Array:
        return lax.scan(lambda sum_, x: (sum_ + fn(x, w), None), jnp.float32(0), batch)[
            0
        ]

    return total


def on_two_devices(fn: Loss) -> Any:
    batch = jax.device_put(BATCH, NamedSharding(mesh(), P("data")))
    return jax.jit(jax.grad(lambda b, w: jnp.sum(mapped(fn)(b, w)), (0, 1)))(batch, W)


def in_shard_map(fn: Loss) -> Any:
    def local(batch: jax.Array, w: jax.Array) -> jax.Array:
        return lax.psum(jnp.sum(mapped(fn)(batch, w)), "data")

    specs = {"in_specs": (P("data"), P()), "out_specs": P()}
    total = jax.shard_map(local, mesh=mesh(), **specs)
    return jax.jit(jax.grad(total, (0, 1)))(BATCH, W)


def pullback_used_twice(fn: Loss) -> Any:
    _, pullback = jax.vjp(fn, X, W)
    return pullback(jnp.float32(1.0)), pullback(jnp.float32(-2.0))


COMPOSITIONS: dict[str, Callable[[Loss], Any]] = {
    "called without gradient": lambda fn: fn(X, W),
    "jit inside": lambda fn: both(jax.jit(fn))(X, W),
    "gradient of one argument": lambda fn: jax.grad(lambda w: fn(X, w))(W),
    "vmap of the gradient": lambda fn: jax.vmap(both(fn), (0, None))(BATCH, W),
    "gradient of vmap": lambda fn: both(lambda b, w: jnp.sum(mapped(fn)(b, w)))(
        BATCH, W
    ),
    "several cotangents": lambda fn: jax.jacrev(
        lambda x: jnp.stack([fn(x, W), fn(2.0 * x, W)])
    )(X),
    "scan": lambda fn: both(over_scan(fn))(BATCH, W),
    "cond": lambda fn: both(
        lambda x, w: lax.cond(x[0, 0] > 0, fn, lambda x, w: 2.0 * fn(x, w), x, w)
    )(X, W),
    "checkpoint": lambda fn: both(jax.checkpoint(fn))(X, W),
    "offload twice": lambda fn: both(
        jaxswap.offload(lambda x, w: fn(x, w) ** 2, policy=POLICIES["recompute"])
    )(X, W),
    "closed over what is differentiated": lambda fn: jax.grad(
        lambda w: jaxswap.offload(lambda x: fn(x, w))(X)
    )(W),
    "pullback used twice": pullback_used_twice,
    "gradient of the gradient": lambda fn: jax.grad(
        lambda x: jnp.sum(jax.grad(fn)(x, W) ** 2)
    )(X),
    "hessian": lambda fn: jax.hessian(fn)(X, W),
    "two devices": on_two_devices,
    "shard_map": in_shard_map,
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_transformations_give_what_they_give_without_offload(
    name: str, policy: str
) -> None:
    composed = COMPOSITIONS[name]
    expected = composed(loss)
    actual = composed(jaxswap.offload(loss, policy=POLICIES[policy]))
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(
            a, e, rtol=1e-5, atol=1e-5 * float(jnp.max(jnp.abs(e)))
        )


def test_forward_mode_is_refused() -> None:
    with pytest.raises((TypeError, NotImplementedError), match="forward-mode"):
        jax.jvp(jaxswap.offload(loss), (X, W), (X, W))
