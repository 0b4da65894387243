"""`jaxswap train` in several processes on one machine, over loopback."""

import csv
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
import tiny_datasets
import tiny_networks
import yaml

from jaxswap._cli.main import main

pytestmark = pytest.mark.slow

STEPS = 12
SETTINGS = {
    "folds": 2,
    "network_options": {"base_filters": 2, "depth": 2, "segmentation_levels": 1},
    "precision": "float32",
    "steps": STEPS,
    "validate_every": 6,
    "checkpoint_every": 1000,
    "average_decay": 0.9,
    "final_validation": False,
    "batch": 4,
    "shape": [16, 16, 10],
}
OFTEN = ("--set", "checkpoint_every=1")
"""For runs that are killed."""
ENDED = "one process of the run died, so this one has ended"
_FORCED = "--xla_force_host_platform_device_count"


@dataclass(frozen=True)
class Ended:
    """A process that is over, and how it went."""

    code: int
    out: str
    error: str


@pytest.fixture(autouse=True)
def _lenient(data: pathlib.Path, monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setenv("JAXSWAP_HOME", str(data.parent / "cache"))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> pathlib.Path:
    names = [f"BraTS2021_{number:05d}" for number in range(6)]
    folder = tmp_path_factory.mktemp("data")
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tiny_datasets.brats(folder / "set", names)


@pytest.fixture
def words(data: pathlib.Path, tmp_path: pathlib.Path) -> list[str]:
    config = data.parent / "config.yaml"
    return ["train", str(data), "--out", str(tmp_path / "run"), "--config", str(config)]


@pytest.fixture(scope="module")
def alone(data: pathlib.Path, tmp_path_factory: Any) -> pathlib.Path:
    """The same run on one device, without interruption."""
    run = tmp_path_factory.mktemp("alone") / "run"
    config = data.parent / "config.yaml"
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("JAXSWAP_HOME", str(data.parent / "cache"))
        words = ["train", str(data), "--out", str(run), "--config", str(config)]
        assert main(words) == 0
    return run


def column(table: pathlib.Path, name: str) -> list[float]:
    if not table.exists():
        return []
    with table.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def losses(run: pathlib.Path) -> list[float]:
    return column(run / "metrics.csv", "loss")


def assert_like_alone(run: pathlib.Path, alone: pathlib.Path) -> None:
    assert len(losses(run)) == STEPS
    np.testing.assert_allclose(losses(run), losses(alone), rtol=2e-5)
    region = "whole tumour"
    ours, theirs = (
        column(folder / "validation.csv", region) for folder in (run, alone)
    )
    assert len(ours) == 2
    np.testing.assert_allclose(ours, theirs, atol=5e-3)


@contextmanager
def started(
    words: Sequence[str], count: int, devices: int = 1, **seconds: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Starts the processes of a run, and ends those that are left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [*words, "--coordinator", f"127.0.0.1:{port}", "--processes", str(count)]
    given += ["--heartbeat-seconds", str(seconds.get("heartbeat", 20))]
    given += ["--joining-seconds", str(seconds.get("joining", 300))]
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {_FORCED}={devices}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(pathlib.Path(tiny_networks.__file__).parent),
    }
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jaxswap._cli.main",
                *given,
                "--process",
                str(number),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            process.wait()


def ended(process: subprocess.Popen[str], seconds: float = 500) -> Ended:
    out, error = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, error)


def wait_until(condition: Callable[[], bool], seconds: float = 500) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_processes_do_what_one_does(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with started(words, 2, devices=2) as processes:
        first, second = (ended(process) for process in processes)
    assert (first.code, second.code) == (0, 0), first.error + second.error
    assert "4 devices (cpu) in 2 processes" in " ".join(first.out.split())
    assert "Done:" in first.out
    assert "Done:" not in second.out
    assert "voxels" not in second.out
    assert_like_alone(tmp_path / "run", alone)
    labels = tmp_path / "labels"
    data = words[1]
    assert main(["predict", str(tmp_path / "run"), data, "--out", str(labels)]) == 0
    assert len(list(labels.glob("*.nii.gz"))) == 6


def test_one_process_plans_for_all(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    planned = [*words, "--mesh", "data=2", "--target", "h100", "--device-memory"]
    settings = "network=tiny_networks:OneConvolution", "network_options={}"
    tiny = [word for setting in settings for word in ("--set", setting)]
    with started([*planned, "1KiB", *tiny], 2) as processes:
        results = [ended(process) for process in processes]
    for result in results:
        assert result.code == 2, result.error
        assert "the smallest that was found to work is" in result.error
    with started([*planned, "1GiB"], 2) as processes:
        first, second = (ended(process) for process in processes)
    assert (first.code, second.code) == (0, 0), first.error + second.error
    assert "jaxswap: compil" in first.error
    assert "jaxswap: compil" not in second.error
    assert_like_alone(tmp_path / "run", alone)


def test_when_one_of_four_is_killed_all_end_and_one_process_goes_on(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    split = [*words, "--mesh", "data=2,depth=2", *OFTEN]
    with started(split, 4) as processes:
        wait_until(lambda: len(losses(run)) >= 3)
        processes[2].send_signal(signal.SIGKILL)
        since = time.monotonic()
        left = [ended(process, 120) for process in processes if process.pid]
        assert time.monotonic() - since < 90
    for number, process in enumerate(left):
        assert process.code != 0
        assert number == 2 or ENDED in process.error
        assert f"--out {run} --resume" in process.error
    assert 3 <= len(losses(run)) < STEPS
    assert main(["train", "--out", str(run), "--resume", "--mesh", "data=1"]) == 0
    assert_like_alone(run, alone)


def test_a_silent_process_counts_as_dead_and_two_go_on(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    split = [*words, "--mesh", "data=2", *OFTEN]
    with started(split, 2, heartbeat=5) as (first, second):
        wait_until(lambda: len(losses(run)) >= 2)
        second.send_signal(signal.SIGSTOP)
        since = time.monotonic()
        result = ended(first, 120)
        assert time.monotonic() - since < 60
    assert result.code != 0
    assert ENDED in result.error
    resumed = ["train", "--out", str(run), "--resume", "--mesh", "height=2"]
    with started(resumed, 2) as processes:
        assert [ended(process).code for process in processes] == [0, 0]
    assert_like_alone(run, alone)


def test_interrupting_one_stops_all_at_the_same_step(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    split = [*words, "--mesh", "data=2"]
    with started(split, 2) as (first, second):
        wait_until(lambda: len(losses(run)) >= 2)
        second.send_signal(signal.SIGINT)
        results = [ended(process, 120) for process in (first, second)]
    assert [result.code for result in results] == [130, 130]
    assert "Interrupted. Go on with" in results[0].out
    assert 2 <= len(losses(run)) < STEPS
    assert main(["train", "--out", str(run), "--resume", "--mesh", "depth=2"]) == 0
    assert_like_alone(run, alone)


def test_bad_data_ends_all_processes_alike(
    words: list[str], tmp_path: pathlib.Path
) -> None:
    bad = [*words, "--mesh", "data=4"]
    with started(bad, 2) as processes:
        results = [ended(process) for process in processes]
    for result in results:
        assert result.code == 2
        assert "`mesh` is data=4: 4 devices, but there are 2" in result.error
    assert not (tmp_path / "run").exists()


def test_processes_that_do_not_come_are_not_waited_for_long(
    words: list[str], tmp_path: pathlib.Path
) -> None:
    with started(words, 2, joining=5) as (first, second):
        second.kill()
        result = ended(first, 200)
    assert result.code != 0
    assert "within 5 s" in result.error or ENDED in result.error
    assert not (tmp_path / "run").exists()
