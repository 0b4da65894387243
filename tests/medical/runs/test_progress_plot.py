from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxswap.medical.runs.progress_plot import save_progress, smooth


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def record(figure: Figure, *args: object, **kwargs: object) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Figure, "savefig", record)
    return figures


def named(axes: Axes) -> list[str]:
    return [label for label in axes.get_legend_handles_labels()[1]]


LOSSES = [(step, 1.0 / step) for step in range(1, 100)]


def test_loss_and_dice_have_a_panel_each(tmp_path: Path, drawn: list[Figure]) -> None:
    dice = [(0, {"whole tumour": 0.0, "core": 0.2}), (50, {"whole tumour": 0.9})]
    path = save_progress(tmp_path / "new" / "progress.png", LOSSES, dice)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["progress.png"]
    losses, regions = drawn[0].axes
    assert named(losses) == ["step", "smoothed"]
    assert named(regions) == ["whole tumour  0.900", "core  0.200", "mean of 2  0.900"]
    mean = np.asarray(regions.lines[2].get_ydata(), float)
    np.testing.assert_allclose(mean, [0.1, 0.9])


@pytest.mark.parametrize("regions", [1, 8])
def test_legends_cover_no_curve_whichever_way_it_goes(
    tmp_path: Path, drawn: list[Figure], regions: int
) -> None:
    rising = [(step, float(step)) for step in range(100)]
    low = {f"structure {k}": 0.02 * k for k in range(regions)}
    save_progress(tmp_path / "progress.png", rising, [(1, low), (99, low)])
    panels = [axes.get_window_extent() for axes in drawn[0].axes]
    for axes in drawn[0].axes:
        legend = axes.get_legend()
        assert legend is not None
        covered = legend.get_window_extent()
        assert not any(covered.overlaps(panel) for panel in panels)
        assert covered.x1 < drawn[0].bbox.x1


def test_without_validation_there_is_no_empty_panel(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    save_progress(tmp_path / "progress.png", LOSSES, [])
    assert len(drawn[0].axes) == 1
    assert drawn[0].axes[0].get_ylabel() == "loss"


def test_of_many_regions_only_the_mean_is_named(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    dice = [(step, {f"r{k}": 0.5 for k in range(32)}) for step in (1, 2)]
    save_progress(tmp_path / "progress.png", [], dice)
    (axes,) = drawn[0].axes
    assert len(axes.lines) == 33
    assert [name for name in named(axes) if not name.startswith("_")] == [
        "mean of 32  0.500"
    ]


@pytest.mark.parametrize("loss", [0.0, float("nan"), float("inf")])
def test_a_single_row_can_be_drawn(
    tmp_path: Path, drawn: list[Figure], loss: float
) -> None:
    save_progress(tmp_path / "progress.png", [(1, loss)], [(1, {"core": float("nan")})])
    ticks = drawn[0].axes[-1].get_xticks()
    assert (ticks == np.round(ticks)).all()


def test_a_wild_step_does_not_flatten_the_curve(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    losses = [(step, 1e6 if step == 300 else 1 / step) for step in range(1, 1000)]
    save_progress(tmp_path / "progress.png", losses, [])
    assert drawn[0].axes[0].get_ylim()[1] < 10


def test_smoothing_follows_a_constant_and_passes_over_gaps() -> None:
    values = np.array([2.0, np.nan, 2.0, np.inf, 2.0])
    np.testing.assert_allclose(smooth(values, 3.0), 2.0)
    assert np.isnan(smooth(np.array([np.nan, 1.0]), 3.0)[0])


def test_smoothing_weighs_the_latest_most() -> None:
    weights = [smooth(np.eye(4)[k], 2.0)[-1] for k in range(4)]
    assert weights == sorted(weights)
    np.testing.assert_allclose(sum(weights), 1.0)
    np.testing.assert_allclose(weights[-1] / weights[-3], np.e)
