"""Scoring a folder of predictions against references.

From two folders of label files, this file makes the scores of every case that can be
scored. For each other case it names everything that prevents it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from jaxswap.medical.data.case_files import Dataset
from jaxswap.medical.data.case_progress import case_progress
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.scoring.case_scoring import (
    CaseFault,
    CaseScores,
    ScoringRules,
    score_case,
)
from jaxswap.medical.scoring.metrics import RegionMetrics
from jaxswap.medical.scoring.prediction_pairs import Pair, find_pairs
from jaxswap.medical.scoring.summaries import Summary, summarize

_MOST_FAULTS = 10


@dataclass(frozen=True)
class Evaluation:
    """The scores of a folder of predictions.

    Attributes:
        label_map: What labels mean.
        rules: What the scores depend on.
        scores: Cases that were scored, by name. At least one.
        faults: Cases that could not be scored, by name.
        unmatched: Prediction files that belong to no reference.
        left_out: References without a prediction, if only predicted cases were wanted.
    """

    label_map: LabelMap
    rules: ScoringRules
    scores: tuple[CaseScores, ...]
    faults: tuple[CaseFault, ...]
    unmatched: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()

    def of_region(self, region: str) -> list[RegionMetrics]:
        """Return the scores of one region, one for each case."""
        return [case.regions[region] for case in self.scores]

    def summaries(self, region: str) -> dict[str, Summary]:
        """Return statistics of each metric of one region over the cases."""
        values = {name: [] for name in METRICS}
        for metrics in self.of_region(region):
            for name, value in metric_values(metrics).items():
                values[name].append(value)
        return {name: summarize(list_) for name, list_ in values.items()}

    def mean_dice(self) -> Summary:
        """Return statistics of each case's mean Dice over the regions."""
        return summarize([case.mean_dice for case in self.scores])


METRICS: Mapping[str, str] = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "surface_dice": "surface Dice",
    "lesion_dice": "lesion-wise Dice",
    "lesion_hd95_mm": "lesion-wise HD95 (mm)",
    "difference_ml": "volume difference (mL)",
}
"""The metrics that are summarized, and their names in reports."""


def metric_values(metrics: RegionMetrics) -> dict[str, float]:
    """Return the values of `METRICS` of one region of one case.

    Args:
        metrics: The scores of the region.

    Returns:
        Values by name. The unit is in the name: millimeters, milliliters, else shares.
    """
    return {
        "dice": metrics.dice,
        "hd95_mm": metrics.hd95_mm,
        "surface_dice": metrics.surface_dice,
        "lesion_dice": metrics.lesions.dice,
        "lesion_hd95_mm": metrics.lesions.hd95_mm,
        "difference_ml": metrics.difference_ml,
    }


def evaluate(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str] | Dataset,
    label_map: LabelMap | str | None = None,
    *,
    images: str | os.PathLike[str] | Dataset | None = None,
    rules: ScoringRules | None = None,
    only_predicted: bool = False,
    workers: int = 1,
    console: Console | None = None,
) -> Evaluation:
    """Score predictions against references.

    A case does not stop the others if its files are missing or unreadable, are on
    different grids, or hold labels that are not in the map. It is one of the `faults`.

    Args:
        predictions: Folder of predicted labels, see
            `jaxswap.medical.scoring.prediction_pairs.find_pairs`.
        references: A data set, its folder, or a folder of label files.
        label_map: What labels mean, or the name of an edition such as "brats2023". None
            takes it from the data set.
        images: Data set or folder with images, for pictures. None takes those of the
            references, if these are a data set.
        rules: What the scores depend on. None takes the defaults.
        only_predicted: Whether to leave out references without a prediction, as for one
            fold of a data set. Otherwise they are faults.
        workers: Processes that score. 1 scores in this one. A script that asks for more
            needs `if __name__ == "__main__":`, because new processes import it.
        console: Where a progress bar is shown. None shows nothing.

    Returns:
        Scores and faults.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If arguments do not fit, or if no case can be scored.
    """
    if workers < 1:
        raise ValueError(f"`workers` is {workers}; it needs to be 1 or more.")
    rules = rules or ScoringRules()
    pairing = find_pairs(predictions, references, label_map, images)
    pairs, left_out = pairing.pairs, ()
    if only_predicted:
        left_out = tuple(pair.case for pair in pairs if not pair.predictions)
        pairs = tuple(pair for pair in pairs if pair.predictions)
        if not pairs:
            raise ValueError(f"{predictions}: holds no prediction of any reference.")
    score = partial(score_case, label_map=pairing.label_map, rules=rules)
    with case_progress(console) as progress:
        task = progress.add_task("scoring", total=len(pairs))
        outcomes = []
        for outcome in _outcomes(pairs, score, min(workers, len(pairs))):
            outcomes.append(outcome)
            progress.advance(task)
    outcomes.sort(key=lambda outcome: outcome.case)
    evaluation = Evaluation(
        label_map=pairing.label_map,
        rules=rules,
        scores=tuple(o for o in outcomes if isinstance(o, CaseScores)),
        faults=tuple(o for o in outcomes if isinstance(o, CaseFault)),
        unmatched=pairing.unmatched,
        left_out=left_out,
    )
    if not evaluation.scores:
        raise ValueError(_nothing(evaluation))
    return evaluation


def _outcomes(
    pairs: tuple[Pair, ...],
    score: partial[CaseScores | CaseFault],
    workers: int,
) -> Iterator[CaseScores | CaseFault]:
    if workers == 1:
        yield from map(score, pairs)
        return
    # JAX has threads, which would be missing in a process forked from this one. The
    # server imports everything once, before JAX starts threads.
    context = get_context("forkserver")
    context.set_forkserver_preload([score_case.__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        futures = {pool.submit(score, pair): pair for pair in pairs}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                reason = "the process that scored it died; try fewer workers."
                yield CaseFault(futures[future].case, False, (reason,))
    finally:
        pool.shutdown(cancel_futures=True)


def _nothing(evaluation: Evaluation) -> str:
    faults = evaluation.faults
    lines = [f"{fault.case}: {' '.join(fault.reasons)}" for fault in faults]
    more = len(lines) - _MOST_FAULTS
    text = " ".join(lines[:_MOST_FAULTS]) + (f" And {more} more." if more > 0 else "")
    if evaluation.unmatched:
        some = ", ".join(path.name for path in evaluation.unmatched[:3])
        text += f" Predictions that belong to no reference: {some}."
    return f"none of the {len(faults)} cases can be scored. {text}"
