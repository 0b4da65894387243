"""Statistics of a score over cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_RESAMPLES = 10_000
_RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True)
class Summary:
    """A score over cases.

    Attributes:
        count: Number of cases.
        mean: Their mean.
        confidence_95: Bootstrap interval of the mean: percentiles of 10,000 resamplings
            of the cases, the same every time. None for a single case.
        deviation: Sample standard deviation. None for a single case.
        median: Middle value.
        quartiles: Lower and upper quartile, with linear interpolation.
        extremes: Smallest and largest value.
    """

    count: int
    mean: float
    confidence_95: tuple[float, float] | None
    deviation: float | None
    median: float
    quartiles: tuple[float, float]
    extremes: tuple[float, float]


def summarize(values: Sequence[float]) -> Summary:
    """Describe the values of a score.

    Args:
        values: One finite value for each case, at least one.

    Returns:
        Their statistics.

    Raises:
        ValueError: If there is no value, or if one is not finite.

    Example:
        >>> summary = summarize([0.6, 0.8, 0.8, 1.0])
        >>> round(summary.mean, 3), round(summary.median, 3), summary.count
        (0.8, 0.8, 4)
    """
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"`values` is {values}; one or more finite numbers needed.")
    lower, median, upper = (float(q) for q in np.percentile(data, [25, 50, 75]))
    several = data.size > 1
    return Summary(
        count=data.size,
        mean=float(data.mean()),
        confidence_95=_bootstrap(tuple(data.tolist())) if several else None,
        deviation=float(data.std(ddof=1)) if several else None,
        median=median,
        quartiles=(lower, upper),
        extremes=(float(data.min()), float(data.max())),
    )


@lru_cache(4096)  # Page, JSON and table need the same numbers.
def _bootstrap(values: tuple[float, ...]) -> tuple[float, float]:
    """Return the percentile interval of the mean under resampling of the cases."""
    data = np.array(values)
    generator = np.random.default_rng(0)
    means = []
    for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
        drawn = generator.integers(data.size, size=(_RESAMPLES_AT_ONCE, data.size))
        means.append(data[drawn].mean(1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
