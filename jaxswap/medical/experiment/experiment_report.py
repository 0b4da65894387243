"""The results of the experiment as Markdown and JSON, with paired statistics."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.experiment.experiment import (
    HYPOTHESES,
    PATCHES,
    STATEMENT,
    SWAPPED,
    Result,
)
from jaxswap.medical.scoring.summaries import summarize


def write_report(out: Path, results: Sequence[Result]) -> str:
    """Write `report.md` and `results.json`.

    Args:
        out: Folder of the experiment.
        results: Its results.

    Returns:
        The Markdown.
    """
    text = report(results)
    with whole_file(out / "report.md") as temporary:
        temporary.write_text(text)
    rows = [dataclasses.asdict(result) for result in results]
    with whole_file(out / "results.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n")
    return text


def report(results: Sequence[Result]) -> str:
    """Describe the results, with one table for each arm.

    Args:
        results: Results of one or more arms.

    Returns:
        Markdown. For each case, Dice is averaged over regions, then over seeds.
        Intervals are bootstrap intervals of the mean over cases. Differences are paired
        by case.
    """
    lines = ["# Whole volumes against patches", "", STATEMENT]
    for arm in dict.fromkeys(result.arm for result in results):
        of_arm = [result for result in results if result.arm == arm]
        lines += ["", f"## {arm}", "", f"Expected: {HYPOTHESES[arm]}", ""]
        lines += _table(of_arm)
        lines += ["", *_comparisons(of_arm)]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Result]) -> list[str]:
    regions = list(results[0].regions)
    shown = regions if len(regions) <= 4 else []
    head = ["method", "mean Dice (95 % CI)", *shown, "mL where none is"]
    head += ["learning rate", "runs", "steps", "voxels seen", "hours"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for method in dict.fromkeys(result.method for result in results):
        runs = [result for result in results if result.method == method]
        false = [r.false_ml for r in runs if r.false_ml is not None]
        dice = summarize(list(_by_case(runs).values()))
        low, high = dice.confidence_95 or (dice.mean, dice.mean)
        cells = [method, f"{dice.mean:.3f} ({low:.3f}–{high:.3f})"]
        cells += [f"{np.mean([r.regions[name] for r in runs]):.3f}" for name in shown]
        cells += [f"{np.mean(false):.1f}" if false else "–"]
        cells += [f"{runs[0].learning_rate:g}", str(len(runs)), f"{runs[0].steps:,}"]
        cells += [f"{runs[0].voxels / 1e6:,.0f} M"]
        cells += [f"{np.mean([r.seconds for r in runs]) / 3600:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _comparisons(results: Sequence[Result]) -> list[str]:
    """Write the paired difference of each method from whole volumes with swapping."""
    ours = _by_case([r for r in results if r.method == SWAPPED])
    lines = []
    for method in dict.fromkeys(r.method for r in results if r.method != SWAPPED):
        theirs = _by_case([r for r in results if r.method == method])
        gains = [100 * (ours[case] - theirs[case]) for case in ours if case in theirs]
        gain = summarize(gains)
        interval = ""
        if gain.confidence_95 is not None:
            low, high = gain.confidence_95
            interval = f" (95 % CI {low:+.1f} to {high:+.1f})"
        test = ""
        if method == PATCHES and len(gains) > 5 and any(gains):
            tested: Any = stats.wilcoxon(gains)
            test = f", Wilcoxon signed-rank p = {tested.pvalue:.2g}"
        lines.append(
            f"* {SWAPPED} minus {method}: {gain.mean:+.1f} points of Dice{interval}, "
            f"{gain.count} cases{test}."
        )
    return lines


def _by_case(runs: Sequence[Result]) -> dict[str, float]:
    """Return the mean over seeds of each case's Dice."""
    return {
        case: float(np.mean([run.dice[case] for run in runs])) for case in runs[0].dice
    }
