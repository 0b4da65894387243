"""What tracing an offloaded function costs, counted in calls of functions.

Calls are the same on each machine, whatever else it does. `docs/limits.md` says what
they come to in processor time.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from benchmarks.transformer import Transformer, cross_entropy

TOKENS = jax.ShapeDtypeStruct((2, 32), jnp.int32)


def counted_calls(function: Callable[[], object]) -> int:
    """How many functions, of Python and of C, are called while this one runs."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def tracing_calls(transform: Callable[..., Any], depth: int) -> int:
    """Calls to trace value and gradient of a transformer, unrolled."""
    model = Transformer(depth, features=64, heads=4, vocabulary=128, positions=32)
    parameters = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    loss = transform(lambda parameters, *x: cross_entropy(model, parameters, *x))
    step = jax.jit(jax.value_and_grad(loss))
    return counted_calls(lambda: step.trace(parameters, TOKENS, TOKENS))


@pytest.fixture(autouse=True)
def _warm() -> None:
    """Leave out what JAX and Flax do once."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        tracing_calls(jaxswap.offload, 1)


@jax.numpy_dtype_promotion("standard")
@jax.numpy_rank_promotion("allow")
def test_tracing_is_linear_in_depth_and_a_quarter_dearer_than_plain_at_most() -> None:
    plain = tracing_calls(lambda fn: fn, 16)
    shallow, middle, deep = (tracing_calls(jaxswap.offload, n) for n in (4, 8, 16))
    assert deep <= 1.25 * plain
    assert deep - middle <= 1.02 * 2 * (middle - shallow)
