"""How often a function is gone through until it is compiled: counted, not timed."""

import collections
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap import _compat, _offload
from jaxswap._run import source
from jaxswap._run.machine import _Memory
from jaxswap._trace.kinds import Kinds

LEAVES = 100
Counts = collections.Counter[str]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Count traces, and equations by who executes them."""
    found: Counts = collections.Counter()

    def count(holder: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(holder, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(holder, name, counted)

    count(_offload, "flatten_function")
    count(source, "trace")
    count(Kinds, "bind")
    count(_Memory, "_run")
    count(_compat, "bind_equation")
    return found


def loss(ps: list[jax.Array], x: jax.Array) -> jax.Array:
    for p in ps:
        x = x * p
    return jnp.sum(x)


def arguments(rows: int) -> tuple[list[jax.ShapeDtypeStruct], Any]:
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    return [scale] * LEAVES, jax.ShapeDtypeStruct((rows, 4), jnp.float32)


def test_a_function_that_makes_little_is_gone_through_once_more(counts: Counts) -> None:
    jax.jit(jax.value_and_grad(jaxswap.offload(loss))).trace(*arguments(1))
    assert counts["flatten_function"] == 1
    assert counts["trace"] == counts["_run"] == 0
    # One product and at most two casts and broadcasts for each leaf.
    assert LEAVES < counts["bind"] <= 3 * LEAVES
    # The first of each kind, which may be the only one, and the second.
    assert counts["bind_equation"] < 20


def test_any_other_function_is_differentiated_once_and_executed_once(
    counts: Counts,
) -> None:
    jax.jit(jax.value_and_grad(jaxswap.offload(loss))).trace(*arguments(2**17))
    assert counts["flatten_function"] == counts["trace"] == 1
    assert LEAVES < counts["bind"] <= 3 * LEAVES
    assert counts["_run"] <= 10 * LEAVES
    assert counts["bind_equation"] < counts["_run"] + 20


@pytest.mark.parametrize("policy", [None, jaxswap.OFFLOAD])
def test_eager_calls_after_the_first_trace_nothing(counts: Counts, policy: Any) -> None:
    grad = jax.grad(jaxswap.offload(loss, policy=policy))
    ps, x = [jnp.ones(())] * LEAVES, jnp.ones((2, 4))
    grad(ps, x)
    grad(ps, x)
    counts.clear()
    grad(ps, x)
    assert counts["flatten_function"] == counts["trace"] == 0
    executed = counts["bind"] if policy is None else counts["_run"]
    assert LEAVES < executed <= 10 * LEAVES
    assert counts["bind_equation"] <= executed
