"""Cases -> lines of results, each case in a process of its own.

A device counts one peak a process, XLA may abort, and a program may not fit: each
costs one row. What is recorded already is not measured again, so that a run that was
stopped goes on where it was.
"""

import dataclasses
import importlib
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
    "device": "benchmarks.device",
    "torch": "benchmarks.torch_device",
    "link": "benchmarks.link",
    "overhead": "benchmarks.overhead",
}
"""Which module's `measure` makes a measurement."""


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
    waiting = missing(cases, output)
    left: list[Case] = []
    for case in waiting:
        time_left = timeout_seconds if until is None else until - time.monotonic()
        if time_left < min(timeout_seconds, 20):
            left.append(case)
            continue
        row = measure_alone(
            case, _plain_row(case, output), min(timeout_seconds, time_left)
        )
        is_cut_short = row.get("timeout_seconds", timeout_seconds) < timeout_seconds
        if is_cut_short:
            left.append(case)
        else:
            harness.record(dataclasses.asdict(case) | row, output)
    return left


def missing(cases: Iterable[Case], output: pathlib.Path) -> list[Case]:
    """Return the cases that a file does not hold, each once."""
    done = {key_of(row) for row in harness.rows_of(output)}
    found: dict[Any, Case] = {}
    for case in cases:
        if case.key not in done:
            found.setdefault(case.key, case)
    return list(found.values())


def measure_alone(
    case: Case, plain: dict[str, Any] | None, timeout_seconds: float
) -> dict[str, Any]:
    """Measure one case in a process of its own.

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
                env=os.environ | _limits(case) | {"JAXSWAP_CACHE_DIR": plans},
            )
    except subprocess.TimeoutExpired:
        error = f"took longer than {timeout_seconds:.0f} s"
        return _failure(error) | {"timeout_seconds": timeout_seconds}
    wall = {"wall_seconds": round(time.monotonic() - start, 1)}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1]) | wall
    if done.returncode < 0:
        return _failure(f"aborted, signal {-done.returncode}") | wall
    if case.backend in ("compiled", "overhead"):
        raise RuntimeError(f"{case} failed:\n{done.stderr}")
    # On a GPU a driver or a library may fail in many ways, and each costs one row.
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return _failure(f"exit status {done.returncode}: {last[0][:300]}") | wall


def _failure(error: str) -> dict[str, Any]:
    return {"error": error, "environment": harness.surroundings()}


def _limits(case: Case) -> dict[str, str]:
    """Environment that keeps JAX within the case's card."""
    if case.backend != "device":
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


def _environment(backend: str) -> dict[str, str]:
    if backend != "torch":
        return harness.environment()
    # JAX would start beside PyTorch and find the device's memory taken.
    device = (harness.graphics_card() or {"name": "cpu"})["name"]
    return {"device": device, **harness.surroundings()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the case that the command line holds as JSON; print a line of JSON."""
    (text,) = sys.argv[1:] if arguments is None else arguments
    asked = json.loads(text)
    row = measure(Case(**asked["case"]), asked["plain"])
    print(json.dumps(row | {"environment": _environment(asked["case"]["backend"])}))


if __name__ == "__main__":
    main()
