"""The curve of what memory costs: its points, its table, its picture."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from zoo import normal, weight

import jaxswap
from jaxswap import KEEP, Pareto, Point, _request
from jaxswap._pareto import SHARES
from jaxswap.policies import FullRemat, SwapEverything

pytestmark = pytest.mark.usefixtures("own_folders")

W, X = weight(16, 16), normal(64, 16)
KIB = 1 << 10


def loss(w: jax.Array, x: jax.Array, *, scale: float = 1.0) -> jax.Array:
    for _ in range(3):
        x = jnp.tanh(x @ w)
    return scale * jnp.sum(x**2)


def pareto(**options: Any) -> Pareto:
    given: dict[str, Any] = {
        "target": "h100",
        "progress": False,
        "search_seconds": 0.3,
    }
    return jaxswap.pareto(loss, W, X, **(given | options))


@functools.cache
def kept() -> jaxswap.Plan:
    options: dict[str, Any] = {"compile": False, "progress": False}
    return jaxswap.plan(loss, W, X, target="h100", policy=KEEP, **options)


def test_budgets_go_from_nine_tenths_of_plain_to_the_smallest() -> None:
    curve = pareto()
    assert curve.target == "h100"
    assert curve.plain.method == "plain"
    assert curve.plain.device_bytes == kept().device_bytes
    assert curve.plain.seconds == kept().seconds
    expected = [int(share * kept().device_bytes) for share in SHARES]
    assert [p.budget_bytes for p in curve.points] == [*expected, None]
    assert {p.method for p in curve.points} == {"jaxswap"}
    assert curve.points[0].fits
    assert not curve.points[-2].fits  # three tenths are too little
    least = curve.points[-1]
    assert least.fits
    for point in curve.points[:-1]:
        assert point.budget_bytes is not None
        assert point.fits is (point.device_bytes <= point.budget_bytes)
        assert point.device_bytes >= least.device_bytes
        if point.fits:
            assert point.seconds >= point.bound_seconds > 0
            assert point.host_bytes >= 0


def test_each_method_is_planned_for_each_budget() -> None:
    methods = {"remat": FullRemat(), "swap": SwapEverything(min_bytes=1)}
    budgets = ["64KiB", 20 * KIB, "smallest"]
    curve = pareto(budgets=budgets, policies=methods)
    asked = [(p.method, p.budget_bytes) for p in curve.points]
    assert asked == [
        ("jaxswap", 64 * KIB),
        ("jaxswap", 20 * KIB),
        ("jaxswap", None),
        ("remat", 64 * KIB),
        ("remat", 20 * KIB),
        ("swap", 64 * KIB),
        ("swap", 20 * KIB),
    ]
    remat = [p for p in curve.points if p.method == "remat"]
    assert [p.fits for p in remat] == [True, False]
    assert remat[0].seconds > curve.plain.seconds
    assert remat[0].bound_seconds == 0.0  # a policy's plan bounds nothing


def test_points_are_sorted_whatever_the_order_of_the_budgets() -> None:
    curve = pareto(budgets=["30KiB", "64KiB", "40KiB"])
    budgets = [p.budget_bytes for p in curve.points]
    assert budgets == [64 * KIB, 40 * KIB, 30 * KIB]  # the largest first


def test_what_does_not_fit_says_what_would() -> None:
    (point,) = pareto(budgets=["7KiB"]).points
    assert not point.fits
    assert point.budget_bytes == 7 * KIB
    assert 7 * KIB < point.device_bytes < kept().device_bytes
    (again,) = pareto(budgets=[point.device_bytes], search_seconds=3.0).points
    assert again.fits


def test_options_reach_the_planner_and_keywords_the_function() -> None:
    one = pareto(budgets=["64KiB"], reserve=40 * KIB, scale=2.0)
    assert [p.fits for p in one.points] == [kept().device_bytes <= 24 * KIB]
    with pytest.raises(TypeError):
        pareto(budgets=["64KiB"], colour="red")
    with pytest.raises(ValueError, match="`budget` is 'plenty'"):
        pareto(budgets=["plenty"])
    with pytest.raises(ValueError, match="there is no GPU here"):
        pareto(target=None)


@dataclasses.dataclass(frozen=True)
class Program:
    """What is read from a compiled program."""

    device_bytes: int = 12345
    temp_bytes: int = 1
    fragmented_bytes: int = 0
    host_bytes: int = 7
    swapped_bytes: int = 0
    exposed_bytes: int = 0
    exposed_copies: tuple[Any, ...] = ()


def test_plans_are_compiled_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_request, "inspect", lambda *args, **options: Program())
    simulated = pareto(budgets=["64KiB"])
    assert simulated.points[0].device_bytes == kept().device_bytes
    compiled = pareto(budgets=["64KiB"], compile=True)
    found = [compiled.plain, *compiled.points]
    assert [(p.device_bytes, p.host_bytes) for p in found] == [(12345, 7)] * 2


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    pareto(budgets=["64KiB"], progress=lines.append)
    assert "planning for 64.0 KiB" in lines
    assert capsys.readouterr().err == ""


def curve_by_hand() -> Pareto:
    return Pareto(
        "h100",
        Point("plain", None, 100 * KIB, 0, 1.0, True),
        (
            Point("jaxswap", 90 * KIB, 80 * KIB, 3 * KIB, 1.25, True, 1.1),
            Point("jaxswap", None, 60 * KIB, 5 * KIB, 1.5, True, 1.2),
            Point("remat", 90 * KIB, 85 * KIB, 0, 2.0, True),
            Point("remat", 70 * KIB, 85 * KIB, 0, 0.0, False),
            Point("none", 1, 2, 0, 0.0, False),
        ),
    )


def test_curves_hold_what_fits() -> None:
    assert curve_by_hand().curves() == {
        "jaxswap": [(80 * KIB, 1.25), (60 * KIB, 1.5)],
        "remat": [(85 * KIB, 2.0)],
    }


def test_table_has_a_line_for_each_point() -> None:
    head, plain, *lines = str(curve_by_hand()).splitlines()
    assert head.split("  ")[0] == "method"
    assert "step (simulated)" in head
    assert plain.split() == ["plain", "100", "KiB", "0", "B", "1.00", "s"]
    assert len(lines) == 5
    assert lines[0].split()[:3] == ["jaxswap", "90.0", "KiB"]
    assert lines[1].split() == ["jaxswap", "60.0", "KiB", "5.00", "KiB", "1.50", "s"]
    is_marked = ["  needs " in line for line in lines]
    assert is_marked == [False, False, False, True, True]
    assert lines[3].split() == ["remat", "70.0", "KiB", "needs", "85.0", "KiB"]
    columns = {line.index("KiB") for line in lines[:4] if "jaxswap" not in line}
    assert len(columns) == 1  # aligned


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture_is_drawn_and_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curve.{suffix}"
    figure = curve_by_hand().plot(path)
    assert path.stat().st_size > 1000
    assert figure.axes
    assert curve_by_hand().plot() is not None


def test_picture_goes_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png"):
        curve_by_hand().plot(tmp_path / "curve.pdf")
    with pytest.raises(FileNotFoundError, match="no folder"):
        curve_by_hand().plot(tmp_path / "gone" / "curve.png")
    assert not list(tmp_path.iterdir())
