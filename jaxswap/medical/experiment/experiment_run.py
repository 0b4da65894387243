"""Doing an experiment: the parts that are missing, within its time.

It can be ended at any moment. Each part that was finished is in the folder, and the
same call does the rest.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.experiment.experiment import (
    PATCHES,
    PLAIN,
    SWAPPED,
    TIMED_PATCHES,
    Experiment,
    register,
    steps_of_patches,
)
from jaxswap.medical.experiment.experiment_cases import ArmCases, drawing
from jaxswap.medical.experiment.experiment_files import Steps, read_json, write_json
from jaxswap.medical.experiment.experiment_programs import make_programs, peak_bytes
from jaxswap.medical.experiment.experiment_records import (
    DONE,
    ENDED,
    SCORED,
    SHOWN,
    Recorded,
    Run,
    begin,
    recorded,
)
from jaxswap.medical.experiment.experiment_scoring import restore, score
from jaxswap.medical.experiment.experiment_speeds import measure_speeds, step_seconds
from jaxswap.medical.experiment.experiment_time import (
    Deadline,
    divide,
    validate_every,
)
from jaxswap.medical.preparing.preparing import Prepared
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training.run_programs import RunPrograms
from jaxswap.medical.training.run_progress import RunProgress
from jaxswap.medical.training.training_run import train

_REFRESH_SECONDS = 10.0  # So often the report is written while a run trains.
_STEPS = "steps.json"
_FAILURES = (FloatingPointError, RuntimeError, ValueError)


@dataclass(frozen=True)
class _Session:
    """What all parts of an experiment need.

    Attributes:
        experiment: The experiment.
        console: Where progress is shown.
        deadline: When it ends.
        programs: Programs by method.
        refresh: Writes the report.
    """

    experiment: Experiment
    console: Console
    deadline: Deadline
    programs: dict[str, RunPrograms]
    refresh: Callable[[], object]

    def say(self, what: str) -> None:
        """Print a line."""
        self.console.print(what, highlight=False, soft_wrap=True)


def run_experiment(
    experiment: Experiment,
    console: Console,
    refresh: Callable[[], object] = lambda: None,
) -> bool:
    """Do the parts of an experiment that are missing, while there is time.

    Args:
        experiment: The experiment.
        console: Where progress is shown.
        refresh: Is called when something can be added to the report.

    Returns:
        Whether all is done.

    Raises:
        ValueError: If the folder holds another experiment, or a setting does not fit.
        KeyboardInterrupt: After a signal. What was done is kept.
    """
    register(experiment)
    deadline = Deadline.of(experiment.minutes)
    with drawing(experiment, console) as cases:
        look = cases.look(experiment.arms[0])
        cases.begin()
        programs = make_programs(experiment, look.dataset, console.print)
        session = _Session(experiment, console, deadline, programs, refresh)
        measure_speeds(experiment.out, programs, session.say)
        refresh()
        for number, arm in enumerate(experiment.arms):
            found = cases.wait(arm)
            left = deadline.left / (len(experiment.arms) - number)
            if not _do_arm(session, arm, found, left):
                return False
    return True


def make_plan(experiment: Experiment, console: Console) -> None:
    """Make the plan of the step on whole volumes, for a later run on another machine.

    Args:
        experiment: The experiment. It names the plan's file, a budget and a target.
        console: Where it is said what is planned.

    Raises:
        ValueError: If one of these is not given.
    """
    settings = experiment.settings
    if experiment.plan is None or not settings.get("device_memory"):
        raise ValueError("`--only-plan` needs `--plan FILE` and a device_memory.")
    with (
        TemporaryDirectory() as folder,
        drawing(dataclasses.replace(experiment, out=Path(folder)), console) as cases,
    ):
        dataset = cases.look(experiment.arms[0]).dataset
        make_programs(experiment, dataset, console.print)
    console.print(f"The plan is in {experiment.plan}.", markup=False, soft_wrap=True)


def _do_arm(
    session: _Session, arm: str, cases: Mapping[str, ArmCases], seconds: float
) -> bool:
    """Try rates, train and score. Return whether all was done."""
    experiment, deadline = session.experiment, session.deadline
    path = experiment.out / arm / _STEPS
    if not path.exists():
        divided = divide(experiment, step_seconds(session.experiment.out), seconds)
        write_json(path, divided._asdict())
    division = read_json(path, Steps)
    assert division is not None
    steps, trial = division["steps"], division["trial"]
    rates = {}
    for method in (SWAPPED, PATCHES):
        rates[method] = _best_rate(session, arm, method, trial[method], cases[method])
    rates |= {PLAIN: rates[SWAPPED], TIMED_PATCHES: rates[PATCHES]}
    for seed in range(experiment.seeds):
        for method in (SWAPPED, PATCHES, TIMED_PATCHES, PLAIN):
            rate = rates[method]
            if rate is None:
                continue
            wanted = _steps_of(session, arm, method, seed, steps, rates)
            every = _validate_every(session, arm, method, wanted, rates)
            run = Run(arm, method, rate, seed, wanted, every)
            if deadline.is_over and not _is_finished(session, run):
                session.say(f"{arm}: time is up before {method}")
                return False
            used = cases[SWAPPED if method in (SWAPPED, PLAIN) else PATCHES]
            _train(session, run, used)
            _score(session, run, used)
            session.refresh()
    return not deadline.is_over or _all_done(session, arm, rates)


def _best_rate(
    session: _Session, arm: str, method: str, steps: int, cases: ArmCases
) -> float | None:
    """Return the learning rate that validates best. None if all of them diverge."""
    rates = session.experiment.learning_rates
    if len(rates) == 1:
        return rates[0]
    scores = {}
    for rate in rates:
        run = Run(arm, method, rate, 0, steps, steps, is_trial=True)
        if session.deadline.is_over and not _is_finished(session, run):
            continue
        found = _train(session, run, cases)
        if found.done and found.done["validation"] is not None:
            scores[rate] = found.done["validation"]
    return max(scores, key=lambda rate: scores[rate]) if scores else None


def _train(session: _Session, run: Run, cases: ArmCases) -> Recorded:
    """Train, or recall an earlier training."""
    out, programs = session.experiment.out, _programs_of(session, run)
    before = recorded(run.folder(out))
    if before is not None and (before.done or before.ended):
        return before
    folder, config = begin(run, out), run.config(session.experiment)
    training = dataclasses.replace(
        programs.run, config=config, folder=folder, cases=cases.cases
    )
    what = "trial, " if run.is_trial else ""
    last = [time.monotonic()]

    def stop_after(step: int) -> bool:
        del step
        if time.monotonic() - last[0] > _REFRESH_SECONDS:
            last[0] = time.monotonic()
            session.refresh()
        return session.deadline.is_over

    try:
        with RunProgress(session.console) as progress:
            progress.line(
                f"{run.arm}: {run.method}, {what}learning rate {run.rate:g}, "
                f"{run.steps} steps"
            )
            started = time.perf_counter()
            scores = train(training, progress, stop_after=stop_after, programs=programs)
            wall = time.perf_counter() - started
    except _FAILURES as error:
        write_json(folder.path / ENDED, {"reason": str(error).partition("\n")[0]})
        session.say(f"{run.arm}: {run.method} ended: {error}")
        return _recorded(run, session)
    found = _recorded(run, session)
    if found.steps == run.steps:
        _, extra = restore(folder)
        content = {
            "wall_seconds": wall,
            "validation_seconds": extra.get("validation_seconds", 0.0),
            "validation": float(np.mean(list(scores.values()))) if scores else None,
            "peak_bytes": peak_bytes(),
        }
        write_json(folder.path / DONE, content)
    return _recorded(run, session)


def _score(session: _Session, run: Run, cases: ArmCases) -> None:
    """Score the last state of a run on the test cases, unless that is done."""
    found = _recorded(run, session)
    is_current = bool(found.dice) and found.scored_steps == found.steps
    if is_current or found.ended or not found.steps:
        return
    folder = run.folder(session.experiment.out)
    programs = _programs_of(session, run)
    assert programs.predictor is not None
    parameters, _ = restore(RunFolder(folder))
    session.say(f"{run.arm}: {run.method}, scoring {len(cases.test)} test cases")

    def show(case: Prepared, labels: np.ndarray) -> None:
        with whole_file(folder / SHOWN) as temporary:
            np.savez_compressed(
                temporary,
                name=case.name,
                labels=labels,
                truth=np.asarray(case.labels),
                image=np.asarray(case.image[..., -1]),
                spacing=np.array(case.grid.spacing_mm),
            )

    threads = max(1, session.experiment.workers)
    scores = score(programs.predictor, parameters, cases.test, threads, show)
    write_json(folder / SCORED, {**scores._asdict(), "scored_steps": found.steps})


def _steps_of(
    session: _Session,
    arm: str,
    method: str,
    seed: int,
    steps: int,
    rates: Mapping[str, float | None],
) -> int:
    """Return the steps of a run."""
    if method in (SWAPPED, PLAIN):
        return steps
    if method == PATCHES:
        return steps_of_patches(session.experiment, steps)
    speeds = step_seconds(session.experiment.out)
    ours, patches = speeds[SWAPPED], speeds[PATCHES]
    for other in (SWAPPED, PATCHES):
        rate = rates[other]
        run = Run(arm, other, rate or 0.0, seed, 1, 1)
        found = recorded(run.folder(session.experiment.out))
        if found is None or not found.history.metrics:
            continue
        voxels = session.experiment.voxels(other, 1)
        seconds = found.seconds_by_step(voxels)[found.steps] / found.steps
        ours, patches = (seconds, patches) if other == SWAPPED else (ours, seconds)
    return max(1, round(steps * ours / patches))


def _validate_every(
    session: _Session,
    arm: str,
    method: str,
    steps: int,
    rates: Mapping[str, float | None],
) -> int:
    """Return the steps between validations, from what one took in the trials."""
    like = SWAPPED if method in (SWAPPED, PLAIN) else PATCHES
    run = Run(arm, like, rates[like] or 0.0, 0, 1, 1, is_trial=True)
    found = recorded(run.folder(session.experiment.out))
    if found is None or not found.done:
        return steps
    seconds = step_seconds(session.experiment.out)[like]
    return validate_every(steps, seconds, found.done["validation_seconds"])


def _programs_of(session: _Session, run: Run) -> RunPrograms:
    """Return the programs of a run. Those of a further seed are made now."""
    method = PATCHES if run.method == TIMED_PATCHES else run.method
    found = session.programs[method]
    if run.seed == found.run.config.seed:
        return found
    name = f"{method}, seed {run.seed}"
    if name not in session.programs:
        config = dataclasses.replace(found.run.config, seed=run.seed)
        made = RunPrograms(dataclasses.replace(found.run, config=config))
        made.cases_at_a_time = found.cases_at_a_time
        session.programs[name] = made
    return session.programs[name]


def _recorded(run: Run, session: _Session) -> Recorded:
    found = recorded(run.folder(session.experiment.out))
    assert found is not None
    return found


def _is_finished(session: _Session, run: Run) -> bool:
    found = recorded(run.folder(session.experiment.out))
    return found is not None and bool(found.ended or (found.done and found.dice))


def _all_done(session: _Session, arm: str, rates: Mapping[str, float | None]) -> bool:
    return all(
        _is_finished(session, Run(arm, method, rate, seed, 1, 1))
        for method, rate in rates.items()
        if rate is not None
        for seed in range(session.experiment.seeds)
    )
