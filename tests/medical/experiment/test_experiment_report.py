"""The report of what a folder holds: paired, honest about what is missing, legible."""

import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib import image as images

from jaxswap.medical.experiment.experiment import (
    HYPOTHESES,
    PATCHES,
    PLAIN,
    STATEMENT,
    SWAPPED,
    TIMED_PATCHES,
    Experiment,
    register,
    registration_hash,
)
from jaxswap.medical.experiment.experiment_costs import PAPER_CUT
from jaxswap.medical.experiment.experiment_pictures import draw_pictures
from jaxswap.medical.experiment.experiment_programs import TUNED, UNTUNED
from jaxswap.medical.experiment.experiment_records import (
    DONE,
    ENDED,
    SCORED,
    SHOWN,
    SPEEDS,
    Run,
    begin,
    write_json,
)
from jaxswap.medical.experiment.experiment_report import write_report

WHOLE = [0.80, 0.82, 0.84, 0.86, 0.88, 0.90]


def add_run(
    out: pathlib.Path,
    method: str,
    dice: Sequence[float] = (),
    *,
    steps: int = 4,
    learned: Sequence[float] = (0.3, 0.8),
    is_trial: bool = False,
    ended: str = "",
) -> pathlib.Path:
    """Write the folder of a run of `steps` steps of a second each."""
    run = Run("glioma", method, 1e-3, 0, 4, 2, is_trial)
    folder = begin(run, out).path
    voxels = Experiment(out).voxels(method, 1)
    rows = [f"{step},{1 / step},{voxels}" for step in range(1, steps + 1)]
    lines = ["step,loss,voxels_per_second", *rows]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    rows = [f"{2 * n},{d},{d}" for n, d in enumerate(learned, 1) if 2 * n <= steps]
    lines = ["step,whole tumour,tumour core", *rows]
    (folder / "validation.csv").write_text("\n".join(lines) + "\n")
    if ended:
        write_json(folder / ENDED, {"reason": ended})
    elif steps == 4:
        done = {"validation": learned[-1], "validation_seconds": 0.2}
        write_json(folder / DONE, {**done, "peak_bytes": 2**30})
    if dice:
        by_case = {f"case{number}": value for number, value in enumerate(dice)}
        regions = {"whole tumour": float(np.mean(dice))}
        scored = {"dice": by_case, "regions": regions, "false_ml": 3.0}
        write_json(folder / SCORED, {**scored, "scored_steps": steps})
    return folder


@pytest.fixture
def out(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return an experiment of which one method diverged and one arm is missing."""
    folder = tmp_path / "out"
    register(Experiment(folder, arms=("glioma", "multifocal")))
    add_run(folder, SWAPPED, WHOLE)
    add_run(folder, TIMED_PATCHES, [d - 0.05 for d in WHOLE], learned=(0.2, 0.7))
    add_run(folder, PLAIN, steps=3, ended="the loss is nan at step 3")
    add_run(folder, SWAPPED, is_trial=True)
    return folder


def test_cases_are_paired_and_said_to_be_synthetic(out: pathlib.Path) -> None:
    text = write_report(out)
    assert STATEMENT in text
    assert HYPOTHESES["glioma"] in text
    assert registration_hash(out) in text
    assert "| whole, swapped | 4 of 4 | 0.850 (" in text
    gain = "minus patches, same time: +5.0 points of Dice (95 % CI +5.0 to +5.0)"
    assert f"{gain}, 6 synthetic cases, Wilcoxon signed-rank p = 0.031" in text
    for line in text.splitlines():
        if line.startswith("Dice on held-out"):
            assert "synthetic" in line


def test_what_ended_early_or_was_not_begun_is_told(out: pathlib.Path) -> None:
    text = write_report(out)
    assert "| whole, plain | 3 of 4: the loss is nan at step 3 | not scored |" in text
    assert "| patches, same voxels | not begun |" in text
    assert "## multifocal" in text
    assert "Not trained yet." in text
    add_run(out, PATCHES, WHOLE, steps=2)
    assert "| patches, same voxels | 2 of 4 | 0.850 (" in write_report(out)


def test_hours_to_the_same_dice_stand_beside_the_papers(out: pathlib.Path) -> None:
    text = write_report(out)
    # Patches had 0.7 after four steps, and whole volumes more than that then.
    hours = 4 / 3600
    assert f"0.700 on synthetic validation cases: {hours:.4f} for patches" in text
    assert "The paper's hours of training on BraTS were 164 and 47." in text


def test_overhead_is_told_as_the_paper_did(out: pathlib.Path) -> None:
    rows = {
        PLAIN: {"step_seconds": 0.05, "busy_seconds": 0.06},
        UNTUNED: {"step_seconds": 0.15},
        TUNED: {"step_seconds": 0.13, "stall_seconds": 0.07},
        SWAPPED: {"step_seconds": 0.06, "busy_seconds": 0.8, "planned_bytes": 2**31},
        PATCHES: {"error": "out of memory"},
    }
    write_json(out / SPEEDS, {"device": "cpu: cpu", "programs": rows})
    text = write_report(out)
    assert "| LMS, tuned as published | 130.0 | 80.0 | -20.0% | 70.0 |" in text
    assert "| planned | 60.0 | 10.0 | -90.0% |" in text
    assert PAPER_CUT in text
    del rows[SWAPPED]["planned_bytes"]
    write_json(out / SPEEDS, {"device": "cpu: cpu", "programs": rows})
    text = write_report(out)
    assert "| by default, without a budget | 60.0 |" in text
    assert "a rehearsal, from which nothing follows" in text
    # A step of a second, of which the device was busy for 0.8.
    assert "| glioma | whole, swapped | 800.0 | 1,000.0 | 20.0% | 4.8% |" in text


def test_the_page_says_the_same(out: pathlib.Path) -> None:
    write_report(out)
    page = (out / "report.html").read_text()
    assert "width=device-width" in page
    assert STATEMENT in page
    assert "<td>not begun</td>" in page


def test_pictures_are_drawn_of_what_is_there(out: pathlib.Path) -> None:
    folder = add_run(out, SWAPPED, WHOLE)
    labels = np.zeros((8, 9, 7), np.uint8)
    labels[3:5, 3:6, 2:4] = 3
    shown = {"labels": labels, "truth": labels, "image": labels + np.float16(0.5)}
    np.savez(folder / SHOWN, name="BraTS-GLI-00000", spacing=np.ones(3), **shown)
    drawn = [path.name for path in draw_pictures(out)]
    assert drawn == ["curves-glioma.png", "pairs-glioma.png", "examples-glioma.png"]
    assert all(images.imread(out / name).std() > 0.01 for name in drawn)
    assert "![" in write_report(out)


def test_a_folder_without_an_experiment_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="holds no experiment"):
        write_report(tmp_path)
