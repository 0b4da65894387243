"""The command `jaxswap compare`: the papers' experiment on synthetic cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxswap._cli.address_space import require_address_space
from jaxswap._cli.command import Commands, ExitCode, bad_input, count_processors, write
from jaxswap._cli.screen import make_console
from jaxswap._cli.start import start_jax

if TYPE_CHECKING:
    from jaxswap.medical.experiment.experiment import Experiment

_ARMS = ("glioma", "multifocal", "parcellation")


def add_compare(commands: Commands) -> None:
    """Add `jaxswap compare` to what `add_subparsers` returned."""
    compare = commands.add_parser(
        "compare",
        help="whole volumes with swapping against patches, and without swapping",
        description="Draw synthetic cases, train on whole volumes with swapping, on "
        "patches, and on whole volumes without swapping, and score all on cases that "
        "none has seen. What is expected is written down first. It can be stopped at "
        "any moment: OUT/report.md and report.html say what was found so far, and the "
        "same command goes on.",
    )
    compare.add_argument("out", type=Path, metavar="OUT", help="folder of everything")
    compare.add_argument(
        "--arms",
        nargs="+",
        choices=_ARMS,
        default=["glioma", "multifocal"],
        help="(%(default)s)",
    )
    for name, default, told in (
        ("--size", 96, "voxels along each side of a volume"),
        ("--patch", 64, "voxels along each side of a patch"),
        ("--cases", 40, "cases to train on"),
        ("--test-cases", 50, "cases to score on"),
        ("--seeds", 1, "runs of each method"),
        ("--workers", count_processors(), "processes that draw and prepare cases"),
    ):
        compare.add_argument(
            name, type=int, default=default, metavar="N", help=f"{told} (%(default)s)"
        )
    _add_limits(compare)
    compare.add_argument(
        "--spacing-mm", type=float, default=2.0, help="side of a voxel (%(default)s)"
    )
    compare.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=[1e-3, 3e-3],
        metavar="RATE",
        help="tried by each method (%(default)s)",
    )
    compare.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of the runs, as for jaxswap train",
    )
    compare.set_defaults(run=run_compare, extra="medical")


def _add_limits(compare: argparse.ArgumentParser) -> None:
    """Add how long it takes, and what only a part of it does."""
    compare.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="steps on whole volumes (2000, or as many as --minutes allow)",
    )
    compare.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="time from start to report, divided among arms and methods",
    )
    compare.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="plan of the step on whole volumes; it is made and written if missing",
    )
    compare.add_argument(
        "--only-plan", action="store_true", help="make the plan and stop"
    )
    compare.add_argument(
        "--report",
        action="store_true",
        help="only write the report of what OUT holds, such as after a kill",
    )


def run_compare(parsed: argparse.Namespace) -> int:
    """Run `jaxswap compare`.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    require_address_space()
    start_jax()
    # Imported here, because the core needs neither flax nor orbax.
    from jaxswap.medical.experiment.experiment import register
    from jaxswap.medical.experiment.experiment_cases import check_experiment
    from jaxswap.medical.experiment.experiment_pictures import draw_pictures
    from jaxswap.medical.experiment.experiment_report import write_report
    from jaxswap.medical.experiment.experiment_run import make_plan, run_experiment
    from jaxswap.medical.runs.processes import interrupted_when_told

    console, out = make_console(), parsed.out
    with bad_input():
        if parsed.report:
            write_report(out)
            draw_pictures(out)
            write(write_report(out).rstrip())
            return ExitCode.DONE
        experiment = _experiment(parsed)
        if parsed.only_plan:
            make_plan(experiment, console)
            return ExitCode.DONE
        check_experiment(experiment)
        register(experiment)
    is_done = is_interrupted = False
    try:
        with interrupted_when_told(), bad_input():
            is_done = run_experiment(experiment, console, lambda: write_report(out))
    except KeyboardInterrupt:
        is_interrupted = True
    write_report(out)
    draw_pictures(out)
    console.print(write_report(out), markup=False, highlight=False, soft_wrap=True)
    if is_interrupted:
        console.print("Interrupted. The same command goes on.")
        return ExitCode.INTERRUPTED
    if not is_done:
        console.print("Time is up. The same command goes on.")
    return ExitCode.DONE


def _experiment(parsed: argparse.Namespace) -> Experiment:
    """Make the experiment that the options describe."""
    from jaxswap.medical.experiment.experiment import Experiment
    from jaxswap.medical.runs.run_config import make_config, parse_setting

    settings = dict(map(parse_setting, parsed.set))
    made = make_config({"data": "unused"} | settings)
    steps = parsed.steps
    if steps is None and parsed.minutes is None:
        steps = 2000
    return Experiment(
        out=parsed.out,
        arms=tuple(parsed.arms),
        size=parsed.size,
        spacing_mm=parsed.spacing_mm,
        patch=parsed.patch,
        training_cases=parsed.cases,
        test_cases=parsed.test_cases,
        steps=steps,
        learning_rates=tuple(parsed.learning_rates),
        seeds=parsed.seeds,
        settings={name: getattr(made, name) for name in settings},
        workers=parsed.workers,
        minutes=parsed.minutes,
        plan=parsed.plan,
    )
