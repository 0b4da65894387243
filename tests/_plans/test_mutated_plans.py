"""Whatever is changed in a saved file, reading it works or is refused by its name."""

import dataclasses
import json
from pathlib import Path

from handmade_plans import full_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_json import mutated

import jaxswap
from jaxswap._gpu.saved import load_target
from jaxswap._gpu.target import built_in_target
from jaxswap._graph.graph import Action
from jaxswap._plans.file import plan_to_json
from jaxswap.extend import rates_of

_FEW = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_H100 = built_in_target("h100")
_TARGET = dataclasses.asdict(dataclasses.replace(_H100, rates=rates_of(_H100)))


@_FEW
@given(content=mutated(json.loads(plan_to_json(full_plan()))))
def test_a_plan_with_one_change_is_read_or_refused(tmp_path: Path, content) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    try:
        plan = jaxswap.load_plan(path)
    except ValueError as error:
        _check_named(path, error)
    else:
        assert str(plan)


@_FEW
@given(
    letters=st.text(
        "".join(action.value[0] for action in Action),
        min_size=len(full_plan().actions),
        max_size=len(full_plan().actions),
    )
)
def test_a_plan_with_other_actions_is_read_or_refused(tmp_path: Path, letters) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan_to_json(full_plan()))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"actions": letters}))
    try:
        assert str(jaxswap.load_plan(path))
    except ValueError as error:
        _check_named(path, error)


@_FEW
@given(content=mutated({"format": "jaxswap target 3", "target": _TARGET}))
def test_a_target_with_one_change_is_read_or_refused(tmp_path: Path, content) -> None:
    path = tmp_path / "target.json"
    path.write_text(json.dumps(content))
    try:
        target = load_target(path)
    except ValueError as error:
        _check_named(path, error)
    else:
        assert target.to_text_proto()


def _check_named(path: Path, error: ValueError) -> None:
    assert str(path) in str(error)
