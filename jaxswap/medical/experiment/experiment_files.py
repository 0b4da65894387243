"""The JSON files of an experiment: what each holds, how they are written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

from jaxswap import JaxswapError
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.runs.record import load_record

T = TypeVar("T")


class RecordError(JaxswapError, ValueError):
    """A file of an experiment is damaged. The message names it."""


class Registration(TypedDict):
    """What was written down before anything was done."""

    statement: str
    hypotheses: Mapping[str, str]
    methods: tuple[str, ...]
    rules: tuple[str, ...]
    experiment: Mapping[str, Any]


class ProgramTimes(TypedDict, total=False):
    """What was found of a program: its times and bytes, or why there are none."""

    error: str
    profile_error: str
    compile_seconds: float
    step_seconds: float
    busy_seconds: float
    compute_seconds: float
    stall_seconds: float
    idle_seconds: float
    copy_seconds: float
    hidden_seconds: float
    copied_bytes: int
    device_bytes: int
    host_bytes: int
    budget_bytes: int
    planned_bytes: int


class Speeds(TypedDict):
    """What was timed before the runs: the device, and each program."""

    device: str
    programs: dict[str, ProgramTimes]


class Steps(TypedDict):
    """Steps of a trial by method, and steps of the runs on whole volumes."""

    trial: Mapping[str, int]
    steps: int


class Done(TypedDict):
    """What is known of a run that was trained to its end."""

    wall_seconds: NotRequired[float]
    validation_seconds: float
    validation: float | None
    peak_bytes: NotRequired[int | None]


class Scored(TypedDict):
    """Scores of a run on the test cases, see `Recorded`."""

    dice: Mapping[str, float]
    regions: Mapping[str, float]
    false_ml: float | None
    scored_steps: int


class Ended(TypedDict):
    """Why a run ended early."""

    reason: str


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, complete or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, kind: type[T]) -> T | None:
    """Read what `write_json` wrote. None if there is no such file.

    Args:
        path: The file.
        kind: What it holds.

    Raises:
        RecordError: If it is damaged.
    """
    try:
        return load_record(path, kind)
    except ValueError as error:
        raise RecordError(str(error)) from error
