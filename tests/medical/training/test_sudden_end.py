"""What is said after a process has died."""

import subprocess
import sys

import pytest

from jaxswap.medical.training import sudden_end

# By its path, as importing the package would take most of the time.
PROGRAM = """
import os, runpy, signal, sys
told_at_sudden_end = runpy.run_path({path!r})["told_at_sudden_end"]

with told_at_sudden_end("all is lost"):
    {how}
"""


@pytest.mark.parametrize(
    ("how", "is_told"),
    [
        ("os.abort()", True),
        ("os.kill(os.getpid(), signal.SIGKILL)", True),
        ("os._exit(1)", True),
        ("sys.exit(2)", False),
        ("pass", False),
        ("raise ValueError('bad')", False),
    ],
)
def test_a_sudden_end_is_told_and_no_other(how: str, is_told: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=sudden_end.__file__, how=how)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert ("all is lost\n" in ended.stderr) is is_told
