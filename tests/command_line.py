"""The command, called as from a shell, and what it says."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jaxswap._cli.main import main
from jaxswap._gpu.saved import save_target
from jaxswap._gpu.target import built_in_target

Capture = pytest.CaptureFixture[str]
PLAN = ["plan", "programs:tiny", "--target", "h100", "--no-compile", "--quiet"]


def run(*words: str) -> int:
    return main(list(words))


def refused(capsys: Capture, *words: str) -> str:
    """The one line that a command with bad input writes."""
    assert run(*words) == 2
    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert line.startswith("jaxswap: ")
    return line


def save_mine(**changes: Any) -> Path:
    """Save a GPU named `mine`; return its file."""
    return save_target(
        dataclasses.replace(built_in_target("h100"), name="mine", **changes)
    )
