"""What is written part by part over an operand is what plain JAX computes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxswap
from jaxswap._schedule.instructions import Run
from jaxswap._schedule.policy import as_policy

WEIGHTS = [
    np.random.default_rng(seed).normal(size=(16, 16)).astype(np.float32) / 4
    for seed in range(4)
]
X = np.random.default_rng(9).normal(size=(12, 16)).astype(np.float32)


def normalized(x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, 0, keepdims=True)
    return (x - mean) * lax.rsqrt(jnp.mean((x - mean) ** 2, 0, keepdims=True) + 1e-3)


def normalizing(weights: Any, x: Any) -> jax.Array:
    for w in weights:
        wide = normalized(x @ w)
        x = jnp.where(wide >= 0, wide, 0.3 * wide) + x
    return jnp.mean(x**2)


def narrow(weights: Any, x: Any, dtype: Any = jnp.bfloat16) -> jax.Array:
    x = x.astype(dtype)
    for w in weights:
        wide = (x @ w.astype(dtype)).astype(jnp.float32)
        x = (normalized(wide) + wide).astype(dtype)
    return jnp.mean(jnp.sin(x.astype(jnp.float32)))


def with_barriers(weights: Any, x: Any) -> jax.Array:
    for w in weights:
        x = jnp.sin(lax.optimization_barrier(x @ w)) * lax.cos(x)
    return jnp.mean(x**2)


def in_thirds(weights: Any, x: Any) -> jax.Array:
    x = x[:9]
    for w in weights:
        x = jnp.exp(-jnp.abs(x @ w)) * jnp.arange(1.0, 17.0)[None]
    return jnp.mean(x)


def in_space(weights: Any, x: Any) -> jax.Array:
    x = x.reshape(1, 4, 3, 16)
    for w in weights:
        wide = lax.conv_general_dilated(
            x, w[None, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.gelu(wide) + x[:, :1]
    return jnp.mean(x**2)


def indivisible(weights: Any, x: Any) -> jax.Array:
    x = x[:11, :13] @ weights[0][:13, :13]
    return jnp.mean(jnp.tanh(x @ weights[1][:13, :13]))


def written(fn: Callable[..., Any], policy: Any) -> tuple[Callable[..., Any], int]:
    """Return a function whose results are written in place, and how many are."""
    plan = jaxswap.plan(
        fn, WEIGHTS, X, policy=policy, target="h200", compile=False, progress=False
    )
    plan = dataclasses.replace(plan, in_place_bytes=1)
    steps = (*plan.draft.schedule.forward, *plan.draft.schedule.backward)
    count = sum(isinstance(step, Run) and step.in_place is not None for step in steps)
    return jaxswap.offload(fn, plan=plan), count


@pytest.mark.parametrize("policy", [jaxswap.KEEP, jaxswap.OFFLOAD, jaxswap.RECOMPUTE])
@pytest.mark.parametrize("fn", [normalizing, with_barriers, in_thirds, in_space])
def test_value_and_gradient_are_those_of_plain_jax(
    fn: Callable[..., Any], policy: Any
) -> None:
    swapped, count = written(fn, policy)
    assert count > 0
    value, gradient = jax.jit(jax.value_and_grad(swapped))(WEIGHTS, X)
    wanted_value, wanted = jax.jit(jax.value_and_grad(fn))(WEIGHTS, X)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-5)
    for ours, theirs in zip(gradient, wanted, strict=True):
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-5, atol=1e-5 * abs(theirs).max()
        )


@pytest.mark.parametrize("policy", [jaxswap.KEEP, jaxswap.OFFLOAD, jaxswap.RECOMPUTE])
def test_16_bits_are_rounded_no_more_often(policy: Any) -> None:
    swapped, count = written(narrow, policy)
    assert count > 0
    exact = jax.grad(functools.partial(narrow, dtype=jnp.float32))(WEIGHTS, X)

    def error(fn: Callable[..., Any]) -> float:
        pairs = zip(jax.jit(jax.grad(fn))(WEIGHTS, X), exact, strict=True)
        return float(np.sqrt(sum(np.sum((ours - true) ** 2) for ours, true in pairs)))

    assert error(swapped) <= 1.25 * error(narrow)


def picking(weights: Any, x: Any) -> jax.Array:
    wide = x @ weights[0]
    picked = jnp.argmax(wide, 1)
    x = jnp.tanh(wide) @ weights[1]
    return jnp.mean(x**2) + jnp.mean(jnp.take_along_axis(x, picked[:, None], 1))


def test_other_readers_of_the_operand_come_first() -> None:
    swapped, count = written(picking, jaxswap.KEEP)
    assert count > 0
    forward, _ = jax.make_jaxpr(jax.grad(swapped))(WEIGHTS, X).jaxpr.eqns
    eqns = forward.params["call_jaxpr"].jaxpr.eqns
    makers = {v: eqn.primitive.name for eqn in eqns for v in eqn.outvars}
    (loop,) = (eqn for eqn in eqns if eqn.primitive.name == "scan")
    carried = [v for v in loop.invars if getattr(v.aval, "shape", ()) == (12, 16)]
    assert "optimization_barrier" in {makers.get(v) for v in carried}


def test_what_cannot_be_divided_is_not_written_in_parts() -> None:
    swapped, count = written(indivisible, jaxswap.KEEP)
    assert count == 0
    np.testing.assert_allclose(swapped(WEIGHTS, X), indivisible(WEIGHTS, X), rtol=1e-6)


def test_vmap_goes_through_the_loop() -> None:
    swapped, _ = written(normalizing, as_policy(jaxswap.RECOMPUTE))
    many = jnp.stack([X, 2 * X, X + 1])
    batched = jax.vmap(jax.grad(swapped), (None, 0))(WEIGHTS, many)
    wanted = jax.vmap(jax.grad(normalizing), (None, 0))(WEIGHTS, many)
    for ours, theirs in zip(batched, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
