"""A resumed run takes over its plan, and learns first whether its state fits."""

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import prepared, quiet

import jaxswap
from jaxswap.medical.runs.checkpoints import CheckpointError
from jaxswap.medical.training.training_run import train

PLANNED: dict[str, Any] = {"steps": 1, "device_memory": "100MiB", "target": "h100"}

pytestmark = pytest.mark.usefixtures("own_folders", "lenient_promotion")


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Budgets of the plans that are made."""
    budgets, plan = [], jaxswap.plan

    def noted(*args: Any, **options: Any) -> jaxswap.Plan:
        budgets.append(options["budget"])
        return plan(*args, **options)

    monkeypatch.setattr(jaxswap, "plan", noted)
    return budgets


def test_the_recorded_plan_is_followed_as_long_as_it_fits(
    tmp_path: Path, planned: list[Any]
) -> None:
    first = prepared(tmp_path, 1.0, **PLANNED)
    train(first, quiet())
    again = prepared(tmp_path, 1.0, **PLANNED)
    assert planned == ["100MiB"]
    assert again.planned.plan is not None
    assert str(again.planned.plan) == str(first.planned.plan)
    train(again, quiet())  # There is nothing left to do.
    other: dict[str, Any] = PLANNED | {"device_memory": "99MiB"}
    more = prepared(tmp_path, 1.0, **other)
    assert planned == ["100MiB", "99MiB"]
    assert more.planned.plan is not None
    prepared(tmp_path, 1.0, **PLANNED, dropout=0.0)  # Another program.
    assert planned == ["100MiB", "99MiB", "100MiB"]
    path = first.folder.path / "plan.json"
    path.write_text(path.read_text()[:100])
    prepared(tmp_path, 1.0, **PLANNED)
    assert len(planned) == 4
    with pytest.raises(CheckpointError, match="has no optimizer_state/"):
        prepared(tmp_path, 1.0, **PLANNED, optimizer="sgd")
    assert len(planned) == 4  # What does not fit is told before the search.
