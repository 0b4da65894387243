"""Two processes never train in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import prepared, quiet

from jaxswap._cli.main import main
from jaxswap.medical.runs.claim import RunInUseError, claimed, require_unclaimed
from jaxswap.medical.training.training_run import train

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
"""A process that has claimed a folder, and holds it until it is killed."""


def test_the_second_one_is_told_who_trains_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    told = re.escape(f"{folder}: process {os.getpid()} on ")
    with claimed(folder):
        with pytest.raises(RunInUseError, match=told), claimed(folder):
            pass
        with pytest.raises(RunInUseError, match=told):
            require_unclaimed(folder)
        assert main(["train", str(tmp_path), "--out", str(folder)]) == 2
        assert "trains in this folder. Wait until it ends" in capsys.readouterr().err
    require_unclaimed(folder)


@pytest.mark.usefixtures("lenient_promotion")
def test_training_waits_for_nobody(tmp_path: Path) -> None:
    run = prepared(tmp_path, 1.0, steps=1)
    with claimed(run.folder.path), pytest.raises(RunInUseError):
        train(run, quiet())
    assert [path.name for path in run.folder.path.iterdir()] == [".claim"]


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path / ".claim")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunInUseError, match="another process trains"):
            require_unclaimed(tmp_path)
        other.kill()
        other.wait()
        with claimed(tmp_path):
            mine = (tmp_path / ".claim").read_text()
    assert mine.startswith(f"process {os.getpid()} on ")


def test_no_claim_is_no_obstacle(tmp_path: Path) -> None:
    require_unclaimed(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
