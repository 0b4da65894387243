"""Cases -> lines of results, in processes of their own.

XLA may abort, and a program may not fit: each costs one row. What is compiled is
measured one case a process; what is timed, one program a process (`session.py`). What
is recorded already is not measured again, so that a run that was stopped goes on where
it was. Rows that were timed count only for the same state of the code.
"""

import dataclasses
import importlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.case import Case, card_bytes, key_of

TIMEOUT_SECONDS = 300.0
WHOLE_CARD = 0.92
"""Share of the GPU's memory that JAX may take where no smaller card is imitated."""
MEASURE = {
    "compiled": "benchmarks.compiled",
    "overhead": "benchmarks.overhead",
}
"""Which module's `measure` makes a measurement that has a process of its own."""
TIMED = ("device", "profile", "torch", "link")
"""Backends that time something on a GPU."""
STARTING_SECONDS = 25.0
"""No group of cases is begun with less time left: JAX has to start, and to compile."""
GRACE_SECONDS = 10.0
"""A process that is told to end by itself is given so much longer."""


def run(
    cases: Iterable[Case],
    output: pathlib.Path,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    until: float | None = None,
) -> list[Case]:
    """Measure what is not recorded yet.

    Args:
        cases: What to measure, the most valuable first.
        output: File with one line for each measurement.
        timeout_seconds: After which a case is given up, and recorded as such.
        until: Time of `time.monotonic` when to stop. A case for which less than
            `timeout_seconds` is left gets what is left; if that is not enough, it is
            not recorded, and comes first the next time.

    Returns:
        The cases that are still to be measured.
    """
    left: list[Case] = []
    with tempfile.TemporaryDirectory(prefix="jaxswap-kernels-") as folder:
        for group in groups(missing(cases, output)):
            if group[0].backend in TIMED:
                left += _run_together(group, output, timeout_seconds, until)
            else:
                kernels = f"{folder}/kernels"
                left += _run_alone(group[0], output, timeout_seconds, until, kernels)
    return left


def groups(cases: Iterable[Case]) -> list[list[Case]]:
    """Split cases into those that one process measures, in their order."""

    def process(numbered: tuple[int, Case]) -> tuple[Any, ...]:
        number, case = numbered
        if case.backend in ("device", "profile"):
            return ("device", case.workload, case.card, case.is_tiny)
        is_timed = case.backend in TIMED
        place = (case.backend, case.card, case.is_tiny)
        return place if is_timed else (*place, number)

    found = itertools.groupby(enumerate(cases), process)
    return [[case for _, case in group] for _, group in found]


def _run_alone(
    case: Case,
    output: pathlib.Path,
    timeout_seconds: float,
    until: float | None,
    kernels: str,
) -> list[Case]:
    """Measure one case and record it; return it if there was no time."""
    time_left = timeout_seconds if until is None else until - time.monotonic()
    if time_left < min(timeout_seconds, 20):
        return [case]
    plain = _plain_row(case, output)
    row = measure_alone(case, plain, min(timeout_seconds, time_left), kernels)
    if row.get("timeout_seconds", timeout_seconds) < timeout_seconds:  # cut short
        return [case]
    harness.record(dataclasses.asdict(case) | row, output)
    return []


def _run_together(
    cases: list[Case],
    output: pathlib.Path,
    timeout_seconds: float,
    until: float | None,
) -> list[Case]:
    """Measure a group, which records itself; return what there was no time for.

    Where its process ends before its time, the case in hand failed: the first that is
    not recorded. The others are tried again without it.
    """
    while cases:
        now = time.monotonic()
        end = now + timeout_seconds * len(cases) if until is None else until
        if end - now < min(timeout_seconds, STARTING_SECONDS):
            break
        failure = start_session(cases, output, end)
        cases = missing(cases, output)
        if failure is None or not cases or (until and time.monotonic() > until):
            break
        row = dataclasses.asdict(cases[0]) | _failure(failure)
        harness.record(row, output)
        cases = cases[1:]
    return cases


def start_session(
    cases: Sequence[Case], output: pathlib.Path, until: float
) -> str | None:
    """Measure a group of cases in a process of its own.

    Returns:
        Why it ended before its time; `None` if it did not.
    """
    asked = {"output": str(output), "until": until}
    asked |= {"cases": [dataclasses.asdict(case) for case in cases]}
    command = [sys.executable, "-m", "benchmarks.session", json.dumps(asked)]
    environment = os.environ | _limits(cases[0])
    with tempfile.TemporaryFile("w+") as said:
        try:
            done = subprocess.run(
                command,
                check=False,
                stderr=said,
                env=environment,
                timeout=max(0.0, until - time.monotonic()) + GRACE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return "took too long"
        if done.returncode == 0:
            return None
        if done.returncode < 0:
            return f"aborted, signal {-done.returncode}"
        said.seek(0)
        last = said.read().strip().splitlines()[-1:] or [""]
        return f"exit status {done.returncode}: {last[0][:300]}"


def missing(cases: Iterable[Case], output: pathlib.Path) -> list[Case]:
    """Return the cases that a file does not hold, each once."""
    commit = harness.surroundings()["commit"]
    rows = harness.rows_of(output)
    done = {key_of(row) for row in rows if _counts(row, commit)}
    found: dict[Any, Case] = {}
    for case in cases:
        if case.key not in done:
            found.setdefault(case.key, case)
    return list(found.values())


def _counts(row: dict[str, Any], commit: str) -> bool:
    """Whether what a row holds need not be measured again at a commit."""
    if row.get("backend") not in TIMED:
        return True
    is_current = row["environment"].get("commit") == commit
    return is_current and "compiling_beside" not in row


def measure_alone(
    case: Case,
    plain: dict[str, Any] | None,
    timeout_seconds: float,
    kernels: str = "",
) -> dict[str, Any]:
    """Measure one case in a process of its own.

    Args:
        case: What to measure.
        plain: The plain program's measurement.
        timeout_seconds: When the process is given up.
        kernels: A file in which XLA keeps the kernels that it compiles for GPUs.
            Methods have most of them in common.

    Returns:
        What was measured, with the environment; `"error"` if the process was too slow
        or was killed by a signal.

    Raises:
        RuntimeError: If the process failed in a way that is ours, with its messages.
    """
    asked = json.dumps({"case": dataclasses.asdict(case), "plain": plain})
    command = [sys.executable, "-m", "benchmarks.runner", asked]
    start = time.monotonic()
    try:
        # Plans of earlier versions are not looked up.
        with tempfile.TemporaryDirectory(prefix="jaxswap-plans-") as plans:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_seconds,
                env=os.environ | _flags(kernels) | {"JAXSWAP_CACHE_DIR": plans},
            )
    except subprocess.TimeoutExpired:
        error = f"took longer than {timeout_seconds:.0f} s"
        return _failure(error) | {"timeout_seconds": timeout_seconds}
    wall = {"wall_seconds": round(time.monotonic() - start, 1)}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1]) | wall
    if done.returncode < 0:
        return _failure(f"aborted, signal {-done.returncode}") | wall
    raise RuntimeError(f"{case} failed:\n{done.stderr}")


def _flags(kernels: str) -> dict[str, str]:
    given = os.environ.get("XLA_FLAGS", "")
    flag = f"--xla_gpu_kernel_cache_file={kernels}"
    return {"XLA_FLAGS": f"{given} {flag}".strip()} if kernels else {}


def _failure(error: str) -> dict[str, Any]:
    return {"error": error, "environment": harness.surroundings()}


def _limits(case: Case) -> dict[str, str]:
    """Environment that keeps JAX within the case's card."""
    if case.backend not in ("device", "profile"):
        return {}
    gpu = harness.graphics_card()
    share = WHOLE_CARD
    if case.card and gpu:
        share = card_bytes(case.card) / (float(gpu["memory.total"]) * 2**20)
    return {"XLA_CLIENT_MEM_FRACTION": f"{min(share, WHOLE_CARD):.4f}"}


def _plain_row(case: Case, output: pathlib.Path) -> dict[str, Any] | None:
    """The newest measurement of the plain program, on whatever card.

    With the bytes that methods without a budget needed for the same program.
    """
    plain = dataclasses.replace(case.plain(), card="").key
    rows = {
        row["method"]: row
        for row in harness.rows_of(output)
        if "device_bytes" in row
        and key_of(row | {"card": "", "method": "plain"}) == plain
    }
    if "plain" not in rows:
        return None
    bytes_of = {name: row["device_bytes"] for name, row in rows.items()}
    return rows["plain"] | {"bytes_of": bytes_of}


def measure(case: Case, plain: dict[str, Any] | None) -> dict[str, Any]:
    """Measure a case in this process."""
    module = importlib.import_module(MEASURE[case.backend])
    return module.measure(case, plain)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the case that the command line holds as JSON; print a line of JSON."""
    (text,) = sys.argv[1:] if arguments is None else arguments
    asked = json.loads(text)
    row = measure(Case(**asked["case"]), asked["plain"])
    print(json.dumps(row | {"environment": harness.environment()}))


if __name__ == "__main__":
    main()
