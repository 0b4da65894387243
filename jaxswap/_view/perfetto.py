"""Steps -> a file that Perfetto opens: Chrome's trace events, as JSON.

"Trace Event Format" (Duffy and Sinclair 2016) describes the format. ui.perfetto.dev and
chrome://tracing read it. Times are microseconds from the start of the step. So a plan
and a profile have the same time axis.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxswap._base.files import write_whole
from jaxswap._plans.plan import Plan
from jaxswap._view.step import LaneSpan, StepLanes, simulated_step

PLAN_PROCESS = 1
PROFILE_PROCESS = 2
"""Numbers of processes. They differ, so that a plan and a profile can be loaded
together."""

Event = dict[str, Any]


def write_trace(path: str | os.PathLike[str], events: list[Event]) -> Path:
    """Write trace events to a file.

    Args:
        path: The file to write. Its name must end in `.json`. Its folder must exist.
        events: The events that `plan_events` and `step_events` return.

    Returns:
        The path.

    Raises:
        ValueError: If the path does not end in `.json`.
        FileNotFoundError: If the folder does not exist.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        raise ValueError(
            f"`path` is {str(path)!r}; Perfetto reads a file whose name ends in .json."
        )
    trace = {"traceEvents": events, "displayTimeUnit": "ms"}
    return write_whole(path, json.dumps(trace))


def plan_events(plan: Plan) -> list[Event]:
    """Return the simulated step of a plan as trace events, with its memory."""
    name = f"plan for {plan.target.name}, simulated"
    events = step_events(simulated_step(plan), PLAN_PROCESS, name)
    return [*events, *_memory_events(plan)]


def step_events(step: StepLanes, process: int, process_name: str) -> list[Event]:
    """Return a step as trace events.

    Args:
        step: The step.
        process: A number that no other step in the same file has.
        process_name: The name that Perfetto writes above its tracks.

    Returns:
        Names of process and tracks, then one event for each kernel and copy.
    """
    tracks = _tracks(step)
    events = [_name("process_name", process, 0, process_name)]
    events += [_name("thread_name", process, t, name) for name, t in tracks.items()]
    for span in step.spans:
        given = {"label": span.label, "source": span.source, "bytes": span.nbytes}
        events.append(
            {
                "ph": "X",
                "pid": process,
                "tid": tracks[_track(span)],
                "name": span.label or span.name,
                "cat": span.lane,
                "ts": _microseconds(span.start_seconds),
                "dur": _microseconds(span.seconds),
                "args": {"kernel": span.name}
                | {key: value for key, value in given.items() if value},
            }
        )
    return events


def _tracks(step: StepLanes) -> Mapping[str, int]:
    """Number the tracks: computation first, then copies out, then copies in."""
    order = ("compute", "swap-out", "swap-in")
    found = {(order.index(span.lane), _track(span)) for span in step.spans}
    names = dict.fromkeys(name for _, name in sorted(found))
    return {name: number for number, name in enumerate(names, start=1)}


def _track(span: LaneSpan) -> str:
    return f"{span.lane}, {span.track}" if span.track else span.lane


def _name(kind: str, process: int, track: int, name: str) -> Event:
    ids = {"pid": process, "tid": track}
    return {"ph": "M", "name": kind, **ids, "args": {"name": name}}


def _memory_events(plan: Plan) -> Iterator[Event]:
    """Return events of device and host memory, one wherever it changes."""
    timeline = plan.timeline
    lanes = {
        "device memory, bytes": timeline.device_bytes_at,
        "host memory, bytes": timeline.host_bytes_at,
    }
    for name, nbytes_at in lanes.items():
        before = None
        for seconds, nbytes in zip(timeline.starts, nbytes_at, strict=True):
            if nbytes != before:
                yield {
                    "ph": "C",
                    "pid": PLAN_PROCESS,
                    "name": name,
                    "ts": _microseconds(float(seconds)),
                    "args": {"bytes": int(nbytes)},
                }
            before = nbytes


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
