"""The benchmarks run, small, and record what they measured."""

import json
import pathlib

import pytest

from benchmarks import gradients, unet3d


def run(output: pathlib.Path, *arguments: str) -> list[dict[str, object]]:
    unet3d.main(["--tiny", "--output", str(output), *arguments])
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.mark.slow
def test_each_method_is_compiled_for_the_target(tmp_path: pathlib.Path) -> None:
    rows = run(tmp_path / "rows.jsonl", "--target", "a100-40")
    assert [row["method"] for row in rows] == list(unet3d.methods(unet3d.TINY))
    assert {row["target"] for row in rows} == {"a100-40"}
    assert all(isinstance(row["temp_bytes"], int) for row in rows)


@pytest.mark.slow
def test_a_method_is_timed_on_this_machine(tmp_path: pathlib.Path) -> None:
    method = "jaxswap.offload"
    options = ("--device", "--method", method, "--repeats", "1")
    (row,) = run(tmp_path / "rows.jsonl", *options)
    assert row["method"] == method
    assert row["backend"] == "device"
    assert isinstance(row["median_seconds"], float)
    assert row["environment"]


@pytest.mark.slow
def test_a_wrong_gradient_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet3d, "gradient_error", lambda *_: float("nan"))
    with pytest.raises(ValueError, match="gradient of `plain` is off"):
        unet3d.run("plain", 16, 1, unet3d.TINY)


def test_table_shows_the_newest_row_of_each_kind(tmp_path: pathlib.Path) -> None:
    row = {"backend": "compiled", "target": "h100", "size": 192, "method": "plain"}
    row |= {"temp_bytes": 3 << 20, "host_bytes": 0, "exposed_bytes": 0}
    output = tmp_path / "rows.jsonl"
    output.write_text(
        "".join(json.dumps(r) + "\n" for r in (row, row | {"size": 8}, row))
    )
    head, line, *body = unet3d.table(output).splitlines()
    assert len(body) == 2
    assert all(text.count("|") == head.count("|") for text in (line, *body))
    assert "| h100, temporaries | 192³ | plain | 3 |" in body[0]


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
