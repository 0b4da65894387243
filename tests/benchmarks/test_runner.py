"""Cases are measured once, alone, in time, and largest sizes found by few of them."""

import dataclasses
import pathlib
import subprocess
import time
from typing import Any

import pytest

from benchmarks import compiled, harness, largest, runner
from benchmarks.__main__ import main
from benchmarks.case import Case, budget_bytes, card_bytes
from benchmarks.suites import ORDER, SUITES, WORKLOADS, cases_of

MLP = Case("mlp", "mlp", "plain", is_tiny=True)


def measured_by(
    monkeypatch: pytest.MonkeyPatch, row: dict[str, Any] | None = None
) -> list[Case]:
    """Stand in for measuring; return the list of what is asked for."""
    asked: list[Case] = []

    def measure_alone(
        case: Case, plain: Any, timeout: float, kernels: str
    ) -> dict[str, Any]:
        del plain, timeout
        asked.append(case)
        return {"device_bytes": 1, "environment": {}} | (row or {})

    monkeypatch.setattr(runner, "measure_alone", measure_alone)
    return asked


def test_what_was_measured_is_not_measured_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, output = measured_by(monkeypatch), tmp_path / "rows.jsonl"
    other = dataclasses.replace(MLP, method="LMS")
    assert runner.run([MLP, MLP], output) == []
    output.write_text(output.read_text() + '{"half a li')  # killed while it wrote
    assert runner.run([MLP, other], output) == []
    assert asked == [MLP, other]
    assert [row["method"] for row in harness.rows_of(output)] == ["plain", "LMS"]


def test_a_suite_shares_the_measurements_of_another(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, output = measured_by(monkeypatch), tmp_path / "rows.jsonl"
    runner.run([MLP, dataclasses.replace(MLP, suite="papers")], output)
    assert asked == [MLP]


TIMED_PLAIN = dataclasses.replace(MLP, backend="device", target="")
TIMED_LMS = dataclasses.replace(TIMED_PLAIN, method="LMS")
COPY = Case("link", "copy-1MiB", "to host", "", "link", "", is_tiny=True)


def test_what_is_timed_shares_a_process() -> None:
    profile = dataclasses.replace(TIMED_LMS, backend="profile")
    other = dataclasses.replace(TIMED_PLAIN, workload="resnet50-512")
    card = dataclasses.replace(TIMED_PLAIN, card="16GB")
    copies = [COPY, dataclasses.replace(COPY, workload="copy-2MiB")]
    timed = [[TIMED_PLAIN, TIMED_LMS, profile], [other], [card], copies]
    alone = [[MLP], [dataclasses.replace(MLP, method="LMS")]]
    flat = [case for group in [*timed, *alone] for case in group]
    assert runner.groups(flat) == [*timed, *alone]


def test_a_process_that_fails_costs_one_row(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, tried = tmp_path / "rows.jsonl", []

    def start_session(cases: list[Case], *_: Any) -> str | None:
        tried.append([case.method for case in cases])
        if cases[0] == TIMED_PLAIN:
            return "aborted, signal 6"
        now = {"environment": {"commit": harness.surroundings()["commit"]}}
        harness.record(dataclasses.asdict(cases[0]) | now, output)
        return None

    monkeypatch.setattr(runner, "start_session", start_session)
    assert runner.run([TIMED_PLAIN, TIMED_LMS], output) == []
    assert tried == [["plain", "LMS"], ["LMS"]]
    errors = [row.get("error") for row in harness.rows_of(output)]
    assert errors == ["aborted, signal 6", None]


def test_a_session_that_aborts_says_why(tmp_path: pathlib.Path) -> None:
    broken = dataclasses.replace(COPY, workload="copy-xMiB")
    later = time.monotonic() + 600
    assert runner.start_session([broken], tmp_path / "rows.jsonl", later) is None
    (row,) = harness.rows_of(tmp_path / "rows.jsonl")
    assert row["error"].startswith("ValueError: invalid literal")
    unknown = dataclasses.replace(TIMED_PLAIN, workload="magic")
    why = runner.start_session([unknown], tmp_path / "rows.jsonl", later)
    assert why is not None
    assert why.startswith("exit status 1: ValueError: the workload is 'magic'")


@pytest.mark.parametrize(
    ("change", "is_left"),
    [
        ({}, False),
        ({"environment": {"commit": "another"}}, True),
        ({"compiling_beside": 1}, True),
    ],
)
def test_timed_rows_count_for_the_same_code(
    tmp_path: pathlib.Path, change: dict[str, Any], is_left: bool
) -> None:
    output = tmp_path / "rows.jsonl"
    row = {"environment": {"commit": harness.surroundings()["commit"]}}
    harness.record(dataclasses.asdict(TIMED_PLAIN) | row | change, output)
    assert bool(runner.missing([TIMED_PLAIN], output)) == is_left


def test_a_group_is_not_begun_without_time(tmp_path: pathlib.Path) -> None:
    soon = time.monotonic() + 1
    cases = [TIMED_PLAIN, TIMED_LMS]
    assert runner.run(cases, tmp_path / "rows.jsonl", until=soon) == cases


def test_measuring_stops_in_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows.jsonl"
    asked = measured_by(monkeypatch, {"error": "slow", "timeout_seconds": 60.0})
    soon = time.monotonic() + 1
    assert runner.run([MLP], output, until=soon) == [MLP]
    assert asked == []  # there was no point in beginning
    later = time.monotonic() + 60
    assert runner.run([MLP], output, until=later, timeout_seconds=300) == [MLP]
    assert asked == [MLP]
    assert not output.exists()  # cut short: not its own fault
    assert runner.run([MLP], output, until=later + 600, timeout_seconds=60) == []
    assert harness.rows_of(output)[0]["error"] == "slow"


def test_a_failure_of_ours_is_not_recorded(tmp_path: pathlib.Path) -> None:
    case = dataclasses.replace(MLP, target="unknown")
    with pytest.raises(RuntimeError, match="'unknown', which is not a known GPU"):
        runner.run([case], tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_plans_made_earlier_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", "remembered")
    used: list[str] = []

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        used.append(env["JAXSWAP_CACHE_DIR"])
        assert not list(pathlib.Path(used[-1]).iterdir())
        return subprocess.CompletedProcess(command, 0, "{}", "")

    monkeypatch.setattr(runner.subprocess, "run", run)
    runner.measure_alone(MLP, None, 10)
    runner.measure_alone(MLP, None, 10)
    assert len({"remembered", *used}) == 3


def test_a_process_that_takes_too_long_is_recorded() -> None:
    row = runner.measure_alone(MLP, None, 0.01)
    assert row["error"] == "took longer than 0 s"
    assert row["timeout_seconds"] == 0.01


def test_a_case_is_told_what_plain_and_other_methods_needed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows.jsonl"
    told: list[Any] = []

    def measure_alone(
        case: Case, plain: Any, timeout: float, kernels: str
    ) -> dict[str, Any]:
        del timeout
        told.append(plain and plain["bytes_of"])
        return {"device_bytes": 400 if case.method == "plain" else 300}

    monkeypatch.setattr(runner, "measure_alone", measure_alone)
    other = dataclasses.replace(MLP, workload="resnet50-512")
    methods = [dataclasses.replace(MLP, method=name) for name in ("LMS", "jaxswap")]
    budget = dataclasses.replace(methods[1], budget="50%")
    assert not runner.run([MLP, other, methods[0], budget, methods[1]], output)
    of_both = {"plain": 400, "LMS": 300}
    assert told == [None, None, {"plain": 400}, of_both, of_both]


def test_budgets_are_shares_of_plain_or_cards() -> None:
    assert budget_bytes("25%", {"device_bytes": 400}) == 100
    assert budget_bytes("16GB", None) == 16 * 10**9
    assert budget_bytes("smallest", None) == "smallest"
    assert budget_bytes("", None) is None
    with pytest.raises(ValueError, match="measure plain first"):
        budget_bytes("50%", None)
    measured = {"device_bytes": 400, "bytes_of": {"LMS": 300}}
    assert budget_bytes("as LMS", measured) == 300
    with pytest.raises(ValueError, match="'as magic': measure that method first"):
        budget_bytes("as magic", measured)
    with pytest.raises(ValueError, match="the card is '16GiB'; write it like '16GB'"):
        card_bytes("16GiB")


def test_every_suite_has_cases_on_its_backends_plain_first() -> None:
    assert {suite for suite, _ in ORDER} == set(SUITES) - {"planner"}
    assert set(ORDER) >= {(s, w) for s, names in WORKLOADS.items() for w in names}
    for suite, backends in SUITES.items():
        for backend in ("compiled", "device"):
            for is_tiny in (False, True):
                cases = list(cases_of([suite], backend, "h100", is_tiny=is_tiny))
                assert bool(cases) == (backend in backends and suite != "planner")
                plain: set[str] = set()
                for case in cases:
                    assert case.is_tiny == is_tiny
                    if case.method == "plain":
                        plain.add(case.workload)
                    assert not case.budget.endswith("%") or case.workload in plain


def linear(
    monkeypatch: pytest.MonkeyPatch, per_voxel: dict[str, float]
) -> dict[Any, int]:
    """Stand in for compiling with bytes that are linear in voxels."""
    count: dict[Any, int] = {}

    def measure_alone(
        case: Case, plain: Any, timeout: float, kernels: str
    ) -> dict[str, Any]:
        del plain, timeout
        words = case.workload.split("-")
        voxels = int(words[1]) ** 3
        voxels *= int(words[3].removeprefix("batch")) if len(words) > 3 else 1
        needs = round(1e8 + per_voxel[case.method] * voxels)
        key = (case.method, len(words) > 3)
        count[key] = count.get(key, 0) + 1
        row: dict[str, Any] = {"environment": {}}
        if case.budget and needs > card_bytes(case.budget):
            return row | {"error": "does not fit", "smallest_bytes": needs}
        used = card_bytes(case.budget) if case.budget else needs
        return row | {"device_bytes": used, "simulated_seconds": 1.0}

    monkeypatch.setattr(runner, "measure_alone", measure_alone)
    return count


def test_largest_sizes_are_measured_and_so_is_the_next(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_voxel = dict.fromkeys(largest.SEARCHED, 1000.0) | {"jaxswap": 200.0}
    count, output = linear(monkeypatch, per_voxel), tmp_path / "rows.jsonl"
    assert largest.search("compiled", "h100", output) == 0
    rows = harness.rows_of(output)
    for question in largest.questions("compiled", "h100"):
        found = largest.known(question, rows)
        assert found.is_settled, question
        limit, most = card_bytes(question.card), per_voxel[question.method]
        assert 1e8 + most * question.voxels(found.low) <= limit
        assert 1e8 + most * question.voxels(found.low + 1) > limit
    # Two for each of five cards, and what was estimated before a line was known.
    assert max(count.values()) <= 30
    assert count["plain", False] <= 13


def test_a_search_ends_where_a_measurement_was_given_up(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"error": "took longer than 300 s", "timeout_seconds": 300.0}
    asked = measured_by(monkeypatch, row)
    assert largest.search("compiled", "h100", tmp_path / "rows.jsonl") == 0
    unplanned = len(largest.SEARCHED) - 1
    assert len(asked) == len(largest.KINDS) * (unplanned + len(largest.CARDS))
    found = largest.known(
        next(largest.questions("compiled", "h100")),
        harness.rows_of(tmp_path / "rows.jsonl"),
    )
    assert (found.low, found.high, found.is_settled) == (0, None, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--suite nothing", "argument --suite: invalid choice: 'nothing'"),
        ("--suite link", "suite link needs --backend device."),
        ("--suite planner --backend device", "suite planner needs --backend compiled."),
        ("--target h101", "`target` is 'h101', which is not a known GPU; choose one"),
        ("--method magic", "the method is 'magic'; choose of plain"),
        ("--workload magic", "the workload is 'magic'; choose one of mlp"),
        ("--suite overhead --workload mlp --method LMS --minutes 0", "--minutes is 0"),
        ("--timeout -1", "--timeout is -1; it must be above 0."),
        ("--backend device --target h100", "--target is of --backend compiled"),
        ("--table --output missing.jsonl", "there are no results in missing.jsonl."),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"benchmarks: {message}")


def test_a_device_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "graphics_card", lambda: None)
    with pytest.raises(SystemExit):
        main(["--backend", "device"])
    assert "there is no NVIDIA GPU; --tiny tries" in capsys.readouterr().err


def test_what_does_not_fit_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_COMPILES", 1)
    case = dataclasses.replace(MLP, method="jaxswap", budget="1%")
    row = compiled.measure(case, {"device_bytes": 4000})
    assert row["error"] == "does not fit"
    assert row["smallest_bytes"] > row["budget_bytes"] == 40
