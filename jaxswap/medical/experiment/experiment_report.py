"""The report of an experiment, from what its folder holds, with paired statistics."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.experiment.experiment import (
    HYPOTHESES,
    METHODS,
    PATCHES,
    PLAIN,
    REGISTRATION,
    STATEMENT,
    SWAPPED,
    TIMED_PATCHES,
    Experiment,
    registration_hash,
)
from jaxswap.medical.experiment.experiment_costs import cost_blocks
from jaxswap.medical.experiment.experiment_files import (
    RecordError,
    Registration,
    read_json,
    write_json,
)
from jaxswap.medical.experiment.experiment_page import (
    Block,
    Heading,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from jaxswap.medical.experiment.experiment_records import (
    Recorded,
    all_recorded,
    read_speeds,
)
from jaxswap.medical.scoring.summaries import summarize

TITLE = "Whole volumes against patches"
REPORT, PAGE, RESULTS = "report.md", "report.html", "results.json"
PAPER_HOURS = {"patches": 164, "whole": 47}
"""Hours to train in Imai et al. 2018."""


def write_report(out: Path) -> str:
    """Write `report.md`, `report.html` and `results.json` of what was done so far.

    Args:
        out: Folder of the experiment.

    Returns:
        The Markdown.

    Raises:
        ValueError: If the folder holds no experiment.
    """
    blocks = report_blocks(out)
    text = to_markdown(blocks)
    for name, content in ((REPORT, text), (PAGE, to_html(blocks, TITLE))):
        with whole_file(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    arms = registered(out)["hypotheses"]
    write_json(
        out / RESULTS,
        {arm: [_plain(found) for found in all_recorded(out, arm)] for arm in arms},
    )
    return text


def registered(out: Path) -> Registration:
    """Read what was registered.

    Args:
        out: Folder of the experiment.

    Raises:
        ValueError: If nothing was.
    """
    content = read_json(out / REGISTRATION, Registration)
    if content is None:
        raise ValueError(f"{out} holds no experiment: it has no {REGISTRATION}.")
    return content


def report_blocks(out: Path) -> list[Block]:
    """Describe what was done so far, with one part for each arm.

    For each case, Dice is averaged over regions, then over seeds. Intervals are
    bootstrap intervals of the mean over cases. Differences are paired by case.

    Args:
        out: Folder of the experiment.
    """
    content, speeds = registered(out), read_speeds(out)
    experiment = experiment_of(out, content)
    blocks: list[Block] = [Heading(TITLE, 1), Text(STATEMENT)]
    blocks += [
        Text(
            f"Registered before anything was trained, SHA-256 {registration_hash(out)}."
        )
    ]
    if speeds.get("device"):
        told = f"Trained on {speeds['device']}."
        if not speeds["device"].startswith(("gpu", "cuda")):
            told += " This is no GPU: a rehearsal, from which nothing follows."
        blocks.append(Text(told))
    for arm in content["hypotheses"]:
        runs = all_recorded(out, arm)
        blocks += [Heading(arm), Text(f"Expected: {HYPOTHESES[arm]}")]
        main = [found for found in runs if not found.run.is_trial]
        if not main:
            blocks.append(Text("Not trained yet."))
        blocks += _trials([found for found in runs if found.run.is_trial])
        if main:
            blocks += [_table(experiment, arm, main), *_comparisons(main)]
            blocks += _same_dice(experiment, main)
        blocks += _pictures(out, arm)
    return blocks + cost_blocks(experiment, out, speeds)


def experiment_of(out: Path, content: Registration) -> Experiment:
    """Make the registered experiment again, without settings of its runs."""
    try:
        return _experiment_of(out, content["experiment"])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        path = out / REGISTRATION
        raise RecordError(f"{path}: is damaged ({error}).") from error


def _experiment_of(out: Path, plain: Mapping[str, Any]) -> Experiment:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in plain.items()
    }
    values["settings"] = {
        name: value for name, value in values["settings"].items() if name == "folds"
    }
    return Experiment(out, **values)


def _of(runs: Sequence[Recorded], method: str) -> list[Recorded]:
    return [found for found in runs if found.run.method == method]


def _trials(trials: Sequence[Recorded]) -> list[Block]:
    said = []
    for found in trials:
        dice = found.done.get("validation")
        told = found.ended or ("not finished" if dice is None else f"Dice {dice:.3f}")
        run = found.run
        kind = "whole volumes" if run.method == SWAPPED else "patches"
        said.append(f"{kind} at {run.rate:g}: {told} (step {found.steps})")
    if not said:
        return []
    return [Text(f"Rates tried, on synthetic validation cases: {'; '.join(said)}.")]


def _table(experiment: Experiment, arm: str, runs: Sequence[Recorded]) -> Table:
    scored = [found for found in runs if found.regions]
    regions = list(scored[0].regions) if scored else []
    shown = regions if len(regions) <= 4 else []
    head = ["method", "steps done", "mean Dice (95 % CI)", *shown, "mL where none is"]
    head += ["rate", "runs", "voxels seen", "minutes of training", "ms a step"]
    rows = []
    for method in METHODS:
        of_method = _of(runs, method)
        if not of_method:
            rows.append([method, "not begun", *["–"] * (len(head) - 2)])
            continue
        rows.append(_row(experiment, method, of_method, shown))
    caption = f"Dice on held-out synthetic cases, arm {arm}. Nothing here is clinical."
    return Table(caption, head, rows)


def _row(
    experiment: Experiment, method: str, runs: Sequence[Recorded], shown: Sequence[str]
) -> list[str]:
    first, voxels = runs[0], experiment.voxels(method, 1)
    steps = f"{first.steps:,} of {first.run.steps:,}"
    cells = [method, f"{steps}: {first.ended}" if first.ended else steps]
    scored = [found for found in runs if found.dice]
    if scored:
        dice = summarize(list(_by_case(scored).values()))
        low, high = dice.confidence_95 or (dice.mean, dice.mean)
        cells.append(f"{dice.mean:.3f} ({low:.3f} to {high:.3f})")
        cells += [f"{np.mean([r.regions[n] for r in scored]):.3f}" for n in shown]
        false = [r.false_ml for r in scored if r.false_ml is not None]
        cells.append(f"{np.mean(false):.1f}" if false else "–")
    else:
        cells += ["not scored", *["–"] * (len(shown) + 1)]
    seconds = [sum_seconds(found, voxels) for found in runs]
    cells += [f"{first.run.rate:g}", str(len(runs))]
    cells += [f"{voxels * first.steps / 1e6:,.0f} M", f"{np.mean(seconds) / 60:.2f}"]
    each = np.mean(seconds) / max(first.steps, 1)
    return [*cells, f"{each * 1e3:,.1f}"]


def sum_seconds(found: Recorded, voxels: int) -> float:
    """Return the seconds of all steps of a run, validations left out."""
    return found.seconds_by_step(voxels).get(found.steps, 0.0)


def _comparisons(runs: Sequence[Recorded]) -> list[Block]:
    """Write the paired difference of each method from whole volumes with swapping."""
    ours = _by_case([found for found in _of(runs, SWAPPED) if found.dice])
    blocks: list[Block] = []
    for method in (PATCHES, TIMED_PATCHES, PLAIN):
        theirs = _by_case([found for found in _of(runs, method) if found.dice])
        gains = [100 * (ours[case] - theirs[case]) for case in ours if case in theirs]
        if not gains:
            continue
        gain, interval, test = summarize(gains), "", ""
        if gain.confidence_95 is not None:
            low, high = gain.confidence_95
            interval = f" (95 % CI {low:+.1f} to {high:+.1f})"
        if method != PLAIN and len(gains) > 5 and any(gains):
            tested: Any = stats.wilcoxon(gains)
            test = f", Wilcoxon signed-rank p = {tested.pvalue:.2g}"
        blocks.append(
            Text(
                f"{SWAPPED} minus {method}: {gain.mean:+.1f} points of Dice{interval}, "
                f"{gain.count} synthetic cases{test}.",
                is_item=True,
            )
        )
    return blocks


def _same_dice(experiment: Experiment, runs: Sequence[Recorded]) -> list[Block]:
    """Say when whole volumes and patches first had the same Dice in validation."""
    curves = {}
    for method in (SWAPPED, TIMED_PATCHES):
        found = [f for f in _of(runs, method) if f.history.validation]
        if found:
            curves[method] = found[0].curve(experiment.voxels(method, 1))
    if len(curves) < 2:
        return []
    goal = min(max(dice for *_, dice in curve) for curve in curves.values())
    when = {
        method: next(seconds for _, seconds, dice in curve if dice >= goal) / 3600
        for method, curve in curves.items()
    }
    paper = f"{PAPER_HOURS['patches']} and {PAPER_HOURS['whole']}"
    return [
        Text(
            f"Hours of training to the same Dice, {goal:.3f} on synthetic validation "
            f"cases: {when[TIMED_PATCHES]:.4f} for patches and {when[SWAPPED]:.4f} for "
            f"whole volumes. The paper's hours of training on BraTS were {paper}.",
            is_item=True,
        )
    ]


def _pictures(out: Path, arm: str) -> list[Block]:
    captions = {
        "curves": "Dice of synthetic validation cases, and loss, while training",
        "pairs": "Each held-out synthetic case: whole volumes minus another method",
        "examples": "A held-out synthetic case, labeled by each method",
    }
    return [
        Picture(f"{name}-{arm}.png", f"{caption}, arm {arm}.")
        for name, caption in captions.items()
        if (out / f"{name}-{arm}.png").exists()
    ]


def _by_case(runs: Sequence[Recorded]) -> dict[str, float]:
    """Return the mean over seeds of each case's Dice."""
    if not runs:
        return {}
    return {
        case: float(np.mean([found.dice[case] for found in runs]))
        for case in runs[0].dice
    }


def _plain(found: Recorded) -> dict[str, Any]:
    fields = {
        name: getattr(found, name)
        for name in ("done", "dice", "regions", "false_ml", "steps", "ended")
    }
    return json.loads(json.dumps({"run": dataclasses.asdict(found.run), **fields}))
