"""`jaxswap train` in several processes on one machine, over loopback."""

import json
import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tiny_datasets
import yaml
from forked_commands import Command, ended_at_last
from training_command import column, losses, trained_in

from jaxswap._cli.main import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("own_folders", "lenient_promotion"),
]

STEPS = 12
SETTINGS = {
    "folds": 2,
    "network": "tiny_networks:Convolutions",
    "augment": None,
    "precision": "float32",
    "steps": STEPS,
    "validate_every": 6,
    "checkpoint_every": 1000,
    "average_decay": 0.9,
    "final_validation": False,
    "batch": 4,
    "shape": [16, 16, 10],
}
UNET = {
    "network": "isensee2017",
    "network_options": {"base_filters": 2, "depth": 2, "segmentation_levels": 1},
    "augment": True,
}
"""For the run of which everything counts; elsewhere the processes do."""
OFTEN = ("--set", "checkpoint_every=1")
"""For runs that are killed."""
ENDED = "one process of the run died, so this one has ended"
_FORCED = "--xla_force_host_platform_device_count"


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
    return trained_in(tmp_path_factory.mktemp("alone"), data, SETTINGS)


def assert_like_alone(run: pathlib.Path, alone: pathlib.Path) -> None:
    assert len(losses(run)) == STEPS
    region = "whole tumour"
    ours, theirs = (np.array(losses(folder), float) for folder in (run, alone))
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    ours, theirs = (
        np.array(column(folder / "validation.csv", region), float)
        for folder in (run, alone)
    )
    assert len(ours) == 2
    np.testing.assert_allclose(ours, theirs, atol=5e-3)


@contextmanager
def started(
    folder: pathlib.Path,
    words: Sequence[str],
    count: int,
    devices: int = 1,
    *,
    heartbeat_seconds: int = 20,
    joining_seconds: int = 300,
) -> Iterator[list[Command]]:
    """Start the processes of a run, and end those that are left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [*words, "--coordinator", f"127.0.0.1:{port}", "--processes", str(count)]
    given += ["--heartbeat-seconds", str(heartbeat_seconds)]
    given += ["--joining-seconds", str(joining_seconds)]
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {_FORCED}={devices}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    commands = [
        Command(
            [*given, "--process", str(number)],
            folder / f"{port}-{number}",
            environment,
        )
        for number in range(count)
    ]
    with ended_at_last(commands):
        yield commands


def ended(command: Command, seconds: float = 500) -> Command:
    command.wait(seconds)
    return command


def wait_until(condition: Callable[[], bool], seconds: float = 500) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_told(command: Command, *texts: str) -> None:
    """One of the texts is written to stderr, at the latest soon after the end."""
    wait_until(lambda: any(text in command.error for text in texts), 60)


def test_two_processes_do_what_one_does(
    words: list[str], data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    options = [f"{name}={json.dumps(value)}" for name, value in UNET.items()]
    unet = [word for option in options for word in ("--set", option)]
    with started(tmp_path, [*words, *unet], 2, devices=2) as processes:
        first, second = (ended(process) for process in processes)
    assert (first.code, second.code) == (0, 0), first.error + second.error
    assert "4 devices (cpu) in 2 processes" in " ".join(first.out.split())
    assert "Done:" in first.out
    assert "Done:" not in second.out
    assert "voxels" not in second.out
    alone = trained_in(tmp_path / "alone", data, SETTINGS, **UNET)
    assert_like_alone(tmp_path / "run", alone)
    labels = tmp_path / "labels"
    predict = ["predict", str(tmp_path / "run"), str(data), "--out", str(labels)]
    assert main(predict) == 0
    assert len(list(labels.glob("*.nii.gz"))) == 6


def test_one_process_plans_for_all(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    planned = [*words, "--mesh", "data=2", "--target", "h100", "--device-memory"]
    with started(tmp_path, [*planned, "1KiB"], 2) as processes:
        results = [ended(process) for process in processes]
    for result in results:
        assert result.code == 2, result.error
        assert "the smallest that was found to work is" in result.error
    with started(tmp_path, [*planned, "1GiB"], 2) as processes:
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
    with started(tmp_path, split, 4) as processes:
        wait_until(lambda: len(losses(run)) >= 3)
        processes[2].signal(signal.SIGKILL)
        since = time.monotonic()
        left = [ended(process, 120) for process in processes]
        assert time.monotonic() - since < 90
    for number, process in enumerate(left):
        assert process.code != 0
        if number != 2:
            assert_told(process, ENDED)
        assert_told(process, f"--out {run} --resume")
    assert 3 <= len(losses(run)) < STEPS
    assert main(["train", "--out", str(run), "--resume", "--mesh", "data=1"]) == 0
    assert_like_alone(run, alone)


def test_a_silent_process_counts_as_dead_and_two_go_on(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    split = [*words, "--mesh", "data=2", *OFTEN]
    with started(tmp_path, split, 2, heartbeat_seconds=5) as (first, second):
        wait_until(lambda: len(losses(run)) >= 2)
        second.signal(signal.SIGSTOP)
        since = time.monotonic()
        result = ended(first, 120)
        assert time.monotonic() - since < 60
    assert result.code != 0
    assert_told(result, ENDED)
    resumed = ["train", "--out", str(run), "--resume", "--mesh", "height=2"]
    with started(tmp_path, resumed, 2) as processes:
        assert [ended(process).code for process in processes] == [0, 0]
    assert_like_alone(run, alone)


def test_interrupting_one_stops_all_at_the_same_step(
    words: list[str], alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    split = [*words, "--mesh", "data=2"]
    with started(tmp_path, split, 2) as (first, second):
        wait_until(lambda: len(losses(run)) >= 2)
        second.signal(signal.SIGINT)
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
    with started(tmp_path, bad, 2) as processes:
        results = [ended(process) for process in processes]
    for result in results:
        assert result.code == 2
        assert "`mesh` is data=4: 4 devices, but there are 2" in result.error
    assert not (tmp_path / "run").exists()


def test_processes_that_do_not_come_are_not_waited_for_long(
    words: list[str], tmp_path: pathlib.Path
) -> None:
    with started(tmp_path, words, 2, joining_seconds=5) as (first, second):
        second.kill()
        result = ended(first, 200)
    assert result.code != 0
    assert_told(result, "within 5 s", ENDED)
    assert not (tmp_path / "run").exists()
