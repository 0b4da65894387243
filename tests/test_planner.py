"""From a function and a budget to a plan."""

import functools
import gc
import os
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from planned_losses import W, X, between, deep, kept_bytes, loss, plan

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE, BudgetError, Plan
from jaxswap._simulate.simulate import Simulator

pytestmark = pytest.mark.usefixtures("own_folders")

Struct = jax.ShapeDtypeStruct


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's plans and targets."""
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))


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
