"""The command `jaxswap compare`: the papers' experiment on synthetic cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxswap._cli.command import Commands, ExitCode, bad_input
from jaxswap._cli.screen import make_console
from jaxswap._cli.start import start_jax

_ARMS = ("glioma", "multifocal", "parcellation")


def add_compare(commands: Commands) -> None:
    """Add `jaxswap compare` to what `add_subparsers` returned."""
    compare = commands.add_parser(
        "compare",
        help="whole volumes with swapping against patches, and without swapping",
        description="Draw synthetic cases, train on whole volumes with swapping, on "
        "patches, and on whole volumes without swapping, and score all on cases that "
        "none has seen. What is expected is written down first. The same command goes "
        "on where it was stopped.",
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
        ("--steps", 2000, "steps of each run"),
        ("--seeds", 1, "runs of each method"),
        ("--workers", 1, "processes that draw cases"),
    ):
        compare.add_argument(
            name, type=int, default=default, metavar="N", help=f"{told} (%(default)s)"
        )
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


def run_compare(parsed: argparse.Namespace) -> int:
    """Run `jaxswap compare`.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    start_jax()
    # Imported here, because the core needs neither flax nor orbax.

    from jaxswap.medical.experiment.experiment import (
        Experiment,
        register,
        run_experiment,
    )
    from jaxswap.medical.experiment.experiment_report import write_report
    from jaxswap.medical.runs.run_config import make_config, parse_setting

    with bad_input():
        settings = dict(map(parse_setting, parsed.set))
        made = make_config({"data": "unused"} | settings)
        experiment = Experiment(
            out=parsed.out,
            arms=tuple(parsed.arms),
            size=parsed.size,
            spacing_mm=parsed.spacing_mm,
            patch=parsed.patch,
            training_cases=parsed.cases,
            test_cases=parsed.test_cases,
            steps=parsed.steps,
            learning_rates=tuple(parsed.learning_rates),
            seeds=parsed.seeds,
            settings={name: getattr(made, name) for name in settings},
            workers=parsed.workers,
        )
        register(experiment)
    console = make_console()
    results, text = [], ""
    for result in run_experiment(experiment, console):
        results.append(result)
        text = write_report(parsed.out, results)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return ExitCode.DONE
