"""The command `jaxswap predict`: labels for images, by a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxswap._cli.command import Commands, ExitCode, bad_input, write
from jaxswap._cli.start import start_jax


def add_predict(commands: Commands) -> None:
    """Add `jaxswap predict` to what `add_subparsers` returned."""
    predict = commands.add_parser(
        "predict",
        help="label images with a trained network",
        description="Label every case of a data set. Labels are written on the grid "
        "of the input, in its orientation, with the numbers of its edition.",
    )
    predict.add_argument(
        "run_folder", type=Path, metavar="RUN", help="of jaxswap train"
    )
    predict.add_argument("data", type=Path, metavar="DATA", help="cases to label")
    predict.add_argument("--out", type=Path, required=True, help="folder of the labels")
    predict.add_argument("--layout", help="of DATA; found by itself if left out")
    predict.add_argument(
        "--checkpoint", choices=("best", "latest"), default="best", help="(%(default)s)"
    )
    predict.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="windows of this side, not whole volumes",
    )
    predict.add_argument(
        "--no-mirror", action="store_true", help="see each window once, not mirrored"
    )
    predict.add_argument(
        "--probabilities",
        action="store_true",
        help="save those too, a channel a region",
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="label cases again that are labeled"
    )
    predict.set_defaults(run=run_predict, extra="medical")


def run_predict(parsed: argparse.Namespace) -> int:
    """Run `jaxswap predict`.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    start_jax()
    # Imported here, because the core needs neither flax nor orbax.
    from rich.console import Console
    from rich.progress import track

    from jaxswap.medical.data.writing import require_writable
    from jaxswap.medical.prediction.case_prediction import open_run, predict_case

    with bad_input():
        require_writable(parsed.out)
        opened = open_run(
            parsed.run_folder,
            parsed.data,
            layout=parsed.layout,
            checkpoint=parsed.checkpoint,
            window=parsed.window,
            is_mirrored=not parsed.no_mirror,
        )
        console = Console(stderr=True)
        written = 0
        for case in track(opened.cases, "predicting", console=console):
            written += predict_case(
                opened,
                case,
                parsed.out,
                with_probabilities=parsed.probabilities,
                is_overwriting=parsed.overwrite,
            )
    kept = len(opened.cases) - written
    told = f", {kept} were there already (--overwrite)" if kept else ""
    write(f"{written} cases labeled in {parsed.out}{told}.")
    return ExitCode.DONE
