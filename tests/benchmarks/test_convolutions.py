"""The benchmark of single convolutions: its cases, its limits, its two ways to run."""

import json
import pathlib

import pytest

import jaxswap
from benchmarks import convolutions
from benchmarks.convolutions import PASSES, WITH_MOMENTS, Case, cases, table, timed

H200 = jaxswap.find_target("h200")
FINEST = Case("convolve", 192, (16, 16), "bfloat16", "forward", "plain")


def test_what_is_asked_most_comes_first() -> None:
    found = cases(H200)
    assert found[0] == FINEST
    assert {case.pass_name for case in found[:20]} == {*PASSES, WITH_MOMENTS}
    assert len(set(found)) == len(found)


def test_limits_are_those_of_bytes_and_operations() -> None:
    limits = FINEST.limits(H200)
    # 2 x 216 MiB at 4.8 TB/s; 2 x 27 x 16 x 16 operations for each of 192^3 voxels.
    assert limits["bytes_seconds"] == pytest.approx(2 * 216 * 2**20 / 4.8e12, rel=1e-3)
    flops = 2 * 27 * 16 * 16 * 192**3
    assert limits["operations_seconds"] == pytest.approx(flops / 989e12, rel=1e-2)


@pytest.mark.parametrize("pass_name", [*PASSES, WITH_MOMENTS])
def test_rows_say_how_far_a_form_is_from_the_plain_one(pass_name: str) -> None:
    made = [case for case in cases(H200, 48) if case.pass_name == pass_name][:2]
    rows = list(timed(made, H200, 600))
    assert [row["form"] for row in rows] == ["plain", "reshaped2"]
    assert rows[0]["relative_error"] == 0 < rows[1]["median_seconds"]
    assert rows[1]["relative_error"] < 0.01
    shown = table(rows)
    assert "convolve 16 -> 16, 4^3, bfloat16" in shown
    assert "| 1.00 |" in shown


def test_nothing_is_timed_once_time_is_up() -> None:
    assert list(timed(cases(H200, 48)[:1], H200, 0)) == []


def test_for_an_absent_gpu_all_is_compiled(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "CONVOLUTIONS", convolutions.CONVOLUTIONS[3:4])
    output = tmp_path / "rows.jsonl"
    words = ["--target", "h200", "--scale", "8", "--output", str(output)]
    convolutions.main(words)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    forms = [(row["pass_name"], row["form"]) for row in rows]
    assert forms == [(p, f) for p in PASSES for f in ("plain", "paired")]
    assert "| – | – |" in table(rows)
