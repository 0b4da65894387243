"""What swapping costs, and how busy the device was: the last part of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxswap.medical.experiment.experiment import (
    METHODS,
    PATCHES,
    PLAIN,
    SWAPPED,
    TIMED_PATCHES,
    Experiment,
)
from jaxswap.medical.experiment.experiment_page import Block, Heading, Table, Text
from jaxswap.medical.experiment.experiment_programs import TUNED, UNTUNED
from jaxswap.medical.experiment.experiment_records import all_recorded

PAPER_CUT = "-17.1 %"
"""How much communication overhead tuning took away in Imai et al. 2018."""
_MIB = 2**20


def cost_blocks(
    experiment: Experiment, out: Path, speeds: Mapping[str, Any]
) -> list[Block]:
    """Describe memory, communication overhead, and the device's idle share.

    Args:
        experiment: The experiment.
        out: Its folder.
        speeds: What was timed and profiled before the runs.
    """
    rows = speeds.get("programs", {})
    if not rows:
        return []
    return [
        Heading("What swapping costs"),
        _communication(rows),
        Heading("Memory and time"),
        _memory(rows),
        *_idle(experiment, out, rows),
    ]


def _communication(rows: Mapping[str, Any]) -> Table:
    head = ["step on whole volumes", "ms", "over plain, ms", "change from untuned"]
    head += ["waits for copies, ms", "copies, ms", "of them hidden"]
    plain = rows.get(PLAIN, {}).get("step_seconds")
    untuned = rows.get(UNTUNED, {}).get("step_seconds")
    lines = []
    names = {PLAIN: "plain", UNTUNED: "LMS, untuned", TUNED: "LMS, tuned as published"}
    is_planned = "planned_bytes" in rows.get(SWAPPED, {})
    ours = "planned" if is_planned else "by default, without a budget"
    for name, told in {**names, SWAPPED: ours}.items():
        row = rows.get(name, {})
        if "step_seconds" not in row:
            lines.append([told, row.get("error", "not timed"), *["–"] * 5])
            continue
        seconds = row["step_seconds"]
        over = None if plain is None or name == PLAIN else seconds - plain
        change = "–"
        if over is not None and untuned is not None and plain is not None:
            naive = untuned - plain
            is_compared = name != UNTUNED and naive > 0
            change = f"{over / naive - 1:+.1%}" if is_compared else "–"
        lines.append(
            [
                told,
                _ms(seconds),
                "–" if over is None else _ms(over),
                change,
                _ms(row.get("stall_seconds")),
                _ms(row.get("copy_seconds")),
                _share(row.get("hidden_seconds"), row.get("copy_seconds")),
            ]
        )
    caption = (
        "Timed with random inputs; waits and copies from a profile of the device, "
        f"where there is one. Tuning changed the paper's overhead by {PAPER_CUT}."
    )
    return Table(caption, head, lines)


def _memory(rows: Mapping[str, Any]) -> Table:
    head = ["program", "budget, MiB", "planned, MiB", "compiled, MiB", "host, MiB"]
    head += ["compiled in, s"]
    lines = [
        [
            name,
            _mib(row.get("budget_bytes")),
            _mib(row.get("planned_bytes")),
            _mib(row.get("device_bytes")),
            _mib(row.get("host_bytes")),
            f"{row['compile_seconds']:.0f}" if "compile_seconds" in row else "–",
        ]
        for name, row in rows.items()
    ]
    return Table(
        "Bytes of the device: as the plan says, as compiled. Programs are compiled "
        "side by side.",
        head,
        lines,
    )


def _idle(experiment: Experiment, out: Path, rows: Mapping[str, Any]) -> list[Block]:
    """Say how long the device had nothing to do, and what validation took."""
    head = ["arm", "method", "busy, ms a step", "took, ms a step", "idle share"]
    head += ["validation's share", "most bytes so far, MiB"]
    lines = []
    total = validation = 0.0
    for arm in experiment.arms:
        runs = [found for found in all_recorded(out, arm) if found.history.metrics]
        for found in sorted(runs, key=lambda f: METHODS.index(f.run.method)):
            method, done = found.run.method, found.done
            like = PATCHES if method == TIMED_PATCHES else method
            busy = rows.get(like, {}).get("busy_seconds")
            seconds = found.seconds_by_step(experiment.voxels(method, 1))
            # The first step may wait for batches to be read ahead.
            took = float(np.median(np.diff([0.0, *seconds.values()])))
            validated = done.get("validation_seconds", 0.0)
            all_seconds = seconds[found.steps] + validated
            total, validation = total + all_seconds, validation + validated
            if found.run.is_trial:
                continue
            idle = None if busy is None else max(0.0, 1 - busy / took)
            lines.append(
                [
                    arm,
                    method,
                    _ms(busy),
                    _ms(took),
                    "–" if idle is None else f"{idle:.1%}",
                    f"{validated / all_seconds:.1%}",
                    _mib(done.get("peak_bytes")),
                ]
            )
    if not lines:
        return []
    caption = (
        "Busy is a step with its augmentation when all data is on the device, timed "
        "before. Idle is what the median step took more than that. The last column is "
        "the allocator's mark for the whole process."
    )
    share = (
        f"All validations, those of trials too: {validation / total:.1%} of training."
    )
    return [Table(caption, head, lines), Text(share)]


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:,.1f}"


def _mib(size: float | None) -> str:
    return "–" if size is None else f"{size / _MIB:,.0f}"


def _share(part: float | None, whole: float | None) -> str:
    return f"{part / whole:.0%}" if part is not None and whole else "–"
