"""Two models compared on the same cases: how much they differ, and how sure that is.

Each case is its own control. What is compared is the difference of both scores, case by
case. So cases that are hard for both models do not hide that one of them is better.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from jaxswap.medical.scoring.evaluation import METRICS, Evaluation, metric_values
from jaxswap.medical.scoring.metrics import RegionMetrics
from jaxswap.medical.scoring.summaries import summarize

_VOLUME = "difference_ml"
_HIGHER_IS_BETTER = frozenset({"dice", "surface_dice", "lesion_dice"})
COMPARED: Mapping[str, str] = {
    **METRICS,
    _VOLUME: "volume difference without sign (mL)",
}
"""The metrics that are compared, and their names in reports."""


@dataclass(frozen=True)
class PairedDifference:
    """One metric of one region: the first model minus the second, over all cases.

    Attributes:
        region: The region.
        metric: Key of `COMPARED`.
        first: Mean of the first model.
        second: Mean of the second model.
        difference: Mean difference.
        confidence_95: Bootstrap interval of the mean difference, see `Summary`. None
            for a single case.
        better: Cases in which the first model is better.
        worse: Cases in which the second model is better.
        p_value: Of Wilcoxon's signed-rank test, two-sided. Cases without a difference
            are left out of it. 1 if there are no others.
    """

    region: str
    metric: str
    first: float
    second: float
    difference: float
    confidence_95: tuple[float, float] | None
    better: int
    worse: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the cases that both were scored on.

    Attributes:
        cases: Names of these cases.
        left_out: Cases that only one of them was scored on.
        differences: One for each region and metric.
    """

    cases: tuple[str, ...]
    left_out: tuple[str, ...]
    differences: tuple[PairedDifference, ...]


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two evaluations against the same references.

    Args:
        first: The scores of a model.
        second: The scores of the one that it is compared with.

    Returns:
        Differences, first minus second.

    Raises:
        ValueError: If labels or rules differ, or if no case is in both.

    References:
        Wilcoxon 1945, Individual comparisons by ranking methods.
    """
    if (first.label_map, first.rules) != (second.label_map, second.rules):
        raise ValueError("two evaluations with other labels or rules say nothing.")
    both = [{case.case: case for case in e.scores} for e in (first, second)]
    cases = sorted(both[0].keys() & both[1].keys())
    if not cases:
        raise ValueError("there is no case that both predictions were scored on.")
    differences = []
    for region in first.label_map.regions:
        values = [[_values(e[case].regions[region]) for case in cases] for e in both]
        differences += [
            _difference(region, metric, *([v[metric] for v in one] for one in values))
            for metric in COMPARED
        ]
    left_out = sorted(both[0].keys() ^ both[1].keys())
    return Comparison(tuple(cases), tuple(left_out), tuple(differences))


def to_csv(comparison: Comparison) -> str:
    """Return the differences as CSV, a row for each region and metric."""
    text = io.StringIO()
    columns = [name for name in PairedDifference.__annotations__]
    columns[columns.index("confidence_95")] = "low_95"
    columns.insert(columns.index("low_95") + 1, "high_95")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cases", *columns])
    for one in comparison.differences:
        row = vars(one) | dict(
            zip(("low_95", "high_95"), one.confidence_95 or ("", ""), strict=True)
        )
        writer.writerow([len(comparison.cases), *(row[name] for name in columns)])
    return text.getvalue()


def _values(metrics: RegionMetrics) -> dict[str, float]:
    values = metric_values(metrics)
    return values | {_VOLUME: abs(values[_VOLUME])}


def _difference(
    region: str, metric: str, first: Sequence[float], second: Sequence[float]
) -> PairedDifference:
    apart = np.subtract(first, second)
    summary = summarize(apart.tolist())
    test: Any = stats.wilcoxon
    higher, lower = int((apart > 0).sum()), int((apart < 0).sum())
    is_higher_better = metric in _HIGHER_IS_BETTER
    return PairedDifference(
        region=region,
        metric=metric,
        first=float(np.mean(first)),
        second=float(np.mean(second)),
        difference=summary.mean,
        confidence_95=summary.confidence_95,
        better=higher if is_higher_better else lower,
        worse=lower if is_higher_better else higher,
        p_value=float(test(apart).pvalue) if higher + lower else 1.0,
    )
