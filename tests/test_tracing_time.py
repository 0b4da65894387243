"""What tracing an offloaded function costs, in processor time."""

import gc
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from benchmarks.transformer import Transformer, cross_entropy

TOKENS = jax.ShapeDtypeStruct((2, 32), jnp.int32)


def traced_seconds(transform: Callable[..., Any], depth: int) -> float:
    """Processor time to trace value and gradient of a transformer, unrolled."""
    model = Transformer(depth, features=64, heads=4, vocabulary=128, positions=32)
    parameters = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    loss = transform(lambda parameters, *x: cross_entropy(model, parameters, *x))
    gc.collect()
    start = time.process_time()
    jax.jit(jax.value_and_grad(loss)).trace(parameters, TOKENS, TOKENS)
    return time.process_time() - start


@pytest.fixture(autouse=True)
def _warm() -> None:
    """Leave out what JAX and Flax do once."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        traced_seconds(jaxswap.offload, 1)


@pytest.mark.slow
@jax.numpy_dtype_promotion("standard")
@jax.numpy_rank_promotion("allow")
def test_tracing_is_linear_in_depth_and_at_most_three_times_plain() -> None:
    plain = traced_seconds(lambda fn: fn, 32)
    offloaded = traced_seconds(jaxswap.offload, 32)
    assert offloaded <= 3 * plain
    assert traced_seconds(jaxswap.offload, 128) <= 1.22 * 4 * offloaded
