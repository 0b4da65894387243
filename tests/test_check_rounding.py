"""`check` tells rounding from mistakes, in every type."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wrong_gradients import X, altered, module

from jaxswap import GradientError, check
from jaxswap._run.reference import ComparedPolicy, Difference, Reference, distance

# --- rounding -------------------------------------------------------------------------


def cancelling(x: jax.Array) -> jax.Array:
    """Whose result is mostly rounding error."""
    return jnp.sum((x + 1e4) ** 2 - x**2 - 2e4 * x - 1e8) + 1e-4 * jnp.sum(x)


def reordered(x: jax.Array) -> jax.Array:
    return jnp.sum((x + 1e4) ** 2 - (x**2 + 2e4 * x + 1e8)) + 1e-4 * jnp.sum(x)


@pytest.mark.usefixtures("all_optimizations")
def test_rounding_is_no_mistake() -> None:
    """Two ways to compute the same that share few digits."""
    x = jnp.linspace(0.1, 1.3, 50)
    problem = module.Problem((x,), {}, None, False)
    reference = Reference(problem.step(cancelling), problem.operands)
    row = reference.compare("other", problem.step(reordered), {})
    assert row.worst.error > 1e-5
    assert row.widest == row.worst.allowed > 0.1


def test_report_says_where_rounding_hides_everything() -> None:
    row = ComparedPolicy("default", 0, Difference("value", 0.1, 0.5), 0.5)
    report = module.Check("loss", (row,), 1, 1, 1)
    assert "little was shown for default" in str(report)
    tight = dataclasses.replace(row, widest=1e-5)
    assert "little was shown" not in str(dataclasses.replace(report, rows=(tight,)))


@pytest.mark.parametrize(
    ("dtype", "allowed"), [("bfloat16", 3e-2), ("float16", 4e-3), ("float32", 1e-5)]
)
def test_allowance_follows_the_coarsest_type(dtype: str, allowed: float) -> None:
    def fn(x: jax.Array) -> jax.Array:
        inner = jax.jit(lambda x: jnp.sin(x.astype(dtype)).astype(jnp.float32))
        return jnp.sum(inner(x) * x)

    report = check(fn, X, mixes=0)
    worst = [row.worst for row in report.rows]
    further = [w.allowed - (w.plain_error or 0.0) for w in worst]
    assert further == pytest.approx([allowed] * len(worst))
    (one, *_) = check(fn, X, mixes=0, rtol=0.5).rows
    assert one.worst.allowed == pytest.approx(0.5 + (one.worst.plain_error or 0.0))


@pytest.mark.parametrize(
    ("error", "allowed", "share"),
    [
        (0.0, 0.0, 0.0),
        (0.0, 1e-5, 0.0),
        (5e-6, 1e-5, 0.5),
        (2e-5, 1e-5, 2.0),
        (0.5, 0.0, np.inf),
        (np.inf, 1e-5, np.inf),
        (np.inf, np.inf, 1.0),
        (0.5, np.inf, 1.0),
    ],
)
def test_above_one_a_difference_is_wrong(
    error: float, allowed: float, share: float
) -> None:
    assert Difference("value", error, allowed).share == pytest.approx(share)


def test_distance() -> None:
    one = np.array([1.0, -4.0], np.float32)
    assert distance(one, one) == 0.0
    assert distance(one + np.float32(1), one) == 0.25
    assert distance(one[:1], one) == np.inf
    assert distance(one.astype(np.float16), one) == np.inf
    assert distance(np.array([np.nan, 1]), np.array([np.nan, 1])) == 0.0
    assert distance(np.array([0.0, 1]), np.array([np.nan, 1])) == np.inf
    assert distance(np.array([np.nan, 1]), np.array([0.0, 1])) == np.inf
    assert distance(np.array([np.inf, 1]), np.array([-np.inf, 1])) == np.inf
    assert distance(np.zeros(2), np.zeros(2)) == 0.0
    assert distance(np.full(2, 1e-30), np.zeros(2)) == np.inf
    assert distance(jax.random.key(0), jax.random.key(0)) == 0.0
    assert distance(jax.random.key(1), jax.random.key(0)) > 0.0


# --- 16 bits --------------------------------------------------------------------------


def deep(dtype: Any) -> Callable[..., jax.Array]:
    """A loss that rounds to 16 bits many times."""

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        h = x.astype(dtype)
        for _ in range(6):
            h = jnp.sin(2 * (h @ params["w"].astype(dtype)))
        return jnp.sum(h.astype(jnp.float32) ** 2)

    return loss


def rounding_elsewhere(dtype: Any) -> Callable[..., Any]:
    """In place of `offload`: each product is rounded once more on its way."""

    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
            h = x.astype(dtype)
            for _ in range(6):
                half = (h @ (params["w"] * 0.7).astype(dtype)) * 2
                h = jnp.sin(half + 2 * (h @ (params["w"] * 0.3).astype(dtype)))
            return jnp.sum(h.astype(jnp.float32) ** 2)

        return loss

    return offload


WIDE = {"w": jax.random.normal(jax.random.key(0), (8, 8)) / 3}
ROWS = jax.random.normal(jax.random.key(1), (64, 8))


def test_in_16_bits_both_distances_from_float32_are_reported() -> None:
    report = check(deep(jnp.bfloat16), WIDE, ROWS, mixes=1)
    for row in report.rows:
        plain = row.worst.plain_error
        assert plain is not None
        assert plain > 1e-4
        assert row.worst.error <= row.worst.allowed
    head, columns, *rows = str(report).splitlines()
    assert "value and gradient are as near to float32 as plain JAX" in head
    assert re.split("  +", columns)[2:5] == ["from float32", "plain's", "allowed"]
    assert [row.split()[0] for row in rows[:3]] == ["default", "OFFLOAD", "RECOMPUTE"]
    assert report.without_float32 == ""


@pytest.mark.usefixtures("all_optimizations")
def test_in_16_bits_rounding_elsewhere_passes_though_it_differs_from_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, other = deep(jnp.bfloat16), rounding_elsewhere(jnp.bfloat16)
    problem = module.Problem((WIDE, ROWS), {}, None, False)
    plain = jax.jit(problem.step(loss))(*problem.operands)
    found = jax.jit(problem.step(other(loss)))(*problem.operands)
    name = "args[0]['w']"
    difference = distance(found["gradient"][name], plain["gradient"][name])
    assert difference > 3e-2  # of rounding alone
    monkeypatch.setattr(module, "offload", other)
    assert check(loss, WIDE, ROWS, mixes=0).rows


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("change", [lambda g: g * 1.5, jnp.zeros_like])
def test_wrong_gradient_is_an_error_in_each_type(
    dtype: Any,
    change: Callable[[jax.Array], jax.Array],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        changed = altered(change)(lambda w, x: fn({"w": w}, x))
        return lambda params, x: changed(params["w"], x)

    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match="rounding explains") as caught:
        check(deep(dtype), WIDE, ROWS)
    error = caught.value
    assert error.leaf.startswith("gradient of args[")
    assert error.difference > error.allowed
    assert (error.plain_difference is None) == (dtype == jnp.float32)
    assert ("from float32 by" in str(error)) == (dtype != jnp.float32)


def test_a_function_that_float32_cannot_compute_is_compared_with_plain() -> None:
    def fn(x: jax.Array) -> jax.Array:
        kind = jax.ShapeDtypeStruct((), jnp.bfloat16)
        scale = jax.pure_callback(lambda: np.ones((), jnp.bfloat16), kind)
        return jnp.sum(jnp.sin(x.astype(jnp.bfloat16)) * jax.lax.stop_gradient(scale))

    report = check(fn, X, mixes=0)
    assert {row.worst.plain_error for row in report.rows} == {None}
    assert "`pure_callback`" in report.without_float32
    assert str(report).splitlines()[-1].startswith("compared with plain JAX alone: ")


def test_integers_beside_16_bits_must_be_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fn(x: jax.Array) -> Any:
        return jnp.sum(x.astype(jnp.bfloat16) ** 2), jnp.arange(3)

    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        return lambda x: (fn(x)[0], fn(x)[1] + 1)

    check(fn, X, has_aux=True, mixes=0)
    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match="auxiliary result") as caught:
        check(fn, X, has_aux=True)
    assert caught.value.plain_difference is None


def test_distance_from_the_truth() -> None:
    plain, truth = np.array([1.0, -4.0, 2.0]), np.array([1.0, -5.0, 2.0])
    assert distance(plain, plain, truth) == 0.2
    assert distance(plain + 1, plain, truth) == 0.4
    assert distance(plain, plain, np.zeros(3)) == 1.0
    overflowed = np.array([1.0, -np.inf, 2.0])
    assert distance(overflowed, overflowed, truth) == 0.0
    assert distance(plain, overflowed, truth) == np.inf
    assert distance(np.ones(2), np.ones(2), np.array([np.nan, 1])) == 0.0
