"""The command `jaxswap`.

Exit codes: 0 done, 1 something failed while running, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jaxswap._cli.check import add_check
from jaxswap._cli.commands import (
    BadInputError,
    add_calibrate,
    add_inspect,
    add_plan,
    add_targets,
)
from jaxswap._cli.compare import add_compare
from jaxswap._cli.evaluate import add_evaluate
from jaxswap._cli.predict import add_predict
from jaxswap._cli.synth import add_synth
from jaxswap._cli.train import add_train

MEDICAL = (add_check, add_train, add_predict, add_evaluate, add_synth, add_compare)

_DONE, _FAILED, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the command's name; None takes them from the shell.

    Returns:
        The exit code.
    """
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return _fail("interrupted.", _INTERRUPTED)
    except BadInputError as error:
        return _fail(str(error), _BAD_INPUT)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        # The medical commands check what they are given as they come to it.
        if parsed.run.__module__ not in {add.__module__ for add in MEDICAL}:
            raise
        return _fail(str(error), _BAD_INPUT)
    except (OSError, FloatingPointError) as error:
        return _fail(str(error), _FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxswap",
        description="Train models whose activations do not fit in GPU memory.",
    )
    parser.add_argument("--version", action="version", version=f"jaxswap {_version()}")
    commands = parser.add_subparsers(title="commands", required=True)
    _add_demo(commands)
    for add in (add_plan, add_inspect, add_targets, add_calibrate):
        add(commands)
    for add in MEDICAL:
        add(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    demo.set_defaults(run=_run_demo)


def _run_demo(parsed: argparse.Namespace) -> int:
    # Imported here so that the core needs neither flax nor nibabel.
    from rich.console import Console

    from jaxswap.medical.experiment.demo import DemoConfig, prepare_demo, run_demo
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
    run_demo(ready, Console())
    return _DONE


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"jaxswap: {line}\n")
    return code


def _version() -> str:
    try:
        return version("jaxswap")
    except PackageNotFoundError:
        return "unknown (not installed)"


if __name__ == "__main__":
    raise SystemExit(main())
