"""What is known about the time of a function's heavy operations."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from jaxswap import _operation_seconds, extend
from jaxswap._device import operations
from jaxswap._gpu.target import Target, built_in_target
from jaxswap._trace.operations import operation_name
from jaxswap.extend import operation_seconds, program_seconds

L4 = built_in_target("l4")
X = jax.ShapeDtypeStruct((8, 8), jnp.float32)
PRODUCT = operation_name(jax.make_jaxpr(lambda x: x @ x)(X).eqns[0])


def knowing(seconds: float) -> Target:
    """Return a GPU that knows one product."""
    return dataclasses.replace(L4, operations=((PRODUCT, seconds),))


def test_known_operations_are_summed() -> None:
    found = operation_seconds(lambda x: jnp.sin(x @ x) @ x, X, target=knowing(2.0))
    assert found == 4.0


def test_operations_within_calls_count() -> None:
    found = operation_seconds(jax.jit(lambda x: x @ x), X, target=knowing(2.0))
    assert found == 2.0


def test_one_unknown_operation_makes_the_sum_unknown() -> None:
    def both(x: jax.Array) -> jax.Array:
        return (x @ x)[:4] @ x

    assert operation_seconds(both, X, target=knowing(2.0)) is None


def test_a_function_without_heavy_operations_takes_nothing() -> None:
    assert operation_seconds(jnp.sin, X, target=L4) == 0


def test_a_kernel_that_cannot_be_timed_makes_the_sum_unknown() -> None:
    def counted(x: jax.Array) -> jax.Array:
        def copy(count_ref: Any, x_ref: Any, y_ref: Any) -> None:
            y_ref[...] = count_ref[...].astype(x_ref.dtype) * x_ref[...]

        count = jnp.ones((8, 8), jnp.int32)
        return pl.pallas_call(copy, out_shape=X)(count, x)

    assert operation_seconds(counted, X, target=L4) is None


def test_without_a_target_what_is_unknown_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(target, eqns, progress):
        progress(f"timing {len(eqns)} operations")
        return knowing(3.0)

    monkeypatch.setattr(_operation_seconds, "find_target", lambda target: L4)
    monkeypatch.setattr(_operation_seconds, "measured_here", measured)
    lines: list[str] = []
    found = operation_seconds(lambda x: x @ x, X, progress=lines.append)
    assert found == 3.0
    assert lines == ["timing 1 operations"]


def test_without_a_gpu_and_a_target_the_error_says_what_to_name() -> None:
    with pytest.raises(ValueError, match="target="):
        operation_seconds(lambda x: x @ x, X)


def test_the_public_name_is_this_one() -> None:
    assert extend.operation_seconds is operation_seconds


def summed(x: jax.Array) -> jax.Array:
    return (x @ x).sum(0)


def test_a_program_is_timed_as_a_whole_and_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved: list[Target] = []
    monkeypatch.setattr(_operation_seconds, "find_target", lambda target: target or L4)
    monkeypatch.setattr(operations, "free_bytes", lambda _: 2**20)
    monkeypatch.setattr(operations, "save_target", saved.append)
    lines: list[str] = []
    found = program_seconds(summed, X, progress=lines.append)
    assert lines == ["timing a program on NVIDIA L4"]
    assert found is not None
    (target,) = saved
    assert program_seconds(summed, X, target=target) == found > 0
    assert program_seconds(lambda x: (x @ x).sum(1), X, target=target) is None
    assert operation_seconds(summed, X, target=target) is None


def test_a_program_that_does_not_fit_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_operation_seconds, "find_target", lambda _: L4)
    monkeypatch.setattr(operations, "free_bytes", lambda _: 256)
    assert program_seconds(summed, X) is None
