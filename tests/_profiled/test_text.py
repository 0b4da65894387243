"""A profile is printed beside its plan, and both are written for Perfetto."""

import json
import pathlib

import pytest
from gpu_profile import PROGRAM, gpu_profile
from handmade_plans import mixed_plan

from jaxswap._base.units import format_seconds
from jaxswap._compiled.hlo import parse_module
from jaxswap._plans.plan import Plan
from jaxswap._profiled.profile import Profile
from jaxswap._profiled.streams import read_steps


def profile_of(plan: Plan | None = None) -> Profile:
    steps = read_steps(gpu_profile(), parse_module(PROGRAM))
    return Profile("NVIDIA H200", steps, plan)


def test_the_measured_lanes_stand_alone_without_a_plan() -> None:
    lines = str(profile_of()).splitlines()
    assert lines[0] == (
        "the median of 2 steps on NVIDIA H200, which took 9.00 ms to 11.0 ms"
    )
    assert lines[1].split() == ["measured"]
    assert "  step                      9.00 ms" in lines
    assert "  swap out, bytes          1.00 KiB" in lines
    assert any(line.endswith("44%    1 x  Net/encoder0/conv") for line in lines)


def test_the_plan_stands_beside_the_measurement() -> None:
    plan = mixed_plan()
    lines = [" ".join(line.split()) for line in str(profile_of(plan)).splitlines()]
    assert lines[1] == "measured simulated"
    assert f"step 9.00 ms {format_seconds(plan.seconds)}" in lines
    assert "swap in, copies 1 2" in lines
    assert "swap out, hidden 100% 100%" in lines


def test_plan_and_profile_lie_on_one_axis_in_one_file(tmp_path: pathlib.Path) -> None:
    plan = mixed_plan()
    path = profile_of(plan).to_perfetto(tmp_path / "step.json")
    events = json.loads(path.read_text())["traceEvents"]
    names = {
        event["pid"]: event["args"]["name"]
        for event in events
        if event["name"] == "process_name"
    }
    assert sorted(names.values()) == [
        "NVIDIA H200, measured",
        "plan for h100, simulated",
    ]
    for process in names:
        spans = [e for e in events if e["pid"] == process and e["ph"] == "X"]
        assert min(span["ts"] for span in spans) == 0
        assert {"name", "ts", "dur", "tid", "args"} <= set(spans[0])
    (measured,) = [p for p, name in names.items() if name.endswith("measured")]
    ends = [e["ts"] + e["dur"] for e in events if e["pid"] == measured and "dur" in e]
    assert max(ends) == pytest.approx(9000)  # microseconds
    tracks = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert tracks[:2] == [
        "compute, Stream #16(Kernel,MemcpyD2D)",
        "swap-out, Stream #18(MemcpyD2H)",
    ]
