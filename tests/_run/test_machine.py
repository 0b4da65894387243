"""The rewritten program copies what the schedule says, once, in the right memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

X = jnp.ones((8, 8))
WEIGHTS = [jnp.eye(8) * (1 + i) for i in range(6)]


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x)


def equations(policy: Any, fn: Callable[..., Any] = loss) -> list[Any]:
    grad = jax.grad(jaxswap.offload(fn, policy=policy))
    return of_both_passes(jax.make_jaxpr(grad)(WEIGHTS, X).jaxpr.eqns)


def of_both_passes(eqns: list[Any]) -> list[Any]:
    """Look into the two passes, which have derivatives of their own."""
    found = []
    for eqn in eqns:
        if eqn.primitive.name == "custom_jvp_call":
            found += of_both_passes(eqn.params["call_jaxpr"].jaxpr.eqns)
        else:
            found.append(eqn)
    return found


def copies(eqns: list[Any], space: Any) -> list[Any]:
    puts = [e for e in eqns if e.primitive.name == "device_put"]
    return [e for e in puts if e.outvars[0].aval.memory_space == space]


def count(eqns: list[Any], primitive: str) -> int:
    return sum(e.primitive.name == primitive for e in eqns)


def is_barrier(eqn: Any) -> bool:
    return eqn.primitive.name == "optimization_barrier"


def dots_to_host(value: jaxswap.Value) -> jaxswap.Action:
    return OFFLOAD if value.primitive == "dot_general" else RECOMPUTE


def test_each_swapped_value_goes_out_once_and_comes_back() -> None:
    eqns = equations(dots_to_host)
    assert len(copies(eqns, jax.memory.Space.Host)) == 6
    assert len(copies(eqns, jax.memory.Space.Device)) == 6


def test_copies_carry_the_label_of_their_value() -> None:
    eqns = equations(dots_to_host)
    for space, word in (("Host", "swap_out"), ("Device", "swap_in")):
        for eqn in copies(eqns, getattr(jax.memory.Space, space)):
            stack = str(eqn.source_info.name_stack)
            assert f"{word}(dot_general:test_machine.py:" in stack


def test_each_copy_back_waits_behind_a_barrier() -> None:
    """Without one, XLA cancels the way out against the way back."""
    eqns = equations(dots_to_host)
    made_by = {v: e for e in eqns for v in e.outvars}
    for eqn in copies(eqns, jax.memory.Space.Device):
        assert is_barrier(made_by[eqn.invars[0]])


def test_keeping_everything_adds_neither_copy_nor_barrier() -> None:
    eqns = equations(KEEP)
    assert count(eqns, "device_put") == 0
    assert not any(map(is_barrier, eqns))
    plain = jax.make_jaxpr(jax.grad(loss))(WEIGHTS, X).jaxpr.eqns
    assert count(eqns, "dot_general") == count(plain, "dot_general")
    assert count(eqns, "tanh") == count(plain, "tanh")


def test_recomputing_everything_runs_the_forward_pass_again() -> None:
    eqns = equations(RECOMPUTE)
    assert count(eqns, "device_put") == 0
    # The value itself is not asked for, so the last tanh and sum are dead: six
    # layers forward, and again six for the backward pass.
    assert count(eqns, "dot_general") >= 6 + 5 + 11
    assert any(map(is_barrier, eqns))


def test_heavy_work_is_not_repeated_by_the_default_policy() -> None:
    def large(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        return loss(weights, x)

    weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 8
    x = jax.ShapeDtypeStruct((2048, 1024), jnp.float32)
    swapped = jax.make_jaxpr(jax.grad(jaxswap.offload(large)))(weights, x)
    eqns = of_both_passes(swapped.jaxpr.eqns)
    plain = jax.make_jaxpr(jax.grad(large))(weights, x).jaxpr.eqns
    assert count(list(eqns), "dot_general") == count(list(plain), "dot_general")
    assert len(copies(list(eqns), jax.memory.Space.Host)) == 6


@pytest.mark.parametrize("policy", [OFFLOAD, RECOMPUTE, jaxswap.LMS(min_bytes=0)])
def test_only_copies_touch_host_memory(policy: Any) -> None:
    """Anything else on a host array would become slow host computation."""
    for eqn in equations(policy):
        spaces = {
            getattr(v.aval, "memory_space", None) for v in (*eqn.invars, *eqn.outvars)
        }
        if jax.memory.Space.Host in spaces:
            assert eqn.primitive.name == "device_put" or is_barrier(eqn)
