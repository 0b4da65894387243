"""Several cases, measured in one process; each row is written when it is made.

A program's methods share what the GPU tuned for the first of them, and starting JAX
takes seconds, so what is timed is not measured in a process for each case. A run that
is cut off keeps all rows but the one in hand.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.case import Case

LEAST_SECONDS = 20.0
"""No case of copies or of PyTorch is begun with less left."""

Record = Callable[[Case, dict[str, Any]], None]


def measure(cases: Sequence[Case], record: Record, left: Callable[[], float]) -> None:
    """Measure cases of one group, in their order, as long as there is time."""
    backend = cases[0].backend
    if backend in ("device", "profile"):
        from benchmarks import device

        device.measure(cases, record, left)
        return
    for case in cases:
        if left() < LEAST_SECONDS:
            return
        record(case, _alone(case))


def _alone(case: Case) -> dict[str, Any]:
    """Measure a case of copies or of PyTorch; what is raised becomes its `error`."""
    try:
        if case.backend == "link":
            from benchmarks import link

            return link.measure(case)
        from benchmarks import torch_device

        return torch_device.measure(case)
    except Exception as failure:
        return {"error": f"{type(failure).__name__}: {failure}"[:300]}


def environment_of(backend: str) -> dict[str, str]:
    """Return where a case is measured, without starting JAX beside PyTorch."""
    if backend != "torch":
        return harness.environment()
    # JAX would find the device's memory taken, and take what is left.
    device = (harness.graphics_card() or {"name": "cpu"})["name"]
    return {"device": device, **harness.surroundings()}


def main() -> None:
    """Measure what the command line says as JSON."""
    asked = json.loads(sys.argv[1])
    cases = [Case(**fields) for fields in asked["cases"]]
    output, until = pathlib.Path(asked["output"]), asked["until"]

    def record(case: Case, row: dict[str, Any]) -> None:
        environment = {"environment": environment_of(case.backend)}
        harness.record(dataclasses.asdict(case) | row | environment, output)

    def left() -> float:
        return float("inf") if until is None else until - time.monotonic()

    measure(cases, record, left)
    sys.stdout.flush()
    os._exit(0)  # programs that are still being compiled are not waited for


if __name__ == "__main__":
    main()
