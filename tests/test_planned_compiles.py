"""Plans of compiled programs, and budgets that `offload` is given."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from cached_plans import Program
from planned_losses import (
    W,
    X,
    assert_same,
    loss,
    plan,
)
from test_gpu_programs import layers, mlp_arguments
from zoo import normal, weight

import jaxswap
from jaxswap import BudgetError, _request

pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Types of the arguments of each program that is compiled; none really is."""
    found: list[tuple[Any, ...]] = []

    def inspect(fn: Any, *types: Any, target: Any, compiler_options: Any) -> Program:
        options = dict(compiler_options)
        # Programs of one plan have kernels in common.
        assert str(options.pop("xla_gpu_kernel_cache_file")).endswith("/kernels")
        assert options == jaxswap.compiler_options(fn, *types)
        outputs, gradients = jax.eval_shape(fn, *types)
        assert outputs[0].shape == ()
        assert any(g is not None for g in gradients)
        found.append(tuple(t.shape for t in types))
        return Program(30000, temp_bytes=1)

    monkeypatch.setattr(_request, "inspect", inspect)
    return found


def test_what_is_compiled_is_value_and_gradient(compiled: list[Any]) -> None:
    made = plan(loss, W, X, budget="1MiB", compile=True)
    assert compiled[0] == ((16, 16), (64, 16))
    assert made.compiled is not None
    assert made.device_bytes == made.compiled.device_bytes == 30000
    assert made.compiled.predicted_device_bytes <= 2 * 30000


def test_no_more_programs_are_compiled_than_allowed(compiled: list[Any]) -> None:
    options: dict[str, Any] = {"most_compiles": 2, "search_seconds": 0.5}
    with pytest.raises(BudgetError, match="30000 bytes, compiled"):
        plan(loss, W, X, budget="22KiB", compile=True, **options)
    assert len(compiled) <= 2


def test_the_smallest_plan_is_not_compiled_more_often_either(
    compiled: list[Any],
) -> None:
    options: dict[str, Any] = {"compile": True, "search_seconds": 0.3}
    made = plan(loss, W, X, budget="smallest", most_compiles=1, **options)
    assert made.compiled is not None
    assert len(compiled) == 1


def test_a_budget_plans_anew_for_other_argument_types(compiled: list[Any]) -> None:
    wrapped = jaxswap.offload(loss, budget="1MiB", target="h100")
    assert not compiled  # nothing happens before it is called
    grad = jax.jit(jax.grad(wrapped))
    assert_same(grad(W, X), jax.grad(loss)(W, X))
    count = len(compiled)
    assert count >= 1
    grad(2 * W, X)  # jitted: not traced again
    jax.grad(wrapped)(W, X)  # traced again: the plan is on disk
    assert len(compiled) == count
    assert_same(grad(W, X[:32]), jax.grad(loss)(W, X[:32]))
    assert len(compiled) > count
    assert compiled[-1] == ((16, 16), (32, 16))


def test_a_budget_holds_under_vmap(compiled: list[Any]) -> None:
    wrapped = jaxswap.offload(loss, budget="1MiB", target="h100")
    ws = jnp.stack([W, 2 * W])
    actual = jax.jit(jax.vmap(jax.grad(wrapped), (0, None)))(ws, X)
    assert_same(actual, jax.vmap(jax.grad(loss), (0, None))(ws, X))
    assert compiled[0] == ((16, 16), (64, 16))  # of one of them


def test_a_budget_is_checked_before_the_function_is_called() -> None:
    with pytest.raises(ValueError, match="`budget` is 'plenty'"):
        jaxswap.offload(loss, budget="plenty")
    with pytest.raises(ValueError, match="`reserve` is 'some'"):
        jaxswap.offload(loss, budget="1GiB", reserve="some")


def test_too_small_a_budget_is_told_when_the_function_is_called(
    compiled: list[Any],
) -> None:
    def fn(w: jax.Array) -> jax.Array:
        return jnp.sum(X @ w)

    wrapped = jaxswap.offload(fn, budget="1KiB", target="h100")
    with pytest.raises(BudgetError, match=r"`budget` is 1\.00 KiB"):
        jax.grad(wrapped)(W)
    assert_same(wrapped(W), fn(W))


@pytest.mark.slow
def test_a_budget_inside_jit_compiles_for_the_gpu_and_keeps_the_gradient() -> None:
    w, x = weight(64, 64), normal(2048, 64)
    budget = int(0.9 * plan(loss, w, x).device_bytes)
    wrapped = jaxswap.offload(loss, budget=budget, target="h100")
    actual = jax.jit(jax.value_and_grad(wrapped))(w, x)
    assert_same(actual, jax.jit(jax.value_and_grad(loss))(w, x))
    ws = jnp.stack([w, 2 * w])
    mapped = jax.jit(jax.vmap(jax.grad(wrapped), (0, None)))(ws, x)
    assert_same(mapped, jax.vmap(jax.grad(loss), (0, None))(ws, x))


@pytest.mark.slow
def test_half_the_memory_of_a_deep_mlp_fits_as_predicted() -> None:
    arguments = mlp_arguments()
    full = plan(layers, *arguments, argnums=1).device_bytes
    budget = full // 2
    made = jaxswap.plan(
        layers,
        *arguments,
        argnums=1,
        budget=budget,
        target="h100",
        search_seconds=1.0,
        progress=False,
    )
    seen = made.compiled
    assert seen is not None
    assert seen.device_bytes <= budget
    error = seen.device_bytes - seen.predicted_device_bytes
    assert abs(error) <= 0.05 * seen.device_bytes
    assert seen.exposed_bytes <= 0.05 * seen.swapped_bytes
    assert made.device_bytes == seen.device_bytes
