"""A plan as a file for Perfetto; hidden, stalled and idle seconds of a step."""

import json
import pathlib

import pytest
from handmade_plans import SLOW_LINK, empty_plan, mixed_plan

from jaxswap._view.step import LaneSpan, overlap, simulated_step, step_of, union


def test_a_plan_is_written_as_tracks_and_memory(tmp_path: pathlib.Path) -> None:
    plan = mixed_plan()
    path = plan.to_perfetto(tmp_path / "plan.json")
    events = json.loads(path.read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    spans = [event for event in events if event["ph"] == "X"]
    assert {span["cat"] for span in spans} == {"compute", "swap-out", "swap-in"}
    last = max(span["ts"] + span["dur"] for span in spans)
    assert last == pytest.approx(plan.seconds * 1e6, rel=1e-3)
    memory = [e["args"]["bytes"] for e in events if e["name"].startswith("device mem")]
    assert max(memory) == plan.timeline.device_bytes
    copies = [span for span in spans if span["cat"] != "compute"]
    assert all(span["args"]["bytes"] > 0 for span in copies)


def test_a_plan_without_kernels_is_written(tmp_path: pathlib.Path) -> None:
    empty_plan().to_perfetto(tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text())["traceEvents"]


def test_a_path_that_cannot_be_written_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"`path` is '.*plan.html'; Perfetto reads"):
        mixed_plan().to_perfetto(tmp_path / "plan.html")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        mixed_plan().to_perfetto(tmp_path / "nowhere" / "plan.json")


def test_a_simulated_step_has_the_seconds_of_its_timeline() -> None:
    plan = mixed_plan(target=SLOW_LINK)
    step, timeline = simulated_step(plan), plan.timeline
    assert step.seconds == timeline.seconds
    started = sum(timeline.seconds_of) - step.compute_seconds  # copies, waits
    assert 0 <= started < 1e-4
    assert timeline.stall_seconds > 1e-3
    assert step.stall_seconds == pytest.approx(timeline.stall_seconds, abs=1e-4)
    parts = step.compute_seconds + step.stall_seconds + step.idle_seconds
    assert parts == pytest.approx(step.seconds)


def test_kernels_on_two_streams_count_once() -> None:
    spans = [LaneSpan("compute", 10, 4, "a"), LaneSpan("compute", 12, 4, "b")]
    step = step_of(
        [*spans, LaneSpan("swap-in", 13, 7, "c"), LaneSpan("swap-out", 25, 1, "d")]
    )
    assert (step.seconds, step.compute_seconds) == (16, 6)
    assert step.swap_in.hidden_seconds == 3
    assert (step.stall_seconds, step.idle_seconds) == (5, 5)
    assert step_of([]).seconds == 0


def test_intervals_that_touch_are_one() -> None:
    assert union([(1, 2), (0, 1), (5, 6), (0, 0.5)]) == [(0, 2), (5, 6)]
    assert overlap([(0, 2), (5, 6)], [(1, 5.5)]) == 1.5
    assert overlap([], [(0, 1)]) == 0
