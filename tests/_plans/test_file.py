"""Plans in files: what is written is read, and what is no plan is refused."""

import concurrent.futures
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from handmade import chain, results_of
from handmade_plans import (
    body,
    busy,
    empty_plan,
    full_plan,
    mixed_plan,
    plan_of,
)

import jaxswap
from jaxswap import Plan
from jaxswap._graph.graph import Action, Graph, alike
from jaxswap._plans.file import decisions_of, decisions_to_json, plan_to_json


def odd_plan() -> Plan:
    """Types that NumPy does not know, a value without one, names and scopes."""
    graph = busy(chain(2))
    dot, tanh = results_of(graph, "dot")[0], results_of(graph, "tanh")[0]
    changes: dict[int, dict[str, Any]] = {
        dot: {"dtype": np.dtype(ml_dtypes.bfloat16), "name": "kept", "scope": "a/b"},
        tanh: {"dtype": np.dtype(ml_dtypes.float8_e4m3fn), "source": "net.py:3 (f)"},
        graph.arguments[1]: {"dtype": None, "nbytes": 0, "shape": ()},
    }
    values = [dataclasses.replace(v, **changes.get(v.index, {})) for v in graph.values]
    equations = [
        dataclasses.replace(
            eqn, tile_flops=1.5, inner_bytes=2.5, is_known=False, trip_count=3
        )
        for eqn in graph.equations
    ]
    equations[0] = dataclasses.replace(equations[0], body=body())
    graph = dataclasses.replace(graph, values=tuple(values), equations=tuple(equations))
    return plan_of(graph, {dot: Action.OFFLOAD})


PLANS = {"full": full_plan, "odd": odd_plan, "empty": empty_plan}


def assert_same(actual: Plan, expected: Plan) -> None:
    for field in dataclasses.fields(Plan):
        a, e = getattr(actual, field.name), getattr(expected, field.name)
        assert a == e, field.name
        assert type(a) is type(e), field.name
    for a, e in ((actual.timeline, expected.timeline), (actual.plain, expected.plain)):
        for field in dataclasses.fields(a):
            left, right = getattr(a, field.name), getattr(e, field.name)
            assert (
                np.array_equal(left, right)
                if isinstance(left, np.ndarray)
                else left == right
            ), field.name
    assert actual.draft.schedule == expected.draft.schedule


@pytest.mark.parametrize("make", PLANS.values(), ids=PLANS)
def test_a_plan_that_was_saved_is_loaded_exactly(
    tmp_path: Path, make: Callable[[], Plan]
) -> None:
    plan = make()
    path = plan.save(tmp_path / "plan.json")
    assert path == tmp_path / "plan.json"
    loaded = jaxswap.load_plan(path)
    assert_same(loaded, plan)
    assert loaded.summary() == plan.summary()
    assert str(loaded) == str(plan)
    assert [v.dtype for v in loaded.graph.values] == [
        v.dtype for v in plan.graph.values
    ]


def test_every_field_of_the_full_plan_differs_from_its_default() -> None:
    plan = full_plan()
    for field in dataclasses.fields(Plan):
        assert getattr(plan, field.name) != field.default, field.name


def test_text_paths_are_paths_too(tmp_path: Path) -> None:
    path = mixed_plan().save(str(tmp_path / "plan.json"))
    assert jaxswap.load_plan(str(path)).graph == mixed_plan().graph


def test_an_edited_plan_can_be_saved(tmp_path: Path) -> None:
    plan = mixed_plan(budget_bytes=1 << 40)
    edited = plan.with_action(results_of(plan.graph, "tanh")[3], jaxswap.OFFLOAD)
    assert_same(jaxswap.load_plan(edited.save(tmp_path / "plan.json")), edited)


def test_without_its_graph_a_plan_is_read_with_it() -> None:
    plan = full_plan()
    text = decisions_to_json(plan)
    assert "graph" not in json.loads(text)
    assert len(text) < len(plan_to_json(plan)) / 2

    found = decisions_of(json.loads(text))
    loops = tuple(
        dataclasses.replace(loop, segments=found.decide_loop(loop.graph))
        for loop in plan.graph.loops
    )
    assert plan.graph.loops
    graph = dataclasses.replace(plan.graph, loops=loops)
    assert_same(found.plan(graph, plan.plain_graph), plan)


def test_loops_that_are_not_known_are_kept_and_their_program_refused() -> None:
    plan = full_plan()
    found = decisions_of(json.loads(decisions_to_json(plan)))
    body = plan.graph.loops[0].graph
    other = dataclasses.replace(body, trip_count=body.trip_count + 1)
    kept = found.decide_loop(other)
    assert kept == alike(other, [jaxswap.KEEP] * len(other.values))
    loops = (dataclasses.replace(plan.graph.loops[0], graph=other, segments=kept),)
    with pytest.raises(ValueError, match="not the one that the plan was made for"):
        found.plan(dataclasses.replace(plan.graph, loops=loops), plan.plain_graph)


def test_targets_are_checked(tmp_path: Path) -> None:
    """As those that `calibrate` saved are."""
    content = json.loads(plan_to_json(mixed_plan()))
    content["target"]["core_count"] = "many"
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"`target\.core_count` is 'many'"):
        jaxswap.load_plan(path)


def test_threads_that_write_one_plan_do_not_meet(tmp_path: Path) -> None:
    plans = [mixed_plan(budget_bytes=1 << i) for i in range(20, 28)]
    path = tmp_path / "plan.json"

    def save(plan: Plan) -> None:
        for _ in range(20):
            plan.save(path)
            assert jaxswap.load_plan(path).budget_bytes

    with concurrent.futures.ThreadPoolExecutor(len(plans)) as pool:
        list(pool.map(save, plans))
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def stored() -> dict[str, Any]:
    return json.loads(plan_to_json(full_plan()))


def without(name: str) -> str:
    fields = stored()
    del fields[name]
    return json.dumps(fields)


def changed(**changes: Any) -> str:
    return json.dumps(stored() | changes)


BROKEN = {
    "nothing": "",
    "no JSON": "a plan",
    "a list": "[1, 2]",
    "a number": "3",
    "null": "null",
    "another object": "{}",
    "other format": changed(format=1),
    "format in words": changed(format="1"),
    "unknown field": changed(colour="red"),
    "unknown action": changed(actions="kox"),
    "actions of a number": changed(actions=3),
    "swaps of a number": changed(swaps=3),
    "target of text": changed(target="h100"),
    "signature of nothing": changed(signature=None),
    "compiled of too little": changed(compiled={}),
    "graph of nothing": changed(graph=None),
    "nested without end": "[" * 100_000,
    "a rate that is none": changed(
        target=stored()["target"] | {"clock_hertz": float("nan")}
    ),
    "staleness of texts": changed(staleness=["1", "2"]),
    "bytes of a fraction": changed(reserve_bytes=0.5),
    "fewer bytes than none": changed(in_place_bytes=-1),
    "graph of rows too short": changed(graph=stored()["graph"] | {"values": [[1]]}),
}
for _name in ("format", "graph", "target", "actions", "swaps", "signature"):
    BROKEN[f"no {_name}"] = without(_name)
for _share in (0.1, 0.5, 0.9):
    _text = plan_to_json(full_plan())
    BROKEN[f"cut at {_share}"] = _text[: int(_share * len(_text))]
BROKEN["cut at the last brace"] = plan_to_json(full_plan())[:-1]


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_plan_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.json") as caught:
        jaxswap.load_plan(path)
    assert str(path) in str(caught.value)


def test_a_plan_of_another_format_says_which_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(changed(format=99))
    with pytest.raises(ValueError, match="not a plan of format 11"):
        jaxswap.load_plan(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"plan\.json"):
        jaxswap.load_plan(path)


def swapped(**changes: Any) -> dict[str, Any]:
    """Return the plan's swap with some fields changed."""
    return {"swaps": [stored()["swaps"][0] | changes]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"actions": "k"}, "has 1 actions for"),
        (swapped(value=10**6), "swaps value 1000000, which is not there"),
        (swapped(made=-1), r"`swaps\[0\]` has the entry -1, which is not there"),
        (swapped(free_at=10**6), "has the entry 1000000"),
        (swapped(returns=[]), r"`swaps\[0\]` never ends"),
        (swapped(returns=[{"gate": None, "use": 999, "done_at": None}]), "entry 999"),
        ({"staleness": [-1, -1]}, r"`staleness` is \[-1, -1\]; it needs 1 or more"),
        ({"staleness": [2, -1]}, "it needs 1 or more operations, and bytes"),
        ({"staleness": [0, 1]}, "it needs 1 or more operations, and bytes"),
    ],
)
def test_a_plan_that_does_not_fit_its_graph_is_refused(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(changed(**changes))
    with pytest.raises(ValueError, match=rf"plan\.json is not a plan: .*{why}"):
        jaxswap.load_plan(path)


def test_a_plan_that_cannot_be_simulated_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = full_plan().save(tmp_path / "plan.json")

    def fail(plan: Plan) -> None:
        raise KeyError(7)

    monkeypatch.setattr(Plan, "draft", property(fail))
    with pytest.raises(ValueError, match=r"plan\.json .* cannot be carried out \(Key"):
        jaxswap.load_plan(path)


def test_a_graph_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    """The signature is the plan's promise of what program its actions are for."""
    graph = stored()["graph"]
    graph["equations"] = graph["equations"][:-1]
    path = tmp_path / "plan.json"
    path.write_text(changed(graph=graph))
    with pytest.raises(ValueError, match=r"plan\.json"):
        jaxswap.load_plan(path)


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        jaxswap.load_plan(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        mixed_plan().save(tmp_path / "gone" / "plan.json")
    assert not list(tmp_path.iterdir())


def fail(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def half_write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    ("method", "broken", "error"),
    [
        ("replace", fail, KeyboardInterrupt),
        ("write_bytes", fail, KeyboardInterrupt),
        ("write_bytes", half_write, OSError),
    ],
)
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    broken: Callable[..., None],
    error: type[BaseException],
) -> None:
    path = mixed_plan().save(tmp_path / "plan.json")
    old = path.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Path, method, broken)
        with pytest.raises(error):
            full_plan().save(path)
    assert path.read_text() == old
    assert list(tmp_path.iterdir()) == [path]
    full_plan().save(path)
    assert_same(jaxswap.load_plan(path), full_plan())


def test_graphs_are_equal_only_if_nothing_differs() -> None:
    """That the comparison above can fail."""
    plan = full_plan()
    values = list(plan.graph.values)
    values[3] = dataclasses.replace(values[3], scope="elsewhere")
    other: Graph = dataclasses.replace(plan.graph, values=tuple(values))
    with pytest.raises(AssertionError, match="graph"):
        assert_same(dataclasses.replace(plan, graph=other), plan)
