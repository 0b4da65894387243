"""Where a long task tells what it does."""

import pytest

from jaxswap._base.progress import progress_of


def test_lines_go_to_a_function_to_stderr_or_nowhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines: list[str] = []
    for progress in (lines.append, True, False):
        progress_of(progress)("here")
    assert lines == ["here"]
    assert capsys.readouterr() == ("", "jaxswap: here\n")
