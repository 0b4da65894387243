"""The command `jaxswap demo`: train on a real head and compare memory methods."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxswap._cli.commands import BadInputError

_DONE = 0


def add_demo(commands: Any) -> None:
    """Add `jaxswap demo` to what `add_subparsers` returned."""
    demo = commands.add_parser(
        "demo",
        help="train a 3D U-Net on a real head and compare memory methods",
        description="Train a 3D U-Net on whole deformed volumes of the MNI152 head "
        "on this machine, write its labels as NIfTI, and compare what one training "
        "step at 192^3 needs on a GPU by method.",
    )
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="FOLDER")
    demo.add_argument(
        "--size", type=int, default=64, help="voxels a side (%(default)s)"
    )
    demo.add_argument("--steps", type=int, default=80, help="training steps")
    demo.add_argument("--seed", type=int, default=0, help="seed of cases and weights")
    demo.add_argument(
        "--image", type=Path, metavar="NIFTI", help="image to use instead of MNI152"
    )
    demo.add_argument(
        "--labels", type=Path, metavar="NIFTI", help="labels 0..3 of --image"
    )
    demo.add_argument(
        "--target", default="h100", help="GPU to compile for (%(default)s)"
    )
    demo.add_argument(
        "--skip-table", action="store_true", help="leave out the comparison of methods"
    )
    demo.set_defaults(run=run_demo)


def run_demo(parsed: argparse.Namespace) -> int:
    """Run `jaxswap demo`.

    Raises:
        BadInputError: If an option or an input file does not fit.
    """
    # Imported here so that the core needs neither flax nor nibabel.
    from rich.console import Console

    from jaxswap.medical.experiment.demo import DemoConfig, prepare_demo
    from jaxswap.medical.experiment.demo import run_demo as run
    from jaxswap.medical.training.training import TrainConfig

    try:
        config = DemoConfig(
            out=parsed.out,
            size=parsed.size,
            train=TrainConfig(steps=parsed.steps, seed=parsed.seed),
            image=parsed.image,
            labels=parsed.labels,
            target=None if parsed.skip_table else parsed.target,
        )
        ready = prepare_demo(config)
    except (ValueError, OSError, ImportError) as error:
        raise BadInputError(str(error)) from error
    run(ready, Console())
    return _DONE
