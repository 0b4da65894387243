"""A plan computes the value and gradient of the plain function."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from planned_losses import (
    W,
    X,
    assert_same,
    between,
    deep,
    follow,
    loss,
    plan,
    with_aux,
)
from zoo import normal, weight

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE, Plan

pytestmark = pytest.mark.usefixtures("own_folders")


def residual(weights: Any, x: jax.Array) -> jax.Array:
    for first, second in weights:
        x = x + jnp.tanh(x @ first) @ second
    return jnp.mean(x**2)


def attention(parameters: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    for _ in range(2):
        q, k, v = (x @ parameters[name] for name in "qkv")
        q, k, v = (jnp.reshape(t, (32, 4, 4)) for t in (q, k, v))
        scores = jnp.einsum("ihd,jhd->hij", q, k) / 2.0
        mixed = jnp.einsum("hij,jhd->ihd", jax.nn.softmax(scores), v)
        x = x + jnp.reshape(mixed, (32, 16)) @ parameters["o"]
    return jnp.sum(jax.nn.gelu(x @ parameters["q"]) ** 2)


def dropped(w: jax.Array, key: jax.Array, x: jax.Array) -> jax.Array:
    for i in range(3):
        mask = jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, (64, 16))
        x = jnp.where(mask, jnp.tanh(x @ w), 0.0)
    return jnp.sum(x @ w)


def scanned(w: jax.Array, x: jax.Array) -> jax.Array:
    def body(h: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = jnp.tanh(h @ w + row)
        return h, h

    last, made = jax.lax.scan(body, x[:8], x.reshape(8, 8, 16))
    return jnp.sum(last @ w) + jnp.sum(jnp.tanh(made @ w) ** 2)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "mlp": (deep, ([weight(16, 16) for _ in range(4)], X), {"argnums": (0, 1)}),
    "residual": (residual, ([(weight(16, 32), weight(32, 16))] * 3, X), {}),
    "attention": (
        attention,
        ({name: weight(16, 16) for name in "qkvo"}, normal(32, 16)),
        {},
    ),
    "auxiliary": (with_aux, (W, X), {"has_aux": True}),
    "key": (dropped, (W, jax.random.key(3), X), {"argnums": (0, 2)}),
    "scan": (scanned, (W, X), {}),
}


def test_what_is_recomputed_more_than_once_has_the_same_gradient() -> None:
    fn, args, _ = PROGRAMS["residual"]
    once = plan(fn, *args, policy=RECOMPUTE)
    again = dataclasses.replace(once, hold_for=1, staleness=(6, 1), swaps=())
    counts = [
        sum(entry.is_recomputed for entry in made.draft.entries)
        for made in (once, again)
    ]
    assert counts[1] > counts[0]
    assert_same(follow(again, fn, *args), jax.value_and_grad(fn)(*args))


def planned(name: str, **options: Any) -> Plan:
    fn, args, how = PROGRAMS[name]
    return plan(fn, *args, **(how | {"search_seconds": 1.0} | options))


def edited(made: Plan) -> Plan:
    """The plan with something of everything, products swapped before all."""
    for i, row in enumerate(made.rows):
        made = made.with_action(row.value, (OFFLOAD, RECOMPUTE, KEEP)[i % 3])
    return made.with_action("dot_general", OFFLOAD)


@functools.cache
def expected_of(name: str) -> Any:
    fn, args, how = PROGRAMS[name]
    return jax.jit(jax.value_and_grad(fn, **how))(*args)


@pytest.mark.parametrize("name", PROGRAMS)
def test_plan_has_the_value_and_gradient_of_the_plain_function(name: str) -> None:
    fn, args, how = PROGRAMS[name]
    made = planned(name, budget="smallest")
    if made.actions != planned(name).actions:
        assert made.device_bytes < planned(name).device_bytes
    assert_same(follow(made, fn, *args, **how), expected_of(name))


@pytest.mark.parametrize("name", ["mlp", "residual", "attention"])
@pytest.mark.parametrize("share", [0.9, 0.75])
def test_plan_for_a_budget_has_that_value_and_gradient(name: str, share: float) -> None:
    fn, args, how = PROGRAMS[name]
    budget = between(planned(name), share)
    made = planned(name, budget=budget)
    assert made.device_bytes <= budget
    assert_same(follow(made, fn, *args, **how), expected_of(name))


@pytest.mark.parametrize("name", PROGRAMS)
def test_edited_plan_has_that_value_and_gradient(name: str) -> None:
    fn, args, how = PROGRAMS[name]
    made = edited(planned(name))
    assert made.swaps
    assert RECOMPUTE in [row.action for row in made.rows]
    assert_same(follow(made, fn, *args, **how), expected_of(name))


@pytest.mark.parametrize("name", ["mlp", "auxiliary"])
def test_plans_can_be_followed_without_jit(name: str) -> None:
    fn, args, how = PROGRAMS[name]
    expected = jax.value_and_grad(fn, **how)(*args)
    swapped = planned(name).with_action("dot_general", OFFLOAD)
    assert_same(follow(swapped, fn, *args, is_jitted=False, **how), expected)


def test_a_plan_holds_inside_other_transformations() -> None:
    made = plan(loss, W, X, policy=OFFLOAD)
    wrapped = jaxswap.offload(loss, plan=made)
    ws = jnp.stack([W, 2 * W])
    expected = jax.vmap(jax.grad(loss), (0, None))(ws, X)
    assert_same(jax.jit(jax.vmap(jax.grad(wrapped), (0, None)))(ws, X), expected)

    def total(ws: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(wrapped, (0, None))(ws, X))

    assert_same(jax.jit(jax.grad(total))(ws), expected)
    assert_same(wrapped(W, X), loss(W, X))


def test_a_saved_plan_is_followed(tmp_path: Path) -> None:
    made = plan(loss, W, X).with_action("tanh", OFFLOAD)
    loaded = jaxswap.load_plan(made.save(tmp_path / "plan.json"))
    assert_same(follow(loaded, loss, W, X), jax.value_and_grad(loss)(W, X))


def test_a_plan_for_other_arguments_is_refused_with_both_signatures() -> None:
    made = plan(loss, W, X)
    with pytest.raises(ValueError, match="made for other arguments") as caught:
        jax.grad(jaxswap.offload(loss, plan=made))(W, X[:32])
    text = str(caught.value)
    assert f"it fits {made.signature}" in text
    assert "(float32[16,16], float32[64,16]), program" in text
    assert "called with (float32[16,16], float32[32,16]), program" in text
    with pytest.raises(ValueError, match="made for other arguments"):
        jax.grad(jaxswap.offload(lambda w, x: loss(w, x) ** 2, plan=made))(W, X)


def test_a_plan_without_differentiation_is_the_function() -> None:
    made = plan(loss, W, X)
    wrapped = jaxswap.offload(loss, plan=made)
    assert_same(jax.jit(wrapped)(W, X[:32]), loss(W, X[:32]))


def test_policy_plan_and_budget_exclude_one_another() -> None:
    made = plan(loss, W, X)
    given: dict[str, Any] = {"policy": OFFLOAD, "plan": made, "budget": "1GiB"}
    for left, right in (("policy", "plan"), ("plan", "budget"), ("policy", "budget")):
        two = {name: given[name] for name in (left, right)}
        with pytest.raises(ValueError, match=f"`{left}` and `{right}` are given"):
            jaxswap.offload(loss, **two)
        with pytest.raises(ValueError, match="exclude one another"):
            jaxswap.offload(**two)


@pytest.mark.parametrize("other", ["plan.json", 3, KEEP])
def test_only_plans_are_plans(other: Any) -> None:
    with pytest.raises(TypeError, match=r"it must be a plan from jaxswap\.plan"):
        jaxswap.offload(loss, plan=other)


def test_what_a_checkpoint_computes_again_takes_its_time_and_memory() -> None:
    x = jax.ShapeDtypeStruct((16384, 1024), jnp.float32)
    weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 8

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in weights:
            x = jnp.tanh(x @ w)
        return jnp.sum(x**2)

    plain, again = (
        jaxswap.plan(fn, weights, x, policy=KEEP, target="h100", compile=False)
        for fn in (loss, jax.checkpoint(loss))
    )
    assert 1.25 < again.seconds / plain.seconds < 1.45  # a third pass of two
    assert 0.9 < again.device_bytes / plain.device_bytes < 1.1
