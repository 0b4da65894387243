"""Plans are made once, for what a device follows, and found again."""

import dataclasses
import pathlib
from typing import Any

import pytest

import jaxswap
from benchmarks import compiled, plan_files
from benchmarks.case import Case

HALF = Case("mlp", "mlp", "jaxswap", "50%", "device", "", is_tiny=True)
CARD = dataclasses.replace(HALF, budget="16GB", card="16GB")
PLAIN = dataclasses.replace(HALF, method="plain", budget="")


@pytest.fixture
def asked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Plans are not searched for; what is asked of the planner is noted."""
    monkeypatch.setattr(plan_files, "PLANS", tmp_path / "plans")
    monkeypatch.setattr(compiled, "measure", lambda case: {"device_bytes": 4000})
    asked: list[Any] = []
    make = jaxswap.plan

    def plan(loss: Any, *args: Any, budget: Any, target: str, **_: Any) -> Any:
        asked.append((budget, target))
        return make(loss, *args, target=target, compile=False, progress=False)

    monkeypatch.setattr(jaxswap, "plan", plan)
    return asked


def test_plans_are_made_once(asked: list[Any]) -> None:
    cases = [PLAIN, HALF, HALF, CARD]
    assert plan_files.make(cases, "h200") == 0
    assert asked == [(2000, "h200"), (16 * 10**9, "h200")]
    found = plan_files.find(HALF)
    assert found is not None
    assert found.target.name == "h200"
    assert plan_files.make(cases, "h200") == 0
    assert len(asked) == 2


def test_a_plan_of_another_format_is_made_anew(asked: list[Any]) -> None:
    plan_files.PLANS.mkdir()
    plan_files.path_of(HALF).write_text('{"format": 1}')
    assert plan_files.make([HALF], "h200") == 0
    assert len(asked) == 1
    assert plan_files.find(HALF) is not None


def test_plans_that_there_is_no_time_for_are_left(asked: list[Any]) -> None:
    assert plan_files.make([HALF, CARD], "h200", until=0.0) == 2
    assert asked == []
    assert plan_files.find(HALF) is None


def test_each_budget_has_a_file() -> None:
    names = {plan_files.path_of(case).name for case in (HALF, CARD)}
    assert names == {"tiny-mlp-jaxswap-50.json", "tiny-mlp-jaxswap-16gb.json"}


def test_a_budget_that_nothing_fits_is_said(
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def plan(*_: Any, **__: Any) -> Any:
        raise jaxswap.BudgetError(2000, 3000, [], is_compiled=True)

    monkeypatch.setattr(jaxswap, "plan", plan)
    assert plan_files.make([HALF], "h200") == 0
    assert "the least found is 3000 bytes" in capsys.readouterr().err
    assert asked == []
