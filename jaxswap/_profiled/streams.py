"""The profiler's planes -> one `StepLanes` for each step that ran. No JAX here.

JAX's profiler returns *planes*, one for each device and some for the host. A plane has
*lines*, a line has *events*, an event has a name, nanoseconds and named statistics. On
NVIDIA GPUs XLA's tracer (`xla/backends/profiler/gpu/cupti_collector.cc`) writes:

* a plane `/device:GPU:0` for the first GPU,
* in it a line `Stream #16(...)` for each CUDA stream, with the kinds of its events in
  the brackets. Lines with other names repeat these events in other words,
* in a line an event for each kernel, by the kernel's name, and for each copy:
  `MemcpyD2H`, `MemcpyH2D`, `MemcpyD2D`, `MemcpyP2P`,
* for an event the statistics `hlo_op`, the instruction of the compiled program, and for
  a copy `memcpy_details`, such as `kind_src:device kind_dst:pinned size:1024 dest:0`.

The host's plane holds the annotation `MARK` around each step. All planes share a clock.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from jaxswap._compiled.copies import find_copies, origin_of
from jaxswap._compiled.hlo import Module
from jaxswap._view.step import Lane, LaneSpan, StepLanes, step_of

MARK = "jaxswap.profile step"
"""Name of the annotation around each step."""
DEVICE = "/device:GPU:"
STREAM = "Stream #"

_LANES: Mapping[str, Lane] = {"MemcpyD2H": "swap-out", "MemcpyH2D": "swap-in"}
_SIZE = re.compile(r"\bsize:(\d+)")
_AROUND = re.compile(r"^(?:jit\([^()]*\)/)+")
_TRANSFORM = re.compile(r"\b(?:jvp|transpose)\(([^()]*)\)")
_Label = tuple[str, str]


class ProfiledEvent(Protocol):
    """One event of a line, as `jax.profiler.ProfileEvent` has it."""

    @property
    def name(self) -> str:
        """What ran."""
        ...

    @property
    def start_ns(self) -> float:
        """When it began."""
        ...

    @property
    def duration_ns(self) -> float:
        """How long it took."""
        ...

    @property
    def stats(self) -> Iterable[tuple[str, Any]]:
        """What is known of it, by name."""
        ...


class ProfiledLine(Protocol):
    """A CUDA stream or a thread of the host."""

    @property
    def name(self) -> str:
        """Which one."""
        ...

    @property
    def events(self) -> Iterable[ProfiledEvent]:
        """What it ran."""
        ...


class ProfiledPlane(Protocol):
    """A device or the host."""

    @property
    def name(self) -> str:
        """Which one."""
        ...

    @property
    def lines(self) -> Iterable[ProfiledLine]:
        """Its streams or threads."""
        ...


def read_steps(
    planes: Iterable[ProfiledPlane], program: Module
) -> tuple[StepLanes, ...]:
    """Read what a GPU did in each step.

    Args:
        planes: `jax.profiler.ProfileData.planes`. Each step ran inside the annotation
            `MARK` while they were recorded.
        program: The compiled program that ran. It has the labels.

    Returns:
        The steps in order. If several GPUs ran, those of the first one.

    Raises:
        ValueError: If no step was marked, or the GPU ran nothing within the marks.
    """
    planes = list(planes)
    windows = marked(planes)
    if not windows:
        raise ValueError(f"`planes` hold no step: nothing is marked {MARK!r}.")
    spans = _spans(planes, _labels(program))
    steps = [
        step_of(span for span in spans if start <= span.start_seconds <= end)
        for start, end in windows
    ]
    if not any(step.spans for step in steps):
        names = ", ".join(plane.name for plane in planes)
        raise ValueError(
            f"`planes` hold no kernel of a GPU within the {len(steps)} steps; they are "
            f"{names}. A profile of an NVIDIA GPU has one named {DEVICE}0."
        )
    return tuple(step for step in steps if step.spans)


def marked(planes: Iterable[ProfiledPlane]) -> list[tuple[float, float]]:
    """Return start and end of each marked step, in seconds of the profiler's clock."""
    return sorted(
        (event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9)
        for plane in planes
        if not plane.name.startswith("/device:")
        for line in plane.lines
        for event in line.events
        if event.name == MARK
    )


def _spans(
    planes: Iterable[ProfiledPlane], labels: Mapping[str, _Label]
) -> list[LaneSpan]:
    """Return kernels and copies of the first GPU that ran any."""
    for plane in sorted(planes, key=lambda plane: plane.name):
        if not plane.name.startswith(DEVICE):
            continue
        spans = [
            _span(event, line.name, labels)
            for line in plane.lines
            if line.name.startswith(STREAM)
            for event in line.events
        ]
        if spans:
            return spans
    return []


def _span(event: ProfiledEvent, stream: str, labels: Mapping[str, _Label]) -> LaneSpan:
    stats = dict(event.stats)
    size = _SIZE.search(str(stats.get("memcpy_details", "")))
    # Kernels that were captured into a CUDA graph may come without `hlo_op`. XLA names
    # generated kernels after the instruction.
    label, source = labels.get(str(stats.get("hlo_op", event.name)), ("", ""))
    return LaneSpan(
        lane=_LANES.get(event.name, "compute"),
        start_seconds=event.start_ns / 1e9,
        seconds=event.duration_ns / 1e9,
        name=event.name,
        label=label,
        source=source,
        nbytes=int(size[1]) if size else 0,
        track=stream,
    )


def _labels(program: Module) -> dict[str, _Label]:
    """Return label and source of each instruction, by its and by its kernel's name."""
    found: dict[str, _Label] = {}
    for instruction in program.instructions():
        label = (short_label(instruction.op_name), instruction.source)
        found.setdefault(re.sub(r"[.-]", "_", instruction.name), label)
        found[instruction.name] = label
    for copy in find_copies(program):
        computation = program.by_name[copy.computation]
        origin = origin_of(computation.by_name[copy.name], computation)
        # Where XLA dropped the name of a swap, only the source line is left of it.
        is_named = copy.label != origin.source
        label = copy.label if is_named else short_label(origin.op_name)
        found[copy.name] = (label or copy.label, origin.source)
    return found


def short_label(op_name: str) -> str:
    """Shorten JAX's path of an operation to what the user wrote.

    Args:
        op_name: Such as `"jit(step)/jvp(UNet3D)/encoder0/conv"`.

    Returns:
        The path without the names of transforms and of the functions around it; with
        `backward` before it if it belongs to the backward pass.

    Example:
        >>> short_label("jit(step)/jvp(UNet3D)/encoder0/conv")
        'UNet3D/encoder0/conv'
        >>> short_label("jit(step)/transpose(jvp(UNet3D))/encoder0/conv")
        'backward UNet3D/encoder0/conv'
    """
    path = _AROUND.sub("", op_name)
    while (inner := _TRANSFORM.sub(r"\1", path)) != path:
        path = inner
    path = path.strip("/")
    return f"backward {path}" if "transpose(" in op_name else path
