"""Statistics over cases."""

import math

import numpy as np
import pytest

from jaxswap.medical.scoring.summaries import summarize


def test_statistics_by_their_definitions():
    summary = summarize([4.0, 1.0, 2.0, 3.0, 10.0])
    assert (summary.count, summary.mean, summary.median) == (5, 4.0, 3.0)
    assert summary.quartiles == (2.0, 4.0)
    assert summary.extremes == (1.0, 10.0)
    assert summary.deviation == pytest.approx(math.sqrt((0 + 9 + 4 + 1 + 36) / 4))


def test_the_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(3)
    samples = generator.normal(0.8, 0.1, size=(60, 40))
    intervals = np.array([summarize(sample).confidence_95 for sample in samples])
    low, high = intervals.T
    assert 0.85 <= np.mean((low <= 0.8) & (high >= 0.8)) <= 1
    width = 2 * 1.96 * 0.1 / math.sqrt(40)
    assert np.mean(high - low) == pytest.approx(width, rel=0.1)


def test_the_interval_is_the_same_every_time():
    values = [0.1, 0.5, 0.9, 0.95]
    assert summarize(values) == summarize(values)


def test_one_case_has_neither_deviation_nor_interval():
    summary = summarize([0.5])
    assert (summary.mean, summary.median) == (0.5, 0.5)
    assert summary.deviation is None
    assert summary.confidence_95 is None


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_nothing_and_what_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="one or more finite numbers"):
        summarize(values)
