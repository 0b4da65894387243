"""Values that leave in a narrower type: how far they move results, and what is told."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap._graph.compress import COMPRESSIONS, copied_bytes
from jaxswap._run.narrowing import narrowed, widened

Array = jax.Array
KEY = jax.random.key(0)
WEIGHTS, X = jax.random.normal(KEY, (4, 16, 16)) / 4, jax.random.normal(KEY, (8, 16))
MOVES = {"bfloat16": 0.02, "float8_e4m3fn": 0.3, "int8": 0.08}
SWAP_CARRY = jaxswap.policies.SwapHeavy()
OPTIONS: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}


def layers(weights: Array, x: Array) -> Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def scanned(weights: Array, x: Array) -> Array:
    step = lambda h, w: (jnp.tanh(h @ w), None)  # noqa: E731
    return jnp.sum(jax.lax.scan(step, x, weights)[0] ** 2)


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_what_comes_back_is_near_and_within_the_type(compress: str) -> None:
    x = X.at[:, 3].multiply(1e6).at[:, 5].set(0.0)
    back = widened(*narrowed(x, compress), x.dtype)
    assert back.dtype == x.dtype
    largest = jnp.max(jnp.abs(x), axis=0, keepdims=True)
    assert jnp.all(jnp.abs(back - x) <= 0.07 * largest)
    assert jnp.all(back[:, 5] == 0)
    odd = x.at[0, 0].set(jnp.nan).at[1, 0].set(jnp.inf)
    back = widened(*narrowed(odd, compress), x.dtype)
    assert jnp.isnan(back[0, 0])
    assert not jnp.isnan(back[1, 0])
    assert jnp.all(jnp.abs(back - x)[2:] <= 0.07 * largest)


@pytest.mark.parametrize("fn", [layers, scanned])
@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_the_gradient_moves_a_little_and_the_value_not_at_all(
    fn: Any, compress: str
) -> None:
    lossy = jaxswap.offload(fn, policy=jaxswap.OFFLOAD, compress=compress)
    value, gradient = jax.jit(jax.value_and_grad(lossy))(WEIGHTS, X)
    expected, plain = jax.jit(jax.value_and_grad(fn))(WEIGHTS, X)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    moved = float(jnp.max(jnp.abs(gradient - plain)) / jnp.max(jnp.abs(plain)))
    assert 1e-5 < moved < MOVES[compress]


@pytest.mark.parametrize("fn", [layers, scanned])
def test_copies_are_counted_narrowed(fn: Any, tmp_path: Path) -> None:
    args = (jnp.zeros((4, 1024, 1024)), jnp.zeros((1024, 1024)))
    wide = jaxswap.plan(fn, *args, policy=jaxswap.OFFLOAD, **OPTIONS)
    seconds, host_bytes = [wide.seconds], []
    for compress, itemsize in COMPRESSIONS.items():
        options = {**OPTIONS, "compress": compress}
        plan = jaxswap.plan(fn, *args, policy=jaxswap.OFFLOAD, **options)
        host_bytes.append(plan.host_bytes)
        seconds.append(plan.seconds)
        narrow_bytes = wide.host_bytes * itemsize // 4
        assert narrow_bytes <= plan.host_bytes <= 1.01 * narrow_bytes
        assert f"rounded to {compress}" in str(plan)
        assert plan.summary()["compress"] == compress
        assert plan.summary()["lossy"]
        loaded = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
        assert (loaded.graph.compress, loaded.seconds) == (compress, plan.seconds)
    assert seconds[1] < seconds[0]
    assert seconds[2] < seconds[1]
    assert not wide.summary()["lossy"]


def test_a_plan_says_itself_how_values_leave() -> None:
    options = {**OPTIONS, "compress": "bfloat16"}
    plan = jaxswap.plan(layers, WEIGHTS, X, policy=jaxswap.OFFLOAD, **options)
    by_plan = jaxswap.offload(layers, plan=plan)
    by_policy = jaxswap.offload(layers, policy=jaxswap.OFFLOAD, compress="bfloat16")
    found, expected = (jax.jit(jax.grad(f))(WEIGHTS, X) for f in (by_plan, by_policy))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Make the plan with `compress`"):
        jaxswap.offload(layers, plan=plan, compress="bfloat16")


def test_other_types_leave_as_they_are() -> None:
    def fn(x: Array, w: Array) -> Array:
        narrow = jnp.tanh((x @ w).astype(jnp.bfloat16))
        return jnp.sum(jnp.where(narrow > 0, narrow, 2 * narrow).astype(jnp.float32))

    options = {**OPTIONS, "policy": jaxswap.OFFLOAD}
    plan = jaxswap.plan(fn, X, WEIGHTS[0], compress="bfloat16", **options)
    for value in plan.graph.values:
        is_wide = value.dtype == np.float32
        expected = value.nbytes // 2 if is_wide else value.nbytes
        assert copied_bytes(value, "bfloat16") == expected


@pytest.mark.parametrize("wrong", ["fp8", "float32", 8, True])
def test_wrong_names_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r'`compress` is .* one of "bfloat16"'):
        jaxswap.offload(layers, compress=wrong)
    with pytest.raises(ValueError, match="`compress` is"):
        jaxswap.plan(layers, WEIGHTS, X, compress=wrong, **OPTIONS)


def test_check_says_how_far_the_gradient_moved() -> None:
    report = jaxswap.check(layers, WEIGHTS, X, compress="int8", mixes=0)
    assert report.moved is not None
    assert 1e-5 < report.moved.error < MOVES["int8"]
    assert "rounded to int8 as they leave move the results" in str(report)
    assert jaxswap.check(layers, WEIGHTS, X, mixes=0).moved is None


@pytest.mark.slow
def test_compiled_copies_of_a_loop_are_narrow_and_hidden() -> None:
    weights = jax.ShapeDtypeStruct((4, 1024, 1024), jnp.float32)
    x = jax.ShapeDtypeStruct((8192, 1024), jnp.float32)
    host_bytes = []
    options: dict[str, Any] = {
        "target": "h100",
        "strict": True,
    }  # Nothing is computed on the host.
    for compress in (None, "bfloat16", "int8"):
        swapped = jaxswap.offload(scanned, policy=SWAP_CARRY, compress=compress)
        seen = jaxswap.inspect(jax.grad(swapped), weights, x, **options)
        host_bytes.append(seen.host_bytes)
        assert seen.hidden_fraction == 1.0
    assert host_bytes[0] == 2 * host_bytes[1] == 4 * host_bytes[2]
