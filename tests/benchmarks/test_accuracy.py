"""What the cost model says of the steps that were timed on an H200."""

import statistics
from collections.abc import Callable, Iterator

import pytest

from benchmarks.accuracy import fit, predictions
from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.predictions import Row
from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import built_in_target, published_rates

RATES = published_rates(built_in_target("h200"))


def errors(rows: list[Row]) -> list[float]:
    return sorted(abs(row.error) for row in rows)


def test_steps_are_predicted() -> None:
    rows = list(predictions.steps(RATES))
    found = errors(rows)
    assert len(rows) >= 29
    assert statistics.median(found) <= 0.08
    written_channels_last = [
        r for r in rows if r.layout == "first" or "jaxswap" not in r.method
    ]
    assert errors(written_channels_last)[-1] <= 0.20


def test_kinds_of_kernels_are_predicted() -> None:
    rows = [r for r in predictions.kernels(RATES) if r.measured > 1e-3]
    found = errors(rows)
    assert len(rows) >= 25
    assert statistics.median(found) <= 0.08
    assert found[-1] <= 0.30


def test_single_convolutions_are_predicted() -> None:
    rows = list(predictions.convolutions(RATES))
    assert len(rows) == 57
    assert statistics.median(errors(rows)) <= 0.12
    as_networks_have_them = [r for r in rows if r.method.startswith("cl, nhwc")]
    assert errors(as_networks_have_them)[-1] <= 0.15


@pytest.mark.parametrize(
    ("layout", "most"), [("last", 0.011), ("first", 0.032)], ids=["last", "first"]
)
def test_memory_without_swaps_is_predicted(layout: str, most: float) -> None:
    rows = [r for r in predictions.device_bytes() if r.layout == layout]
    unswapped = [
        r
        for r in rows
        if r.method.startswith(("plain", "checkpoint", "textbook"))
        and r.workload == "unet3d-192-bf16"
    ]
    assert len(unswapped) >= 2
    assert errors(unswapped)[-1] <= most


@pytest.mark.parametrize(
    "rows", [predictions.steps, predictions.kernels, predictions.convolutions]
)
def test_predictions_depend_on_the_rates(
    rows: Callable[[Rates], Iterator[Row]],
) -> None:
    slow = published_rates(built_in_target("a100-40"))
    for ours, theirs in zip(rows(RATES), rows(slow), strict=True):
        assert theirs.measured == ours.measured
        assert theirs.predicted >= ours.predicted


def test_the_command_prints_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    text = capsys.readouterr().out
    for title in ("Seconds of a step", "Kinds of kernels", "Single convolutions"):
        assert f"## {title}" in text
    assert text.count("the median error is") == 4
    assert "| unet3d-192-bf16 | jaxswap 50% | last | 54.83 |" in text


def test_what_is_shipped_is_near_what_fits_best() -> None:
    """A gradient step from the shipped shares gains little."""
    assert set(fit.FITTED) <= set(vars(fit.USUAL))
