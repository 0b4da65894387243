"""The files of an evaluation: a table, a summary and a page.

| file           | what it holds                                                       |
| -------------- | ------------------------------------------------------------------- |
| `metrics.csv`  | one row for each case and region, and one for each case not scored  |
| `summary.json` | statistics of each region, faults, and the rules of the scores      |
| `report.html`  | both to look at, with plots and pictures                            |

If two models are compared, there is a `comparison.csv`, too, with a row for each region
and metric, and the other files hold the comparison as well.
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxswap.medical.data.case_files import Source
from jaxswap.medical.data.reading import check_grid
from jaxswap.medical.data.volumes import Volume, load_channels
from jaxswap.medical.data.writing import require_writable, whole_file
from jaxswap.medical.scoring.case_scoring import CaseScores, LabelPair, read_labels
from jaxswap.medical.scoring.evaluation import Evaluation
from jaxswap.medical.scoring.evaluation_page import evaluation_page
from jaxswap.medical.scoring.outlines import outlines_png
from jaxswap.medical.scoring.paired_comparison import Comparison
from jaxswap.medical.scoring.paired_comparison import to_csv as comparison_csv

_COLUMNS: tuple[str, ...] = (
    "case",
    "region",
    "dice",
    "hd95_mm",
    "surface_dice",
    "lesion_dice",
    "lesion_hd95_mm",
    "reference_ml",
    "prediction_ml",
    "difference_ml",
    "lesions_found",
    "lesions_missed",
    "lesions_made_up",
    "fault",
)


def write_evaluation(
    evaluation: Evaluation,
    out: str | os.PathLike[str],
    comparison: Comparison | None = None,
) -> tuple[Path, ...]:
    """Write table, summary and page of an evaluation.

    Each file is complete or absent, and none is written before all could be made.

    Args:
        evaluation: From `evaluate`.
        out: Folder to write to. It is made if it is missing.
        comparison: With other predictions of the same cases. None for none.

    Returns:
        Paths of `metrics.csv`, `summary.json`, `report.html` and, if there is a
        comparison, `comparison.csv`.

    Raises:
        ValueError: If `out` cannot be written to.
    """
    out = Path(out)
    require_writable(out)
    contents = {
        "metrics.csv": to_csv(evaluation),
        "summary.json": json.dumps(to_summary(evaluation, comparison), indent=2) + "\n",
        "report.html": evaluation_page(evaluation, _pictures(evaluation), comparison),
    }
    if comparison is not None:
        contents["comparison.csv"] = comparison_csv(comparison)
    for name, text in contents.items():
        with whole_file(out / name) as temporary:
            # Bytes of a file's name that are no UTF-8 are written as escapes.
            temporary.write_bytes(text.encode(errors="backslashreplace"))
    return tuple(out / name for name in contents)


def to_csv(evaluation: Evaluation) -> str:
    """Return the scores as CSV: a row for each case and region.

    A case that could not be scored has one row with the reasons in column `fault`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for case in evaluation.scores:
        for region, scores in case.regions.items():
            row = asdict(scores)
            lesions = row.pop("lesions")
            for name in ("dice", "hd95_mm"):
                row[f"lesion_{name}"] = lesions.pop(name)
            row |= {f"lesions_{name}": count for name, count in lesions.items()}
            row["difference_ml"] = scores.difference_ml
            writer.writerow({"case": case.case, "region": region, **row})
    for fault in evaluation.faults:
        writer.writerow({"case": fault.case, "fault": " ".join(fault.reasons)})
    return text.getvalue()


def to_summary(
    evaluation: Evaluation, comparison: Comparison | None = None
) -> dict[str, Any]:
    """Return statistics, faults, notes, rules and comparison as plain values."""
    faults = evaluation.faults
    missing = sum(fault.is_missing for fault in faults)
    regions = {}
    for region in evaluation.label_map.regions:
        scores = evaluation.of_region(region)
        metrics = evaluation.summaries(region)
        regions[region] = {name: asdict(summary) for name, summary in metrics.items()}
        regions[region] |= {
            "lesions_found": sum(score.lesions.found for score in scores),
            "lesions_missed": sum(score.lesions.missed for score in scores),
            "lesions_made_up": sum(score.lesions.made_up for score in scores),
            "empty_references": sum(score.reference_ml == 0 for score in scores),
            "empty_predictions": sum(score.prediction_ml == 0 for score in scores),
        }
    return {
        "label_map": evaluation.label_map.name,
        "rules": asdict(evaluation.rules),
        "cases": {
            "scored": len(evaluation.scores),
            "missing": missing,
            "failed": len(faults) - missing,
            "left_out": len(evaluation.left_out),
        },
        "mean_dice_over_regions": asdict(evaluation.mean_dice()),
        "regions": regions,
        "faults": {fault.case: list(fault.reasons) for fault in faults},
        "notes": {s.case: list(s.notes) for s in evaluation.scores if s.notes},
        "predictions_without_reference": [str(p) for p in evaluation.unmatched],
        "comparison": None if comparison is None else asdict(comparison),
    }


def _pictures(evaluation: Evaluation) -> dict[str, tuple[CaseScores, bytes]]:
    """Draw the worst, the middle and the best case by mean Dice."""
    ranked = sorted(evaluation.scores, key=lambda case: case.mean_dice)
    chosen = {
        "worst case": ranked[0],
        "median case": ranked[(len(ranked) - 1) // 2],
        "best case": ranked[-1],
    }
    pictures, drawn = {}, set()
    for title, case in chosen.items():
        if case.case not in drawn:
            drawn.add(case.case)
            pictures[title] = (case, _picture(case, evaluation))
    return pictures


def _picture(case: CaseScores, evaluation: Evaluation) -> bytes:
    read = read_labels(case.reference, case.prediction, evaluation.label_map)
    if not isinstance(read, LabelPair):
        raise ValueError(f"{case.case}: changed while it was scored. {' '.join(read)}")
    return outlines_png(
        read.reference,
        read.prediction,
        evaluation.label_map,
        read.grid.spacing,
        _image(case.image, read.grid),
        case.case,
    )


def _image(source: Source | None, grid: Volume) -> np.ndarray | None:
    """Return the image to draw on. None if there is none on the grid of the labels."""
    if source is None:
        return None
    try:
        image = load_channels(source.path, [source.index], replace_nan=True)[0]
        check_grid(image, grid)
    except (ValueError, OSError):
        return None
    return image.data
