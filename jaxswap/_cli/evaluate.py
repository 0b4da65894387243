"""The command `jaxswap evaluate`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxswap._cli.command import (
    BadInputError,
    Commands,
    ExitCode,
    add_meaning,
    bad_input,
    count_processors,
    meaning_of,
    tell,
    write,
)
from jaxswap._cli.screen import make_console

if TYPE_CHECKING:
    from jaxswap.medical.scoring.lesion_scores import LesionRules

_MOST_WORKERS = 4  # Each needs some hundred MB.


def add_evaluate(commands: Commands) -> None:
    """Add `jaxswap evaluate`.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = commands.add_parser(
        "evaluate",
        help="score predicted labels against references",
        description="Score predicted labels against references: Dice, HD95, surface "
        "Dice, lesions and volumes of each region. Writes metrics.csv, summary.json "
        "and report.html, and comparison.csv with --against. The exit code is 1 if "
        "some cases could not be scored, and 2 with nothing written if none could.",
    )
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="folder of label files named after their cases",
    )
    parser.add_argument(
        "references",
        type=Path,
        metavar="REFERENCES",
        help="a data set, or a folder of label files named like the predictions",
    )
    add_meaning(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="results (PREDICTIONS/evaluation)"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="images for the pictures"
    )
    parser.add_argument(
        "--only-predicted",
        action="store_true",
        help="leave out references without a prediction",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="predictions of another model, to compare case by case",
    )
    parser.add_argument("--workers", type=int, help="processes that score")
    parser.add_argument("--json", action="store_true", help="write JSON to stdout")
    _add_rules(parser.add_argument_group("what the scores depend on"))
    parser.set_defaults(run=run_evaluate, extra="medical")


def _add_rules(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tolerance", type=float, default=1.0, help="of the surface Dice in mm (1)"
    )
    group.add_argument(
        "--challenge",
        metavar="NAME",
        help="lesions and penalties as brats2023-gli, -ssa, -ped, -men or -met scores "
        "them; the options below change one of its rules",
    )
    group.add_argument(
        "--lesion-dilation",
        type=int,
        metavar="VOXELS",
        help="of the reference, to merge pieces of a lesion (3)",
    )
    group.add_argument(
        "--smallest-lesion",
        type=float,
        metavar="MM3",
        help="lesions of this volume or less are not counted (50)",
    )
    group.add_argument(
        "--penalty",
        type=float,
        metavar="MM",
        help="HD95 of what only one of both has (the diagonal of the image)",
    )


def run_evaluate(parsed: argparse.Namespace) -> int:
    """Run `jaxswap evaluate`.

    Args:
        parsed: What the parser of `add_evaluate` returned.

    Returns:
        The exit code: 0, or 1 if some cases could not be scored.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    from jaxswap._cli.score_tables import compared, tabulate
    from jaxswap.medical.data.faults import group_notes
    from jaxswap.medical.data.writing import require_writable
    from jaxswap.medical.scoring.case_scoring import ScoringRules
    from jaxswap.medical.scoring.evaluation import evaluate
    from jaxswap.medical.scoring.evaluation_files import to_summary, write_evaluation
    from jaxswap.medical.scoring.paired_comparison import compare

    with bad_input():
        if parsed.against is not None and not parsed.against.is_dir():
            raise BadInputError(f"`--against` is {parsed.against}: no such folder.")
        out = parsed.predictions / "evaluation" if parsed.out is None else parsed.out
        require_writable(out)
        score = partial(
            evaluate,
            references=parsed.references,
            label_map=meaning_of(parsed),
            images=parsed.images,
            rules=ScoringRules(parsed.tolerance, _lesion_rules(parsed)),
            only_predicted=parsed.only_predicted,
            workers=min(count_processors(), _MOST_WORKERS)
            if parsed.workers is None
            else parsed.workers,
            console=make_console(stderr=True),
        )
        evaluation, comparison = score(parsed.predictions), None
        if parsed.against is not None:
            comparison = compare(evaluation, score(parsed.against))
    written = write_evaluation(evaluation, out, comparison)
    for line in group_notes({case.case: case.notes for case in evaluation.scores}):
        tell(f"jaxswap: {line}")
    if comparison is not None and comparison.left_out:
        left_out = ", ".join(comparison.left_out)
        tell(f"jaxswap: not compared, because only one model has a score: {left_out}.")
    for fault in evaluation.faults:
        tell(f"jaxswap: {fault.case}: {' '.join(fault.reasons)}")
    for path in evaluation.unmatched:
        tell(f"jaxswap: {path}: belongs to no reference.")
    if parsed.json:
        write(json.dumps(to_summary(evaluation, comparison), indent=2))
    else:
        console = make_console()
        console.print(tabulate(evaluation))
        if comparison is not None:
            console.print(compared(comparison))
        names = ", ".join(path.name for path in written)
        # Whole, so that it can be copied.
        write(f"Written to {out}: {names}.")
    return ExitCode.FAILED if evaluation.faults else ExitCode.DONE


def _lesion_rules(parsed: argparse.Namespace) -> LesionRules:
    from jaxswap.medical.scoring.lesion_scores import CHALLENGES, LesionRules

    rules = LesionRules()
    if parsed.challenge is not None:
        rules = CHALLENGES.get(parsed.challenge)
    if rules is None:
        raise ValueError(
            f"`--challenge` is {parsed.challenge!r}; choose one of "
            f"{', '.join(CHALLENGES)}."
        )
    given = {
        "dilation_voxels": parsed.lesion_dilation,
        "smallest_mm3": parsed.smallest_lesion,
        "penalty_mm": parsed.penalty,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(rules, **changes)
