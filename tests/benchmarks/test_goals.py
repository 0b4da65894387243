"""The table of goals has a line for each budget, whether a plan fits or not."""

import pytest

from benchmarks import goals


def test_each_budget_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    goals.main(["--tiny", "--program", "mlp"])
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines] == list(goals.SHARES)
    assert len({line.count(" | ") for line in (head, *lines)}) == 1
    assert set(rule) == {"|", "-"}
    assert "refused" in lines[-1]


def test_memory_of_plain_is_what_was_compiled_where_that_is_known() -> None:
    assert goals.recorded_bytes("mlp") == 1_946_157_260
    assert goals.recorded_bytes("unet3d-320-fp32") is None
