"""Plans on disk: found again without compiling, and never in the way."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from cached_plans import ROOMY, W, X, loss, plan
from handmade import MIB
from handmade_plans import COMPILED, H100, mixed_plan

import jaxswap
from jaxswap import Plan, _request, policies
from jaxswap._plans import cache as plan_cache
from jaxswap._plans.file import decisions_to_json
from jaxswap._schedule.policy import as_policy
from jaxswap.extend import Decision, Graph, Timing

pytestmark = pytest.mark.usefixtures("cache", "compiled")


def test_the_same_call_again_does_not_compile(cache: Path, compiled: list[Any]) -> None:
    first = plan()
    count = len(compiled)
    assert count >= 1
    lines: list[str] = []
    second = plan(progress=lines.append)
    assert len(compiled) == count
    assert lines == ["found a plan of 19.5 KiB on disk"]
    for field in dataclasses.fields(Plan):
        assert getattr(second, field.name) == getattr(first, field.name), field.name
    assert second.timeline.seconds == first.timeline.seconds
    assert len(list(cache.iterdir())) == 1


def test_plans_of_other_code_are_not_found(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan()
    count = len(compiled)
    monkeypatch.setattr(plan_cache, "digest_of", lambda: "of an older search")
    plan()
    assert len(compiled) > count


def test_arrays_and_their_types_are_one_call(compiled: list[Any]) -> None:
    plan()
    count = len(compiled)
    plan(loss, jax.ShapeDtypeStruct(W.shape, W.dtype), X)
    assert len(compiled) == count


def test_names_of_lines_are_those_of_the_program_at_hand() -> None:
    def one(w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(X @ w))

    def other(w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(X @ w))

    def labels(plan: Plan) -> set[str]:
        return {value.label for value in plan.graph.values}

    first, second = plan(one, W), plan(other, W)
    assert first.signature == second.signature
    assert labels(first) != labels(second)


def deeper(w: jax.Array, x: jax.Array) -> jax.Array:
    return loss(w, jnp.tanh(x @ w))


OTHERS: dict[str, dict[str, Any]] = {
    "budget": {"budget": ROOMY + 1},
    "no budget": {"budget": None},
    "smallest": {"budget": "smallest"},
    "target": {"target": "a100-80"},
    "target of the same name": {
        "target": dataclasses.replace(H100, host_link_bytes_per_second=1e9)
    },
    "reserve": {"reserve": 1},
    "host budget": {"host_budget": ROOMY},
    "policy": {"policy": jaxswap.LMS()},
    "dials of a policy": {"policy": jaxswap.LMS(swapout_threshold=2)},
    "argnums": {"argnums": 1},
    "compiles": {"most_compiles": 3},
    "search seconds": {"search_seconds": 1.5},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_another_call_is_planned_anew(
    cache: Path, compiled: list[Any], options: dict[str, Any]
) -> None:
    plan(policy=jaxswap.LMS(swapout_threshold=3))
    plan()
    count = len(compiled)
    plan(**options)
    assert len(compiled) > count
    assert len(list(cache.iterdir())) == 3


def test_another_program_or_type_is_planned_anew(compiled: list[Any]) -> None:
    plan()
    for fn, args in ((deeper, (W, X)), (loss, (W, X[:32]))):
        count = len(compiled)
        plan(fn, *args)
        assert len(compiled) > count


def test_another_version_of_jaxswap_plans_anew(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan()
    count = len(compiled)
    monkeypatch.setattr(plan_cache, "__version__", "99.0")
    plan()
    assert len(compiled) > count


@pytest.mark.parametrize("package", ["jax", "jaxlib", "highspy"])
def test_another_version_is_planned_anew(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    plan()
    count = len(compiled)
    real = plan_cache.version

    def version(name: str) -> str:
        return "99.0" if name == package else real(name)

    monkeypatch.setattr(plan_cache, "version", version)
    plan()
    assert len(compiled) > count


def test_policies_given_as_functions_are_asked_again() -> None:
    """Nothing in a function's name tells what it returns."""
    current = jaxswap.KEEP

    def policy(value: jaxswap.Value) -> jaxswap.Action:
        return current

    for current in jaxswap.Action:
        made = plan(policy=policy)
        decided = [made.actions[v] for e in made.graph.equations for v in e.outputs]
        assert current in decided


@dataclasses.dataclass(frozen=True)
class Constant:
    """A policy of a user, whose code is edited below."""

    def decide(self, graph: Graph) -> Decision:
        return Decision((jaxswap.KEEP,) * len(graph.values), Timing())


def recompute(self: Constant, graph: Graph) -> Decision:
    actions = (jaxswap.RECOMPUTE,) * len(graph.values)
    return Decision(actions, Timing(min_bytes=0, is_forced=True))


def test_policies_whose_code_was_edited_are_asked_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan(policy=Constant())
    monkeypatch.setattr(Constant, "decide", recompute)
    assert plan(policy=Constant()).actions != first.actions
    assert not cache.exists()


class Mine(jaxswap.LMS):
    """A policy of jaxswap with a user's changes."""


@pytest.mark.parametrize("policy", [None, jaxswap.LMS(), policies.FullRemat()])
def test_policies_of_jaxswap_are_named(policy: Any) -> None:
    assert plan_cache.can_name(policy)


@pytest.mark.parametrize("policy", [Mine(), as_policy(jaxswap.KEEP), Constant()])
def test_policies_of_users_are_not_named(policy: Any) -> None:
    assert not plan_cache.can_name(policy)


def looped(w: jax.Array, x: jax.Array) -> jax.Array:
    def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.tanh(x @ w), None

    return jnp.sum(jax.lax.scan(body, x, None, length=3)[0])


def test_errors_of_the_function_reach_its_author(compiled: list[Any]) -> None:
    """They are none of the cache's, which traces it once more to read a plan."""
    plan(looped)
    count = len(compiled)
    calls = 0

    def fails_at_the_second_call(w: jax.Array, x: jax.Array) -> jax.Array:
        nonlocal calls
        calls += 1
        if calls > traces:
            raise ValueError("a fault of the user's")
        return looped(w, x)

    traces = 99
    plan(fails_at_the_second_call)
    assert len(compiled) == count
    traces, calls = calls - 1, 0
    with pytest.raises(ValueError, match="a fault of the user's"):
        plan(fails_at_the_second_call)
    assert calls == traces + 1


def test_actions_as_policies_are_not_taken_for_one_another() -> None:
    """Each is made a function, which may lie where the last one lay."""
    for action in (*jaxswap.Action, *jaxswap.Action):
        made = plan(policy=action)
        decided = [made.actions[v] for e in made.graph.equations for v in e.outputs]
        assert action in decided
        del made


def test_plans_that_were_not_compiled_are_not_kept(cache: Path) -> None:
    plan(compile=False)
    assert not cache.exists()


def test_what_does_not_fit_is_not_kept(cache: Path) -> None:
    with pytest.raises(jaxswap.BudgetError):
        plan(budget=19999, search_seconds=0.2)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_plan_on_disk_is_checked_against_the_host_budget() -> None:
    made = mixed_plan(compiled=COMPILED)
    with pytest.raises(jaxswap.HostMemoryError, match=r"host budget is 1\.00 MiB"):
        _request.Request(target="h100")._checked(
            dataclasses.replace(made, host_budget_bytes=MIB)
        )


def test_files_hold_no_program(cache: Path) -> None:
    made = plan()
    (file,) = cache.iterdir()
    assert "graph" not in json.loads(file.read_text())
    assert file.read_text() == decisions_to_json(made)


def test_keys_tell_every_part_apart() -> None:
    key = plan_cache.key_of(a=1, b={"c": None})
    assert key == plan_cache.key_of(b={"c": None}, a=1)
    others = [{"a": 2, "b": {"c": None}}, {"a": 1, "b": {"c": 0}}, {"a": 1}]
    assert key not in [plan_cache.key_of(**other) for other in others]
    assert key.isalnum()
