"""How fast the programs of an experiment are, found before the runs begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from jaxswap.medical.experiment.experiment import PATCHES, PLAIN, SWAPPED
from jaxswap.medical.experiment.experiment_files import ProgramTimes, write_json
from jaxswap.medical.experiment.experiment_programs import (
    compile_all,
    device_name,
    timed,
)
from jaxswap.medical.experiment.experiment_records import SPEEDS, read_speeds
from jaxswap.medical.training.run_programs import RunPrograms


def measure_speeds(
    out: Path, programs: Mapping[str, RunPrograms], say: Callable[[str], None]
) -> None:
    """Compile all programs, time them, and keep what was found.

    A program that failed before is tried again.

    Args:
        out: Folder of the experiment.
        programs: Programs by method.
        say: Is told what is done.
    """
    rows = dict(read_speeds(out)["programs"])
    untimed = {
        name: one
        for name, one in programs.items()
        if "step_seconds" not in rows.get(name, {})
    }
    needed = {name: programs[name] for name in (SWAPPED, PATCHES, PLAIN)}
    say(f"compiling {len(needed | untimed)} programs side by side")
    compiled = compile_all(needed | untimed)
    for name, one in untimed.items():
        row = compiled[name]
        if "error" not in row:
            row |= timed(one)
        said = row.get("error") or f"{row['step_seconds'] * 1e3:.1f} ms a step"
        say(f"{name}: {said}")
        rows[name] = ProgramTimes(**row)
        write_json(out / SPEEDS, {"device": device_name(), "programs": rows})


def step_seconds(out: Path) -> dict[str, float]:
    """Return the seconds of a step with its augmentation, by method.

    Args:
        out: Folder of the experiment.

    Raises:
        ValueError: If a program that all others are compared with cannot run.
    """
    rows = read_speeds(out)["programs"]
    known = {
        method: row["busy_seconds"]
        for method, row in rows.items()
        if "busy_seconds" in row
    }
    if SWAPPED in known and PATCHES in known:
        return known
    failed = "; ".join(
        f"{name}: {row['error']}"
        for name, row in rows.items()
        if name in (SWAPPED, PATCHES) and "error" in row
    )
    raise ValueError(
        f"the experiment needs programs that do not run here ({failed}). Where "
        "memory ran out, give a smaller `size` or `patch`, or set `device_memory` "
        "to less than is free. The same command tries again."
    )
