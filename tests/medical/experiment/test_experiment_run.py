"""A whole experiment in small: cut off, resumed, with a rate that diverges.

All tests look at one experiment, which `conducted` begins, cuts off and resumes. Its
network is a single convolution. What takes time is to draw the cases.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import pytest
from rich.console import Console

from jaxswap._cli.main import main
from jaxswap.medical.experiment import experiment_run, experiment_speeds
from jaxswap.medical.experiment.experiment import METHODS, SWAPPED, Experiment
from jaxswap.medical.experiment.experiment_programs import TUNED, UNTUNED
from jaxswap.medical.experiment.experiment_records import (
    Recorded,
    all_recorded,
    read_speeds,
)
from jaxswap.medical.experiment.experiment_report import write_report
from jaxswap.medical.experiment.experiment_run import make_plan, run_experiment
from jaxswap.medical.experiment.experiment_time import Deadline

pytestmark = pytest.mark.slow

DIVERGES, LEARNS = 3e38, 1e-2
STEPS = 10


@dataclasses.dataclass(frozen=True)
class Conducted:
    """An experiment at each of its stages.

    Attributes:
        experiment: The experiment.
        failure: What it said when no program could be compiled, before all else.
        is_whole: Whether each of its parts said that all was done.
        cut: Its runs when it had been cut off.
        cut_report: Its report then.
        done: Its runs at the end.
        report: Its report at the end.
    """

    experiment: Experiment
    failure: str
    is_whole: list[bool]
    cut: list[Recorded]
    cut_report: str
    done: list[Recorded]
    report: str


@pytest.fixture(scope="module", autouse=True)
def _lenient_promotion() -> Iterator[None]:
    """Optax mixes integers and floats, here in several threads."""
    strict = {
        "jax_numpy_dtype_promotion": "strict",
        "jax_numpy_rank_promotion": "raise",
    }
    lenient = dict(zip(strict, ("standard", "allow"), strict=True))
    for name, value in lenient.items():
        jax.config.update(name, value)
    yield
    for name, value in strict.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def conducted(tmp_path_factory: pytest.TempPathFactory) -> Conducted:
    out = tmp_path_factory.mktemp("experiment") / "out"
    experiment = Experiment(
        out,
        arms=("multifocal",),
        size=40,
        spacing_mm=4.8,
        patch=16,
        training_cases=5,
        test_cases=2,
        steps=STEPS,
        learning_rates=(LEARNS, DIVERGES),
        settings={
            "network": "tiny_networks:OneConvolution",
            "precision": "float32",
            "augment": None,
            "shape": None,
        },
        minutes=1.0,
    )
    is_whole = []

    def conduct() -> tuple[list[Recorded], str]:
        console = Console(file=io.StringIO())
        is_whole.append(run_experiment(experiment, console))
        return all_recorded(out, "multifocal"), write_report(out)

    with pytest.MonkeyPatch.context() as patched:
        made: dict[str, Any] = {}

        def kept(*args: Any) -> dict[str, Any]:
            """Make the programs once for all parts."""
            made.update(made or experiment_run_make_programs(*args))
            return made

        experiment_run_make_programs = experiment_run.make_programs
        patched.setattr(experiment_run, "make_programs", kept)
        with patched.context() as failing:
            failing.setattr(experiment_speeds, "compile_all", _out_of_memory)
            with pytest.raises(ValueError, match="do not run here") as failed:
                conduct()
        patched.setattr(Deadline, "is_over", _over_after_steps(out, 4))
        cut, cut_report = conduct()
        patched.setattr(Deadline, "is_over", False)
        done, report = conduct()
        again, same = conduct()
    assert (again, same) == (done, report)
    failure = str(failed.value)
    return Conducted(experiment, failure, is_whole, cut, cut_report, done, report)


def _out_of_memory(programs: Mapping[str, object]) -> dict[str, dict[str, str]]:
    return {name: {"error": "RESOURCE_EXHAUSTED: Out of memory"} for name in programs}


def _over_after_steps(out: pathlib.Path, steps: int) -> Any:
    """Make the time be up when the first run that is scored has done some steps."""

    def is_over(deadline: Deadline) -> bool:
        del deadline
        runs = all_recorded(out, "multifocal")
        return any(r.steps >= steps and not r.run.is_trial for r in runs)

    return property(is_over)


def of(runs: list[Recorded], method: str) -> Recorded:
    """Return the run of a method that is no trial."""
    (found,) = [r for r in runs if r.run.method == method and not r.run.is_trial]
    return found


def test_programs_that_cannot_run_end_it_and_are_tried_again(
    conducted: Conducted,
) -> None:
    assert f"({SWAPPED}: RESOURCE_EXHAUSTED: Out of memory; " in conducted.failure
    assert "give a smaller `size` or `patch`" in conducted.failure
    rows = read_speeds(conducted.experiment.out)["programs"]
    assert not [name for name, row in rows.items() if "error" in row]


def test_a_cut_leaves_what_was_done_with_its_steps(conducted: Conducted) -> None:
    ours = of(conducted.cut, SWAPPED)
    assert 0 < ours.steps < STEPS
    assert len(ours.dice) == 2
    assert not ours.done
    assert f"| whole, swapped | {ours.steps} of {STEPS} |" in conducted.cut_report
    assert "| patches, same time | not begun |" in conducted.cut_report


def test_what_was_cut_goes_on_to_its_end(conducted: Conducted) -> None:
    assert conducted.is_whole == [False, True, True]
    for method in METHODS:
        found = of(conducted.done, method)
        assert found.steps == found.run.steps
        assert found.scored_steps == found.steps
        assert set(found.dice) == {"BraTS-GLI-00000-000", "BraTS-GLI-00001-000"}
    # Of 40 ** 3 voxels, or of 16 patches of 16 ** 3 voxels each.
    assert of(conducted.done, "patches, same voxels").steps == STEPS


def test_a_rate_that_diverges_is_told_and_the_others_go_on(
    conducted: Conducted,
) -> None:
    trials = {(r.run.method, r.run.rate): r for r in conducted.done if r.run.is_trial}
    assert len(trials) == 4
    for (_, rate), found in trials.items():
        assert ("the loss is" in found.ended) == (rate == DIVERGES)
    assert all(of(conducted.done, m).run.rate == LEARNS for m in METHODS)
    assert "at 3e+38: the loss is" in conducted.report


def test_swapping_does_not_change_what_is_learned(conducted: Conducted) -> None:
    assert "whole, swapped minus whole, plain: +0.0 points" in conducted.report
    ours, plain = (of(conducted.done, m) for m in (SWAPPED, "whole, plain"))
    assert ours.dice == pytest.approx(plain.dice)


def test_what_was_registered_is_told_by_its_hash(conducted: Conducted) -> None:
    registered = conducted.experiment.out / "registration.json"
    first_run = min(r.folder.stat().st_ctime for r in conducted.done)
    assert registered.stat().st_mtime <= first_run
    assert "SHA-256" in conducted.report


def test_programs_of_all_methods_are_timed_before(conducted: Conducted) -> None:
    rows = read_speeds(conducted.experiment.out)["programs"]
    assert {SWAPPED, UNTUNED, TUNED} < set(rows)
    assert all(row.get("step_seconds", 0.0) > 0 for row in rows.values())
    assert "LMS, tuned as published" in conducted.report


def test_the_command_reports_what_a_killed_process_left(
    conducted: Conducted, capsys: pytest.CaptureFixture[str]
) -> None:
    out = conducted.experiment.out
    (out / "report.md").unlink()
    assert main(["compare", str(out), "--report"]) == 0
    assert capsys.readouterr().out.strip() == conducted.report.strip() or (
        "![" in (out / "report.md").read_text()
    )
    assert json.loads((out / "results.json").read_text())["multifocal"]
    for name in ("curves", "pairs", "examples"):
        assert (out / f"{name}-multifocal.png").stat().st_size > 5000


def test_a_plan_needs_a_file_and_a_budget(conducted: Conducted) -> None:
    with pytest.raises(ValueError, match="--only-plan"):
        make_plan(conducted.experiment, Console(file=io.StringIO()))
