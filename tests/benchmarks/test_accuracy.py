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
    assert found[-1] <= 0.20


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


# XLA orders the copies of the others differently on the GPU.
WORKSPACE_IS_ALL = (
    "plain",
    "jaxswap 50%",
    "jaxswap.offload",
    "checkpoint each block",
    "checkpoint each block, heavy saved",
    "textbook layers",
)


def test_memory_is_predicted_with_the_workspaces_of_channels_first() -> None:
    rows = [
        row
        for row in predictions.device_bytes()
        if (row.workload, row.layout) == ("unet3d-192-bf16", "first")
        and row.method in WORKSPACE_IS_ALL
    ]
    assert {row.method for row in rows} == set(WORKSPACE_IS_ALL)
    assert errors(rows)[-1] <= 0.03


def test_memory_of_channels_last_needs_no_workspace() -> None:
    rows = [
        row
        for row in predictions.device_bytes()
        if (row.workload, row.layout) == ("unet3d-192-bf16", "last")
    ]
    assert len(rows) == 6
    assert errors(rows)[-1] <= 0.011


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
