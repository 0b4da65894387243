"""Pictures of plans: what is drawn where, and where files may be written."""

import dataclasses
import itertools
import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from handmade import MIB
from handmade_plans import (
    COMPILED,
    H100,
    SLOW_LINK,
    empty_plan,
    forward_plan,
    mixed_plan,
)
from matplotlib.axes import Axes

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Action
from jaxswap._plans.plan import Plan
from jaxswap._view.html import to_html
from jaxswap._view.lanes import (
    boundary_seconds,
    memory_corners,
    memory_unit,
    peak_of,
    spans_of,
    time_unit,
)
from jaxswap._view.plot import plot_pareto, plot_plan


def explained_in(ax: Axes) -> list[str]:
    """What a legend explains."""
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def lines_of(ax: Axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Coordinates of the lines of a picture, by label."""
    return {
        str(line.get_label()): (np.array(line.get_xdata()), np.array(line.get_ydata()))
        for line in ax.get_lines()
    }


def total(plan: Plan, *kinds: str) -> float:
    return sum(s.seconds for s in spans_of(plan.timeline) if s.kind in kinds)


def test_spans_last_as_long_as_what_they_stand_for() -> None:
    plan = mixed_plan(SLOW_LINK)
    timeline = plan.timeline
    again = timeline.recompute_seconds
    assert total(plan, "wait") == pytest.approx(timeline.stall_seconds)
    assert total(plan, "recompute") == pytest.approx(again)
    work = total(plan, "forward", "backward")
    assert work == pytest.approx(timeline.compute_seconds - again)
    copied = sum(t.seconds for t in timeline.transfers)
    assert total(plan, "out", "in") == pytest.approx(copied)


def test_spans_of_computation_follow_each_other() -> None:
    timeline = mixed_plan(SLOW_LINK).timeline
    spans = [s for s in spans_of(timeline) if s.kind not in ("in", "out")]
    for before, after in itertools.pairwise(spans):
        assert after.start_seconds >= before.end_seconds - 1e-12
        assert after.kind != before.kind
    border = boundary_seconds(timeline)
    assert max(s.end_seconds for s in spans if s.kind == "forward") <= border + 1e-12
    first = min(s.start_seconds for s in spans if s.kind == "backward")
    assert first >= border - 1e-12


def test_memory_has_its_peak_and_its_end() -> None:
    timeline = mixed_plan().timeline
    seconds, nbytes = memory_corners(timeline, timeline.device_bytes_at)
    assert nbytes.max() == timeline.device_bytes
    assert (seconds[0], seconds[-1]) == (0.0, timeline.seconds)


def test_peak_is_accounted_for() -> None:
    plan = mixed_plan()
    seconds, values = peak_of(plan)
    at = int(plan.timeline.device_bytes_at.argmax())
    assert seconds == plan.timeline.starts[at]
    assert sum(nbytes for _, nbytes in values) == plan.timeline.device_bytes
    assert values[0][1] == max(nbytes for _, nbytes in values)
    assert values[-1] == ("arguments and results", plan.timeline.caller_bytes)


def test_peak_counts_values_without_a_line_of_their_own() -> None:
    plan = mixed_plan()
    values = [dataclasses.replace(v, name=f"v{v.index}") for v in plan.graph.values]
    graph = dataclasses.replace(plan.graph, values=tuple(values))
    plan = dataclasses.replace(plan, graph=graph)
    _, found = peak_of(plan)
    assert len(found) == 9
    assert sum(nbytes for _, nbytes in found) == plan.timeline.device_bytes
    alive = plan.timeline.alive(int(plan.timeline.device_bytes_at.argmax()))
    assert found[-2][0] == f"{len(alive) - 7} others"


@pytest.mark.parametrize(
    ("amount", "unit"), [(2.5, "s"), (0.02, "ms"), (3e-5, "us"), (0.0, "us")]
)
def test_time_unit(amount: float, unit: str) -> None:
    assert time_unit(amount)[1] == unit


@pytest.mark.parametrize(
    ("amount", "unit"), [(2**31, "GiB"), (5 * MIB, "MiB"), (100, "KiB")]
)
def test_memory_unit(amount: float, unit: str) -> None:
    assert memory_unit(amount)[1] == unit


def test_memory_is_drawn_before_and_after_with_its_limits() -> None:
    plan = mixed_plan(budget_bytes=900 * MIB, compiled=COMPILED)
    memory = plot_plan(plan).axes[0]
    lines = lines_of(memory)
    assert memory.get_ylabel() == "memory, simulated (MiB)"
    for label, timeline, nbytes_at in (
        ("device, everything kept", plan.plain, plan.plain.device_bytes_at),
        ("device, this plan", plan.timeline, plan.timeline.device_bytes_at),
        ("host, this plan", plan.timeline, plan.timeline.host_bytes_at),
    ):
        xs, ys = lines[label]
        assert ys.max() * MIB == pytest.approx(nbytes_at.max())
        assert xs[-1] == pytest.approx(timeline.seconds * 1e3)
    assert lines["budget"][1] == pytest.approx(900)
    assert lines["compiled"][1] == pytest.approx(640)
    assert memory.get_ylim()[1] > 900


def test_picture_without_budget_has_no_such_line() -> None:
    lines = lines_of(plot_plan(mixed_plan()).axes[0])
    assert not {"budget", "compiled"} & set(lines)
    assert "host, this plan" in lines
    plain = mixed_plan()
    plain = dataclasses.replace(plain, actions=(Action.KEEP,) * len(plain.actions))
    plain = dataclasses.replace(plain, swaps=())
    assert "host, this plan" not in lines_of(plot_plan(plain).axes[0])
    assert "host, this plan" not in to_html(plain)


def test_lanes_share_the_axis_of_time_and_are_explained() -> None:
    plan = mixed_plan(SLOW_LINK)
    memory, beside, lanes, legend = plot_plan(plan).axes
    assert memory.get_xlim() == lanes.get_xlim()
    assert memory.get_xlim() == pytest.approx((0, plan.seconds * 1e3))
    names = [text.get_text() for text in lanes.get_yticklabels()]
    assert names == ["compute", "swap-out", "swap-in"]
    assert lanes.get_xlabel() == "time in one step, simulated (ms)"
    explained = explained_in(legend)
    assert "waiting for copies" in explained
    assert "recomputed" in explained
    peak = format_bytes(plan.timeline.device_bytes)
    assert f"peak of {peak}" in beside.texts[0].get_text()


def test_what_does_not_happen_is_not_explained() -> None:
    assert "waiting for copies" not in explained_in(plot_plan(mixed_plan()).axes[3])


def test_title_has_the_numbers() -> None:
    plan = mixed_plan(budget_bytes=900 * MIB)
    title = plot_plan(plan).get_suptitle()
    assert f"{format_bytes(plan.device_bytes)} predicted of 900 MiB budget" in title
    compiled = mixed_plan(compiled=COMPILED)
    assert "640 MiB compiled" in plot_plan(compiled).get_suptitle()


@pytest.mark.parametrize(
    ("name", "start"), [("plan.png", b"\x89PNG"), ("PLAN.SVG", b"<?xml")]
)
def test_picture_is_written_by_suffix(tmp_path: Path, name: str, start: bytes) -> None:
    path = tmp_path / name
    plot_plan(mixed_plan(budget_bytes=900 * MIB), path)
    written = path.read_bytes()
    assert written.startswith(start)
    if start == b"<?xml":
        ElementTree.fromstring(written)


@pytest.mark.parametrize("draw", [plot_plan, lambda _, path: plot_pareto({}, path)])
def test_path_is_checked_before_the_work(tmp_path: Path, draw: object) -> None:
    assert callable(draw)
    with pytest.raises(ValueError, match=r"ends in '\.jpg'.*\.png or \.svg"):
        draw(mixed_plan(), tmp_path / "plan.jpg")
    with pytest.raises(ValueError, match="ends in ''"):
        draw(mixed_plan(), tmp_path / "plan")
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing"):
        draw(mixed_plan(), tmp_path / "missing" / "plan.png")
    assert not list(tmp_path.iterdir())


def test_program_without_backward_pass_can_be_drawn() -> None:
    assert plot_plan(forward_plan()).axes
    assert plot_plan(empty_plan()).axes


def test_pictures_leave_pyplot_alone() -> None:
    before = set(sys.modules)
    plot_plan(mixed_plan())
    plot_pareto([mixed_plan()])
    assert "matplotlib.pyplot" not in set(sys.modules) - before


def test_pareto_draws_a_line_for_each_method_without_what_failed() -> None:
    points = {
        "one": [(3.0 * 2**30, 0.02), (1.0 * 2**30, 0.03), (2.0**30 / 2, math.inf)],
        "two": [(2.0 * 2**30, 0.05)],
    }
    plain = (4.0 * 2**30, 0.01)
    bound = [(3.0 * 2**30, 0.01), (1.0 * 2**30, 0.015), (2.0 * 2**30, 0.0)]
    ax = plot_pareto(points, plain=plain, bound=bound).axes[0]
    lines = lines_of(ax)
    drawn = {name: list(zip(*line, strict=True)) for name, line in lines.items()}
    assert drawn["one"] == [(1.0, 30.0), (3.0, 20.0)]
    assert drawn["two"] == [(2.0, 50.0)]
    assert drawn["everything kept"] == [(4.0, 10.0)]
    assert drawn["lower bound"] == [(1.0, 15.0), (3.0, 10.0)]
    assert ax.get_xlabel() == "device memory (GiB)"
    assert ax.get_ylabel() == "time of one step, simulated (ms)"


def test_pareto_of_plans_leaves_out_what_misses_its_budget() -> None:
    fits = mixed_plan(budget_bytes=1024 * MIB, bound_seconds=0.01)
    misses = mixed_plan(budget_bytes=620 * MIB, reserve_bytes=64 * MIB)
    assert misses.budget_bytes is not None
    assert misses.device_bytes < misses.budget_bytes
    lines = lines_of(plot_pareto([fits, misses]).axes[0])
    assert lines["jaxswap"][0] * 2**30 == pytest.approx([fits.device_bytes])
    assert lines["everything kept"][0] * 2**30 == pytest.approx(fits.plain.device_bytes)
    assert lines["lower bound"][1] == pytest.approx([10.0])
    alone = lines_of(plot_pareto({"a": [(MIB, 0.1)]}).axes[0])
    assert set(alone) == {"a"}


def test_pareto_is_written(tmp_path: Path) -> None:
    plot_pareto([mixed_plan(H100)], tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").stat().st_size > 1000
