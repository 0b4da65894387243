"""The benchmarks run, small, record what they measured, and show it."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import pytest

from benchmarks import device, gradients, harness, papers, plots, runner, tables
from benchmarks.__main__ import TIMED_OUT, main
from benchmarks.case import KEY, Case
from benchmarks.suites import SUITES, cases_of

ROOT = pathlib.Path(__file__).parent.parent.parent
ENVIRONMENT = {"device", "machine", "python", "commit", "jaxswap", "jax", "jaxlib"}
COMPILED = "argument_bytes output_bytes temp_bytes host_bytes device_bytes".split()
COMPILED += "copied_bytes exposed_bytes compile_seconds".split()
TIMED = "first_step_seconds median_seconds min_seconds max_seconds repeats loss".split()
TIMED += "gradient_norm temp_bytes host_bytes device_bytes compile_seconds".split()
NOT_NEEDED = ("nibabel", "grain", "nilearn", "matplotlib", "orbax", "tensorboardX")


def whole_rows(output: pathlib.Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    for row in rows:
        assert {"suite", *KEY, "environment"} <= set(row)
        assert set(row["environment"]) >= ENVIRONMENT
        assert "error" not in row, row
    return rows


def measured_here(
    case: Case, plain: dict[str, Any] | None, timeout_seconds: float, kernels: str
) -> dict[str, Any]:
    """Measure a case without the process of its own, which begins with imports."""
    del timeout_seconds, kernels
    asked = json.dumps({"case": dataclasses.asdict(case), "plain": plain})
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        runner.main([asked])
    return json.loads(written.getvalue().splitlines()[-1]) | {"wall_seconds": 0.0}


@pytest.mark.slow
def test_everything_is_compiled_small_and_once(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runner, "measure_alone", measured_here)
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path))
    output = tmp_path / "rows.jsonl"
    where = ["--backend", "compiled", "--output", str(output)]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert main([*where, "--tiny"]) == 0
    rows, text = whole_rows(output), output.read_text()
    expected = {
        case.key for case in cases_of(tuple(SUITES), "compiled", "h100", is_tiny=True)
    }
    assert {tuple(row[name] for name in KEY) for row in rows} == expected
    assert len(rows) == len(expected)
    for row in rows:
        if row["backend"] == "compiled" and row["method"] != "jaxswap":
            assert not set(COMPILED) - set(row)
    assert main([*where, "--tiny"]) == 0
    assert output.read_text() == text  # nothing was measured again
    capsys.readouterr()
    assert main([*where, "--table"]) == 0
    shown = capsys.readouterr().out
    assert "### unet3d-192-fp32, tiny: compiled for h100" in shown
    assert "seconds simulated, not timed" in shown
    assert "### Tracing, planning" in shown


@pytest.mark.slow
def test_a_method_of_each_kind_is_timed_on_this_machine(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "rows.jsonl"
    options = ["--backend", "device", "--tiny", "--output", str(output)]
    options += ["--workload", "mlp", "--workload", "copy-1MiB", "--method", "LMS"]
    options += ["--suite", "mlp", "--suite", "link", "--method", "to host"]
    assert main(options) == 0
    by_method = {row["method"]: row for row in whole_rows(output)}
    assert list(by_method) == ["plain", "LMS", "to host"]
    for name in ("plain", "LMS"):
        assert not set(TIMED) - set(by_method[name])
    assert by_method["LMS"]["gradient_difference"] < 1e-5
    assert by_method["LMS"]["loss"] == pytest.approx(by_method["plain"]["loss"])
    assert by_method["to host"]["bytes_per_second"] > 0


@pytest.mark.slow
def test_make_bench_gpu_goes_on_where_it_stopped(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "rows.jsonl"
    make = ["make", "bench-gpu", f"BENCH_PYTHON={sys.executable}"]
    make.append(f"BENCH=--tiny --suite mlp --output {output}")
    said = [
        subprocess.run(
            [*make, f"MINUTES={minutes}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for minutes in (0.001, 8)
    ]
    assert "time is up, 2 or more to go: run it again" in said[0]
    assert "time is up" not in said[1]
    assert [row["method"] for row in whole_rows(output)] == ["plain", "LMS"]


def test_time_that_is_up_is_an_exit_status(tmp_path: pathlib.Path) -> None:
    where = ["--tiny", "--suite", "mlp", "--output", str(tmp_path / "rows.jsonl")]
    assert main([*where, "--minutes", "0.001"]) == TIMED_OUT


def test_rows_with_an_earlier_name_of_a_method_stand_where_its_own_do() -> None:
    ranks = [
        tables._rank({"method": name, "budget": ""})
        for name in ("SwapEverything", "jaxswap.offload", "SwapHeavy", "jaxswap")
    ]
    assert ranks == sorted(ranks)
    assert ranks[1] == ranks[2]


def test_results_that_differ_from_plains_are_an_error() -> None:
    plain = {"loss": -0.5, "gradient_norm": 2.0}
    assert not device.difference(plain, plain, "unet3d-192-fp32")
    wrong = device.difference({"loss": -0.49}, plain, "unet3d-192-fp32")
    assert wrong == "loss is -0.49, plain's -0.5"
    assert not device.difference({"loss": -0.49}, plain, "unet3d-192-bf16")
    assert "finite" in device.difference({"loss": float("inf")}, plain, "mlp")


def test_a_gpu_needs_no_more_than_its_few_packages() -> None:
    modules = "__main__ device compiled link overhead runner session".split()
    source = f"import sys; {'; '.join(f'import benchmarks.{m}' for m in modules)}; "
    source += f"print({{m.split('.')[0] for m in sys.modules}} & {{*{NOT_NEEDED!r}}})"
    command = [sys.executable, "-c", source]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "set()"


def row_of(method: str, **more: Any) -> dict[str, Any]:
    case = {"suite": "unet3d", "workload": "unet3d-192-fp32", "method": method}
    case |= {"budget": "", "backend": "compiled", "target": "h100", "card": ""}
    case |= {"is_tiny": False, "environment": {"jax": "0.10.2", "device": "cpu"}}
    measured = dict.fromkeys(COMPILED, 2 << 30) | {"simulated_seconds": 0.1}
    return case | measured | {"copied_bytes": 0, "host_bytes": 0} | more


ROWS = [
    row_of("plain"),
    row_of("SwapEverything", copied_bytes=200, exposed_bytes=50, simulated_seconds=0.3),
    row_of("Imai2018", temp_bytes=1 << 30, copied_bytes=9, simulated_seconds=0.2),
    row_of("jaxswap", budget="16GB", copied_bytes=9, simulated_seconds=0.11),
    row_of("TFLMSv2", budget="16GB"),  # it had room enough not to swap
    row_of("TFLMSv2", budget="50%")
    | {"error": "does not fit", "smallest_bytes": 3 << 20},
]


def test_methods_are_compared_with_plain() -> None:
    shown = tables.tables([*ROWS, row_of("plain", simulated_seconds=0.2), {"old": 1}])
    title, _, head, rule, plain_row, imai, naive, *_ = shown.splitlines()
    assert title.endswith(
        ": compiled for h100 by JAX 0.10.2; seconds simulated, not timed"
    )
    assert {line.count("|") for line in (head, rule, plain_row, imai)} == {10}
    assert "| 2,048 | 1.00 |  |  | 200.00 | 1.00 |" in plain_row  # the newest
    assert "| 25% | 300.00 | 1.50 |" in naive
    assert "does not fit; the least found is 3 MiB" in shown


def test_budgets_are_in_their_order_whenever_they_were_measured() -> None:
    budgets = ("as checkpoint each block", "smallest", "33%", "16GB", "50%")
    shown = tables.tables(
        [row_of("plain"), *(row_of("jaxswap", budget=b) for b in budgets)]
    )
    found = [b for line in shown.splitlines() for b in budgets if f"| {b} |" in line]
    assert found == ["50%", "33%", "smallest", "as checkpoint each block", "16GB"]


def test_timed_rows_say_on_what() -> None:
    timed = {"backend": "device", "target": "", "card": "16GB", "median_seconds": 0.5}
    timed |= {"environment": {"jax": "0.10.2", "device": "H100", "driver": "570"}}
    shown = tables.tables([ROWS[0] | timed | {"peak_bytes": 5 << 20}])
    assert "timed on H100, limited to 16GB, JAX 0.10.2, driver 570" in shown
    assert "peak MiB | step ms, timed" in shown
    assert "| 5 | 500.00 | 1.00 |" in shown
    assert "simulated" not in shown


def test_profiles_have_a_table() -> None:
    times = {"compute_ms": 9.0, "stall_ms": 2.0, "idle_ms": 0.5, "backend": "profile"}
    copies = {"swap_out_ms": 4.0, "swap_out_hidden_ms": 3.0}
    copies |= {"swap_in_ms": 0.0, "swap_in_hidden_ms": 0.0}
    failed = row_of("jaxswap", error="RuntimeError: none", backend="profile", target="")
    shown = tables.tables([row_of("plain", **times, **copies, target=""), failed])
    assert "| plain |  | 9.0 | 2.0 | 0.5 | 4.0 | 75% | 0.0 |  |" in shown
    assert "| jaxswap |  | RuntimeError: none |" in shown


def test_the_papers_tables() -> None:
    plain = row_of("plain", workload="unet3d-320-fp32", device_bytes=17 * 10**9)
    shown = papers.tables([*ROWS, plain])
    cells = "not measured | 71, +0%, 2,048 | not measured | does not fit, 16,212"
    assert f"| plain | {cells}" in shown
    assert "| 192³, SwapEverything | 200.0 |  | 25% |" in shown
    assert "| 192³, Imai2018 | 100.0 | -50.0% |" in shown
    assert "| 192³, jaxswap | 10.0 | -95.0% |" in shown
    assert "| 192³, TFLMSv2" not in shown
    sizes = "| ≥ 192³ | ≥ 192³ | ≥ 320³ | ≥ 320³ | ≥ 320³ |"
    assert f"| largest volume, plain {sizes}" in shown


def test_a_picture_for_each_workload(tmp_path: pathlib.Path) -> None:
    (path,) = plots.plots(ROWS, tmp_path)
    assert path.name == "methods-compiled-unet3d-192-fp32-h100.png"
    assert path.stat().st_size > 10_000
    assert plots.points_of(ROWS)["jaxswap 16GB"] == (2.0, 110.0)
    assert not plots.plots([row | {"is_tiny": True} for row in ROWS], tmp_path)


def test_half_a_line_is_ended_before_the_next(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "rows.jsonl"
    output.write_text('{"a": ')
    harness.record({"b": 1, "environment": {}}, output)
    assert harness.rows_of(output) == [{"b": 1, "environment": {}}]


def test_random_gradients_are_recorded_once(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gradients.jsonl"
    row = gradients.try_chunk(1, 2)
    assert (row["first"], row["count"], row["failures"]) == (1, 2, [])
    failure = {"seed": 4, "kind": "GradientError", "program": "Program()"}
    rows = [row | {"first": 0}, row | {"first": 2, "failures": [failure]}]
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    gradients.main(["--count", "4", "--chunk", "2", "--output", str(output)])
    assert len(output.read_text().splitlines()) == 2
    gradients.main(["--table", "--output", str(output)])
    table = capsys.readouterr().out
    assert "| 4 | 1 | 0 |" in table
    assert "| 4 | GradientError | `Program()` |" in table
