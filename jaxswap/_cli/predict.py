"""The command `jaxswap predict`: labels for images, by a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxswap._cli.address_space import require_address_space
from jaxswap._cli.command import Commands, ExitCode, bad_input, tell, write
from jaxswap._cli.screen import make_console
from jaxswap._cli.start import start_jax

if TYPE_CHECKING:
    from jaxswap.medical.prediction.case_prediction import OpenedRun
    from jaxswap.medical.prediction.postprocessing import Postprocessing
    from jaxswap.medical.prediction.postprocessing_choice import PostprocessingChoice


def add_predict(commands: Commands) -> None:
    """Add `jaxswap predict` to what `add_subparsers` returned."""
    predict = commands.add_parser(
        "predict",
        help="label images with a trained network",
        description="Label images. Labels are written on the grid of the image, in "
        "its orientation, with the numbers of the data that the network was trained "
        "on. Exit code 0: all cases are labeled; 1: some are not, and are listed; 2: "
        "nothing was begun.",
    )
    predict.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="of jaxswap train; the probabilities of several are averaged",
    )
    predict.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a data set, a folder of images such as CASE_0000.nii.gz, or one image",
    )
    predict.add_argument("--out", type=Path, required=True, help="folder of the labels")
    predict.add_argument("--layout", help="of DATA; found by itself if left out")
    predict.add_argument(
        "--edition", metavar="NAME", help="write its numbers: brats2021, brats2023, ..."
    )
    predict.add_argument(
        "--only-validation",
        action="store_true",
        help="label only the cases of DATA that the run validated",
    )
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
        "--no-mirror", action="store_true", help="see each image once, not mirrored"
    )
    predict.add_argument(
        "--probabilities",
        action="store_true",
        help="save those too, a channel a region",
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="label cases again that are labeled"
    )
    _add_postprocessing(predict)
    predict.set_defaults(run=run_predict, extra="medical")


def _add_postprocessing(predict: argparse.ArgumentParser) -> None:
    predict.add_argument(
        "--choose-postprocessing",
        action="store_true",
        help="label the cases that the run validated, find what is best removed from "
        "labels, and record it in RUN for later predictions",
    )
    predict.add_argument(
        "--no-postprocessing", action="store_true", help="remove nothing from labels"
    )


def run_predict(parsed: argparse.Namespace) -> int:
    """Run `jaxswap predict`.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    require_address_space()
    start_jax()
    # Imported here, because the core needs neither flax nor orbax.
    from rich.progress import track

    from jaxswap.medical.data.faults import group_notes
    from jaxswap.medical.prediction.case_prediction import FAILURES, predict_case

    with bad_input():
        opened, choice = _opened(parsed)
    tell(opened.describe())
    written, notes, failures = 0, {}, {}
    for case in track(opened.cases, "predicting", console=make_console(stderr=True)):
        try:
            outcome = predict_case(
                opened,
                case,
                parsed.out,
                with_probabilities=parsed.probabilities,
                is_overwriting=parsed.overwrite or choice is not None,
            )
            if choice is not None and outcome.labels is not None:
                choice.add(case, outcome.labels)
        except FAILURES as error:
            failures[case.name] = str(error)
            continue
        written += outcome.is_written
        notes[case.name] = outcome.notes
    for line in group_notes(notes):
        tell(f"jaxswap: {line}")
    kept = len(opened.cases) - written - len(failures)
    told = f", {kept} were there already (--overwrite)" if kept else ""
    cases = "1 case" if written == 1 else f"{written} cases"
    write(f"{cases} labeled in {parsed.out}{told}.")
    if choice is not None and not failures:
        _record(choice.choose(), parsed.runs[0])
    return _end(failures, len(opened.cases))


def _opened(
    parsed: argparse.Namespace,
) -> tuple[OpenedRun, PostprocessingChoice | None]:
    """Open the runs, and a choice of post-processing if one is wanted."""
    from jaxswap.medical.data.writing import require_writable
    from jaxswap.medical.prediction.case_prediction import open_run
    from jaxswap.medical.prediction.postprocessing_choice import PostprocessingChoice

    is_choosing = parsed.choose_postprocessing
    require_writable(parsed.out)
    if is_choosing and len(parsed.runs) > 1:
        raise ValueError("`--choose-postprocessing` is done for one run at a time.")
    opened = open_run(
        parsed.runs,
        parsed.data,
        layout=parsed.layout,
        edition=parsed.edition,
        only_validation=parsed.only_validation or is_choosing,
        checkpoint=parsed.checkpoint,
        window=parsed.window,
        is_mirrored=not parsed.no_mirror,
        is_postprocessed=not (parsed.no_postprocessing or is_choosing),
    )
    if not is_choosing:
        return opened, None
    return opened, PostprocessingChoice(opened, parsed.data, parsed.layout)


def _record(chosen: Postprocessing, run: Path) -> None:
    from jaxswap.medical.runs.run_folder import RunFolder

    path = RunFolder(run).postprocessing
    chosen.save(path)
    write("\n".join(chosen.describe()) or "Nothing is best removed.")
    write(f"Written: {path}. Later predictions of the run use it.")


def _end(failures: dict[str, str], count: int) -> int:
    if not failures:
        return ExitCode.DONE
    tell(f"jaxswap: {len(failures)} of {count} cases are not labeled:")
    for name, reason in failures.items():
        tell(f"  {name}: {reason}")
    return ExitCode.FAILED
