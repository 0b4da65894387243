"""From a function and a budget to a plan, and through the plan to the same gradient."""

import dataclasses
import functools
import gc
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gpu_programs import layers, mlp_arguments
from zoo import normal, weight

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE, BudgetError, Plan, _planner
from jaxswap._simulate.simulate import Simulator

Struct = jax.ShapeDtypeStruct
W, X = weight(16, 16), normal(64, 16)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's plans and targets."""
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))


def loss(w: jax.Array, x: jax.Array) -> jax.Array:
    for _ in range(3):
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def plan(fn: Callable[..., Any], *args: Any, **options: Any) -> Plan:
    given: dict[str, Any] = {
        "target": "h100",
        "compile": False,
        "progress": False,
    }
    if "policy" not in options:
        given["search_seconds"] = 3.0
    return jaxswap.plan(fn, *args, **(given | options))


@functools.cache
def kept_bytes() -> int:
    """Device memory of `loss` if everything is kept."""
    return plan(loss, W, X).plain.device_bytes


def between(plan: Plan, share: float) -> int:
    """A budget: what the caller holds, and a share of the rest that keeping needs."""
    least = plan.plain.caller_bytes
    return int(least + share * (plan.plain.device_bytes - least))


def convolved(kernel: jax.Array, x: jax.Array) -> jax.Array:
    letters = "N" + "DHW"[5 - x.ndim :] + "C"
    numbers = (letters, letters[1:-1] + "IO", letters)
    strides = (1,) * (x.ndim - 2)
    x = jax.lax.conv_general_dilated(x, kernel, strides, "SAME", None, None, numbers)
    return jnp.sum(jnp.tanh(x) ** 2)


# --- options of the compiler ----------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_plan_names_the_options_of_its_program(
    dimensions: int, tmp_path: Path
) -> None:
    kernel = jnp.ones((3,) * dimensions + (2, 2))
    x = jnp.ones((1,) + (8,) * dimensions + (2,))
    made = plan(convolved, kernel, x)
    gradient = jax.value_and_grad(convolved)
    expected = jaxswap.compiler_options(gradient, kernel, x)
    assert len(expected) == dimensions - 1
    loaded = jaxswap.load_plan(made.save(tmp_path / "plan.json"))
    for found in (made, loaded, made.with_action("tanh", RECOMPUTE)):
        assert found.compiler_options == expected
        assert all(name in str(found) for name in expected)
        assert found.summary()["compiler_options"] == expected


# --- budgets --------------------------------------------------------------------------


def test_a_roomy_budget_changes_nothing() -> None:
    for budget in (None, kept_bytes(), "80GB", f"{kept_bytes()}"):
        made = plan(loss, W, X, budget=budget)
        assert made.device_bytes == kept_bytes()
        assert not made.swaps
    assert made.budget_bytes == kept_bytes()
    assert plan(loss, W, X).budget_bytes == made.target.memory_bytes


def test_where_keeping_everything_fits_no_plan_is_slower() -> None:
    kept = plan(loss, W, X, policy=KEEP)
    made = plan(loss, W, X, budget=kept.device_bytes)
    assert made.seconds <= kept.seconds * (1 + 1e-9)


def test_no_plan_is_faster_than_the_bound() -> None:
    kept = plan(loss, W, X, policy=KEEP)
    for budget in (kept.device_bytes, int(0.9 * kept_bytes())):
        made = plan(loss, W, X, budget=budget)
        assert 0 < made.bound_seconds <= made.seconds
        if kept.device_bytes <= budget:
            assert made.bound_seconds <= kept.seconds * (1 + 1e-9)


@pytest.mark.parametrize("share", [0.95, 0.85])
def test_a_plan_stays_within_its_budget_at_every_point(share: float) -> None:
    budget = int(share * kept_bytes())
    made = plan(loss, W, X, budget=budget)
    assert made.device_bytes <= budget < kept_bytes()
    assert made.timeline.device_bytes_at.max() <= budget
    assert made.seconds >= made.bound_seconds > 0
    assert made.seconds > made.plain.seconds
    assert (made.budget_bytes, made.compiled, made.policy) == (budget, None, "")


def test_budgets_can_be_written_in_words() -> None:
    made = plan(loss, W, X, budget=" 22 KiB ")
    assert made.budget_bytes == 22 * 1024
    assert made.device_bytes <= 22 * 1024


@functools.cache
def too_small() -> BudgetError:
    with pytest.raises(BudgetError) as caught:
        plan(loss, W, X, budget="10KiB")
    return caught.value


def test_too_small_a_budget_names_the_smallest_which_then_works() -> None:
    error = too_small()
    assert error.budget_bytes == 10 * 1024
    assert 10 * 1024 < error.smallest_bytes < kept_bytes()
    assert f"{error.smallest_bytes} bytes, simulated" in str(error)
    made = plan(loss, W, X, budget=error.smallest_bytes)
    assert made.device_bytes <= error.smallest_bytes
    with pytest.raises(BudgetError):
        plan(loss, W, X, budget=error.smallest_bytes - 1, search_seconds=0.3)


def test_too_small_a_budget_says_what_is_in_the_way() -> None:
    holders = too_small().in_the_way
    sizes = [nbytes for _, nbytes in holders]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) <= too_small().smallest_bytes
    assert sum(sizes) >= 0.9 * too_small().smallest_bytes
    labels = [label for label, _ in holders]
    assert "arguments and results" in labels
    assert any(re.fullmatch(r"tanh \w+\.py:\d+\S*", label) for label in labels)


def test_the_smallest_plan_can_be_asked_for() -> None:
    made = plan(loss, W, X, budget=" Smallest")
    assert made.device_bytes <= too_small().smallest_bytes
    assert made.budget_bytes is None


def test_a_reserve_is_set_aside() -> None:
    budget = int(0.9 * kept_bytes())
    bare = plan(loss, W, X, budget=budget)
    for reserve in (3000, "3kB"):
        made = plan(loss, W, X, budget=budget + 3000, reserve=reserve)
        assert made.device_bytes <= budget
        assert made.actions == bare.actions
        assert (made.reserve_bytes, made.budget_bytes) == (3000, budget + 3000)
    least = too_small().smallest_bytes
    with pytest.raises(BudgetError) as caught:
        plan(loss, W, X, budget=least + 2999, reserve=3000, search_seconds=0.3)
    assert caught.value.budget_bytes == least + 2999
    assert caught.value.smallest_bytes >= least + 3000


def deep(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


@functools.cache
def deep_plan() -> Plan:
    return plan(deep, [W] * 6, X)


@pytest.mark.parametrize("host_budget", [0, "4KiB"])
def test_pinned_host_memory_is_bounded(host_budget: int | str) -> None:
    budget = between(deep_plan(), 0.85)
    most = 4096 if host_budget else 0
    options = {"host_budget": host_budget, "search_seconds": 0.5}
    made = plan(deep, [W] * 6, X, budget=budget, **options)
    assert made.host_bytes <= most
    assert made.device_bytes <= budget
    assert made.host_budget_bytes == most


def test_a_policy_that_needs_more_host_memory_is_refused() -> None:
    needed = plan(deep, [W] * 6, X, policy=OFFLOAD).host_bytes
    assert needed > 0
    plan(deep, [W] * 6, X, policy=OFFLOAD, host_budget=needed)
    with pytest.raises(jaxswap.HostMemoryError, match="the host budget is"):
        plan(deep, [W] * 6, X, policy=OFFLOAD, host_budget=needed - 1)


def test_a_policy_is_followed_and_named() -> None:
    made = plan(deep, [W] * 6, X, policy=jaxswap.policies.FullRemat())
    assert made.policy == "FullRemat()"
    assert set(made.actions) == {RECOMPUTE}
    assert not made.swaps
    with pytest.raises(BudgetError):
        plan(deep, [W] * 6, X, policy=KEEP, budget=kept_bytes() // 2)


# --- programs too large, and those with nothing in them -------------------------------


def test_large_arguments_may_be_types() -> None:
    x, w = Struct((1 << 16, 1 << 10), jnp.bfloat16), Struct((1024,) * 2, jnp.bfloat16)
    made = plan(deep, [w] * 3, x, budget=None)
    assert made.device_bytes > 4 * 2**27
    assert made.signature.arguments == ("bfloat16[1024,1024]",) * 3 + (
        "bfloat16[65536,1024]",
    )


def test_a_loss_of_nothing_can_be_planned() -> None:
    made = plan(lambda w: jnp.float32(0), W)
    assert not made.swaps
    assert made.device_bytes >= W.nbytes
    assert str(made)


# --- what is passed -------------------------------------------------------------------


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to rounding, relative to the largest entry of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.asarray(a).dtype == jnp.asarray(e).dtype
        scale = float(np.max(np.abs(np.asarray(e, np.float64)), initial=1e-6))
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-5 * scale)


def follow(
    made: Plan, fn: Callable[..., Any], *args: Any, is_jitted: bool = True, **how: Any
) -> Any:
    """Value and gradient through the plan."""
    grad = jax.value_and_grad(jaxswap.offload(fn, plan=made), **how)
    return (jax.jit(grad) if is_jitted else grad)(*args)


@pytest.mark.parametrize("argnums", [0, 1, -1, (0, 1), (1,), (0, -1)])
def test_argnums_are_those_of_value_and_grad(argnums: Any) -> None:
    made = plan(loss, W, X, argnums=argnums, policy=OFFLOAD)
    expected = jax.value_and_grad(loss, argnums)(W, X)
    assert_same(follow(made, loss, W, X, argnums=argnums), expected)
    other = 0 if argnums in (1, -1, (1,)) else 1
    if argnums not in ((0, 1), (0, -1)):
        with pytest.raises(ValueError, match="made for other arguments"):
            follow(made, loss, W, X, argnums=other)


def with_aux(w: jax.Array, x: jax.Array) -> Any:
    h = jnp.tanh(jnp.tanh(x @ w) @ w)
    return jnp.sum(h @ w), {"h": h, "count": jnp.arange(3), "nothing": None}


def test_auxiliary_results_are_returned_and_cost_memory() -> None:
    made = plan(with_aux, W, X, has_aux=True)
    bare = plan(lambda w, x: with_aux(w, x)[0], W, X)
    assert made.device_bytes >= bare.device_bytes
    expected = jax.value_and_grad(with_aux, has_aux=True)(W, X)
    assert_same(follow(made, with_aux, W, X, has_aux=True), expected)


def test_keywords_are_arguments_of_the_function() -> None:
    def fn(w: jax.Array, *, x: jax.Array, activation: str, bias: Any = None) -> Any:
        h = getattr(jnp, activation)(x @ w) @ w
        return jnp.sum(h if bias is None else h + bias)

    made = plan(fn, W, x=X, activation="tanh", policy=OFFLOAD)
    wrapped = jaxswap.offload(fn, plan=made)
    given: dict[str, Any] = {"x": X, "activation": "tanh"}
    expected = jax.value_and_grad(fn)(W, **given)
    assert_same(jax.value_and_grad(wrapped)(W, **given), expected)
    for other in ({"activation": "sin"}, {"bias": X[0, 0]}):
        with pytest.raises(ValueError, match="made for other arguments"):
            jax.grad(wrapped)(W, **(given | other))


def test_arrays_that_are_closed_over_are_part_of_the_program() -> None:
    scale = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 16)

    def fn(w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(jnp.tanh(X @ w) @ w) * scale)

    made = plan(fn, W, policy=OFFLOAD)
    for is_jitted in (True, False):
        actual = follow(made, fn, W, is_jitted=is_jitted)
        assert_same(actual, jax.value_and_grad(fn)(W))


def test_numpy_arrays_stand_for_arrays() -> None:
    w, x = np.asarray(W), np.asarray(X)
    made = plan(loss, w, x, policy=OFFLOAD)
    assert made.signature == plan(loss, W, X, policy=OFFLOAD).signature
    assert_same(follow(made, loss, w, x), jax.value_and_grad(loss)(W, X))


def scaled(w: jax.Array, scale: Any) -> jax.Array:
    return loss(w, X) * scale


def test_numbers_stand_for_arrays() -> None:
    made = plan(scaled, W, 2.0, policy=OFFLOAD)
    assert made.signature.arguments[-1] == "float32[]"
    assert_same(follow(made, scaled, W, 2.0), jax.value_and_grad(scaled)(W, 2.0))


def test_weakly_typed_arrays_are_planned_as_they_are() -> None:
    """A weak float32 times bfloat16 is bfloat16."""
    scale = jnp.asarray(2.0)
    assert scale.weak_type

    def fn(w: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh((w * scale) @ w).astype(jnp.float32))

    narrow = W.astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        made = plan(fn, narrow, scale)
        actual = follow(made, fn, narrow, scale)
        assert_same(actual, jax.jit(jax.value_and_grad(fn))(narrow, scale))


def test_what_is_no_array_is_static() -> None:
    def fn(w: jax.Array, mode: str, rest: tuple[Any, ...]) -> jax.Array:
        assert rest == (None, "text")
        return jnp.sum(getattr(jnp, mode)(X @ w) @ w)

    made = plan(fn, W, "tanh", (None, "text"))
    expected = jax.value_and_grad(fn)(W, "tanh", (None, "text"))
    actual = follow(made, fn, W, "tanh", (None, "text"), is_jitted=False)
    assert_same(actual, expected)


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize("fn", [3, "loss", None, [jnp.sin]])
def test_only_functions_can_be_planned(fn: Any) -> None:
    with pytest.raises(TypeError, match=r"jaxswap\.plan needs a function"):
        plan(fn, W)


def test_only_a_scalar_can_be_planned_for() -> None:
    with pytest.raises(TypeError, match="`fn` must return a scalar"):
        plan(lambda w: w @ w, W)
    with pytest.raises(TypeError, match="does not return a pair"):
        plan(loss, W, X, has_aux=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "plenty"}, "`budget` is 'plenty': cannot read it as bytes"),
        ({"budget": "-1GiB"}, "`budget` is '-1GiB': bytes cannot be negative"),
        ({"budget": -1}, "`budget` is -1: bytes cannot be negative"),
        ({"budget": 1.5}, "`budget` is 1.5: give bytes as an integer"),
        ({"budget": True}, "`budget` is True"),
        ({"budget": ["8GiB"]}, "`budget` is ['8GiB']"),
        ({"reserve": "some"}, "`reserve` is 'some'"),
        ({"reserve": -2}, "`reserve` is -2: bytes cannot be negative"),
        ({"reserve": "smallest"}, "`reserve` is 'smallest'"),
        ({"host_budget": "much"}, "`host_budget` is 'much'"),
        ({"host_budget": -3}, "`host_budget` is -3"),
        ({"target": "abacus"}, "`target` is 'abacus', which is not a known GPU"),
        ({"target": 3}, "`target` is 3, which is not a known GPU"),
        ({"argnums": 2}, "`argnums` is 2, but `fn` is given 2 positional arguments"),
        ({"argnums": (0, -3)}, "`argnums` is (0, -3), but `fn` is given 2"),
        ({"most_compiles": 0}, "`most_compiles` is 0; an integer of at least 1"),
        ({"most_compiles": 2.0}, "`most_compiles` is 2.0; an integer"),
        ({"most_compiles": True}, "`most_compiles` is True; an integer"),
        (
            {"compile": False, "most_compiles": 3},
            "`most_compiles` and `compile=False` are given",
        ),
        (
            {"policy": jaxswap.KEEP, "search_seconds": 1},
            "`search_seconds` and `policy` are given",
        ),
        (
            {"budget": "smallest", "reserve": 1},
            '`reserve` and `budget="smallest"` are given',
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plan(loss, W, X, **options)


def test_an_unknown_target_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"choose one of .*a100-40.*h100.*h200"):
        plan(loss, W, X, target="abacus")


def test_without_a_gpu_the_target_must_be_named() -> None:
    for compile_ in (True, False):
        with pytest.raises(ValueError, match="there is no GPU here") as caught:
            plan(loss, W, X, target=None, compile=compile_)
        text = str(caught.value)
        assert "`target` is None" in text
        assert "target='h100'" in text


@pytest.mark.parametrize("policy", ["swap", 3, jaxswap.LMS])
def test_only_policies_are_policies(policy: Any) -> None:
    with pytest.raises(TypeError, match="`policy` is"):
        plan(loss, W, X, policy=policy)


# --- progress -------------------------------------------------------------------------


def test_progress_is_told_to_a_function() -> None:
    lines: list[str] = []
    plan(loss, W, X, budget=22 * 1024, progress=lines.append)
    assert lines == ["planning for 22.0 KiB"]


def test_progress_is_written_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    plan(loss, W, X, progress=True)
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("jaxswap: planning for ")
    assert written.err.endswith(" GiB\n")
    plan(loss, W, X, progress=False)
    assert capsys.readouterr().err == ""


# --- the same gradient ----------------------------------------------------------------


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


# --- compiled -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """What is read from a compiled program."""

    device_bytes: int
    temp_bytes: int = 1
    fragmented_bytes: int = 0
    host_bytes: int = 0
    swapped_bytes: int = 0
    exposed_bytes: int = 0
    exposed_copies: tuple[Any, ...] = ()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Types of the arguments of each program that is compiled; none really is."""
    found: list[tuple[Any, ...]] = []

    def inspect(fn: Any, *types: Any, target: Any, compiler_options: Any) -> Program:
        assert compiler_options == jaxswap.compiler_options(fn, *types)
        outputs, gradients = jax.eval_shape(fn, *types)
        assert outputs[0].shape == ()
        assert any(g is not None for g in gradients)
        found.append(tuple(t.shape for t in types))
        return Program(30000)

    monkeypatch.setattr(_planner, "inspect", inspect)
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


# --- what is done once ----------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -3.0, float("nan"), "x", None, True])
def test_search_seconds_that_cannot_be_meant_are_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match=f"`search_seconds` is {seconds!r}"):
        plan(loss, W, X, search_seconds=seconds)


def test_keeping_everything_is_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    play = Simulator.play

    def noted(simulator: Simulator, schedule: Any) -> Any:
        seen.append(schedule)
        return play(simulator, schedule)

    monkeypatch.setattr(Simulator, "play", noted)
    first = plan(loss, W, X)
    seen.clear()
    made = plan(loss, W, X, budget=between(first, 0.9))
    assert made.seconds >= made.plain.seconds
    assert made.all_kept is made.plain
    everything = made.arranger.all_kept.schedule
    assert seen.count(everything) == 1


def test_the_bound_of_the_search_reaches_the_plan() -> None:
    """It lies above the seconds of keeping everything where that does not fit."""
    layers = [Struct((1024, 1024), jnp.float32)] * 16
    rows = Struct((16384, 1024), jnp.float32)

    def deep(weights: Any, x: jax.Array) -> jax.Array:
        for w in weights:
            x = jnp.tanh(x @ w)
        return jnp.sum(x**2)

    free = plan(deep, layers, rows)
    made = plan(deep, layers, rows, budget=between(free, 0.6), search_seconds=1.0)
    assert made.plain.seconds < made.bound_seconds <= made.seconds


def test_garbage_collection_and_the_environment_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They belong to the whole process, in which other threads go on meanwhile."""
    seen: set[tuple[bool, int]] = set()
    play = Simulator.play

    def noted(simulator: Simulator, schedule: Any) -> Any:
        seen.add((gc.isenabled(), hash(tuple(sorted(os.environ.items())))))
        return play(simulator, schedule)

    monkeypatch.setattr(Simulator, "play", noted)
    before = (gc.isenabled(), hash(tuple(sorted(os.environ.items()))))
    plan(loss, W, X, budget=between(plan(loss, W, X), 0.9), search_seconds=0.3)
    assert seen == {before}
