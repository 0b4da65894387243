"""The command `jaxswap check`: list all faults of a data set at once."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jaxswap._cli.command import (
    Commands,
    ExitCode,
    add_meaning,
    bad_input,
    meaning_of,
    write,
)
from jaxswap._cli.screen import make_console

if TYPE_CHECKING:
    from jaxswap.medical.data.audit import Survey
    from jaxswap.medical.data.case_files import Dataset


def add_check(commands: Commands) -> None:
    """Add `jaxswap check` to what `add_subparsers` returned."""
    check = commands.add_parser(
        "check",
        help="list everything that is wrong with a data set",
        description="Read every file of a data set, find all faults at once, and sum "
        "up channels, shapes, voxel sizes, labels and volumes. Faults of one kind are "
        "shown together. Exit code 0: cases can "
        "be used, with warnings perhaps; 1: some cannot; 2: this is no data set.",
    )
    check.add_argument(
        "data", type=Path, metavar="DIR", help="the data set's folder, or a datalist"
    )
    check.add_argument(
        "--layout",
        metavar="NAME",
        help="brats, decathlon, nnunet or datalist; found by itself if left out",
    )
    add_meaning(check)
    check.add_argument(
        "--workers", type=int, default=4, help="cases read side by side (%(default)s)"
    )
    shown = check.add_mutually_exclusive_group()
    shown.add_argument(
        "--all",
        action="store_true",
        help="show each fault, not only the worst of each kind",
    )
    shown.add_argument(
        "--csv", action="store_true", help="write each fault as CSV to stdout"
    )
    shown.add_argument("--json", action="store_true", help="write JSON to stdout")
    check.set_defaults(run=run_check, extra="medical")


def run_check(parsed: argparse.Namespace) -> int:
    """Run `jaxswap check`.

    Args:
        parsed: The options of `add_check`.

    Returns:
        0 if every case can be used, 1 if some cannot.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    # Imported here, because the core needs neither nibabel nor rich.
    from jaxswap.medical.data.datasets import find_dataset
    from jaxswap.medical.data.fault_groups import to_csv
    from jaxswap.medical.preparing.audit_summary import show, summarize_survey

    with bad_input():
        dataset = find_dataset(
            parsed.data, layout=parsed.layout, edition=meaning_of(parsed)
        )
        found = _survey(dataset, parsed.workers)
    if parsed.json:
        write(json.dumps(summarize_survey(found), indent=2))
    elif parsed.csv:
        write(to_csv(found.faults, found.dataset.root).rstrip("\n"))
    else:
        show(found, make_console(), is_each_shown=parsed.all)
    return ExitCode.FAILED if found.errors else ExitCode.DONE


def _survey(dataset: Dataset, workers: int) -> Survey:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from jaxswap.medical.data.audit import survey

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # To stderr, so that stdout holds only the result.
    stderr = make_console(stderr=True)
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("reading cases", total=len(dataset.cases))
        return survey(dataset, workers=workers, advance=lambda: progress.advance(task))
