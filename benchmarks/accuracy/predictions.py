"""What the cost model says of each row that was timed on a GPU. No JAX here.

A row is a measurement and a prediction of the same: the seconds of a step, of one kind
of its kernels, or of one convolution, or the bytes of a compiled program.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import harness
from benchmarks.accuracy.timed_programs import (
    TimedProgram,
    channels_last,
    timed_programs,
)
from jaxswap._gpu.rates import Rates
from jaxswap._gpu.work import Work
from jaxswap._graph.graph import Graph
from jaxswap._simulate.draft import Arranger
from jaxswap._simulate.kernels import Kernel
from jaxswap._simulate.timeline import Timeline
from jaxswap._trace.products import Convolution

FILE = harness.RESULTS / "device-nvidia-h200.jsonl"
NHWC = "xla_gpu_force_conv_nhwc"
_NOT_LIMITED = 1e18

_Key = tuple[str, str, str]
"""Workload, method and budget of a program."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement beside its prediction.

    Attributes:
        workload: The program.
        method: How it saves memory, with its budget; the kind of kernels; the form of a
            convolution.
        layout: Where its features have their channels: `"first"` or `"last"`.
        measured: In seconds or bytes.
        predicted: In the same unit.
    """

    workload: str
    method: str
    layout: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """How much too high the prediction is, as a share of the measurement."""
        return self.predicted / self.measured - 1


@functools.cache
def measured_rows() -> tuple[dict[str, Any], ...]:
    """Read the rows of the GPU."""
    return tuple(json.loads(line) for line in FILE.read_text().splitlines())


def steps(rates: Rates) -> Iterator[Row]:
    """Compare the seconds of each step that was timed."""
    for row, program, layout in _timed("time"):
        seconds = _seconds(rates, program, layout)
        yield Row(row["workload"], _name(row), layout, row["median_seconds"], seconds)


def device_bytes() -> Iterator[Row]:
    """Compare the temporaries of each program on the GPU with a compile without one.

    Those that run channels first need workspace that such a compile does not know.
    """
    for row, program, layout in _timed("time"):
        seen = program.compiled.get(f"channels {layout}")
        if seen is not None:
            predicted = seen["temp_bytes"] + seen["workspace_bytes"]
            yield Row(row["workload"], _name(row), layout, row["temp_bytes"], predicted)


def kernels(rates: Rates) -> Iterator[Row]:
    """Compare the seconds of each kind of kernel of each profile."""
    for row, program, layout in _timed("profile"):
        measured = _measured_kinds(row)
        predicted = _simulated_kinds(rates, program, layout)
        for kind, seconds in measured.items():
            if seconds:
                where = f"{_name(row)}: {kind}"
                yield Row(row["workload"], where, layout, seconds, predicted[kind])


def convolutions(rates: Rates) -> Iterator[Row]:
    """Compare the seconds of each convolution that was timed alone."""
    for row in measured_rows():
        if row["table"] in ("convolutions", "convolutions_nhwc"):
            form = row.get("form") or row["layout"]
            is_nhwc = row.get("force_nhwc", False)
            name = f"{row['ci']} channels, {row['s']}^3, {row['dt']}"
            layout = "last" if form == "cl" and is_nhwc else "first"
            for which in ("fwd", "dx", "dk"):
                seconds = _FORMS[form](rates, row, which, is_nhwc)
                how = f"{form}{', nhwc' if is_nhwc else ''}: {which}"
                yield Row(name, how, layout, row[f"{which}_ms"] / 1e3, seconds)


def _timed(what: str) -> Iterator[tuple[dict[str, Any], TimedProgram, str]]:
    """Rows of one table whose program was kept, with the layout that it ran in."""
    programs = timed_programs()
    for row in measured_rows():
        if row.get("what") == what:
            program = programs.get((row["workload"], row["method"], row["budget"]))
            if program is not None:
                is_last = row["options"].get(NHWC, False)
                yield row, program, "last" if is_last else "first"


def _name(row: dict[str, Any]) -> str:
    return f"{row['method']} {row['budget']}".strip()


def _key(program: TimedProgram) -> _Key:
    return program.workload, program.method, program.budget


def _seconds(rates: Rates, program: TimedProgram, layout: str) -> float:
    """Seconds of a step; JAX's own copies are added, of which hardly one was hidden."""
    # XLA changes layouts where the program's are not those that it is told to use.
    compiled = program.compiled.get(f"channels {layout}", {})
    turned_bytes = 2 * compiled.get("transposed_bytes", 0)
    fixed = rates.call_seconds + turned_bytes / rates.conversion_bytes_per_second
    if not program.method.startswith("JAX"):
        return _timeline(rates, _key(program), layout).seconds + fixed
    alone = dataclasses.replace(
        rates,
        swap_out_bytes_per_second=_NOT_LIMITED,
        swap_in_bytes_per_second=_NOT_LIMITED,
    )
    swapped_bytes = program.compiled["channels first"]["swapped_bytes"]
    copying = swapped_bytes / rates.swap_in_bytes_per_second
    return _timeline(alone, _key(program), layout).seconds + copying + fixed


@functools.lru_cache(maxsize=128)
def _timeline(rates: Rates, key: _Key, layout: str) -> Timeline:
    program = timed_programs()[key]
    arranger = Arranger(_graph(key, layout), rates, program.staleness[1])
    return arranger.draft(program.actions, program.swaps, program.staleness).timeline


@functools.cache
def _graph(key: _Key, layout: str) -> Graph:
    graph = timed_programs()[key].graph
    return channels_last(graph) if layout == "last" else graph


# Kinds of kernels by what their names hold. Names that were not recorded, each of which
# took less than the shortest of the 25 longest, count as other kernels.
_KINDS = {
    "kernel gradients": ("wgrad",),
    "conversions": ("nchwToNhwc", "nhwcToNchw", "nhwcAddPadding"),
    "products": ("fprop", "dgrad", "gemm", "nvjet"),
}
_OTHERS = "other kernels"


def _measured_kinds(row: dict[str, Any]) -> dict[str, float]:
    found = dict.fromkeys((*_KINDS, _OTHERS), 0.0)
    for name, milliseconds, _ in row["longest"]:
        kinds = (k for k, parts in _KINDS.items() if any(p in name for p in parts))
        if not name.startswith("Memcpy"):
            found[next(kinds, _OTHERS)] += milliseconds / 1e3
    found[_OTHERS] += row["compute_ms"] / 1e3 - sum(found.values())
    return found


def _simulated_kinds(
    rates: Rates, program: TimedProgram, layout: str
) -> dict[str, float]:
    timeline = _timeline(rates, _key(program), layout)
    graph = _graph(_key(program), layout)
    found = dict.fromkeys((*_KINDS, _OTHERS), 0.0)
    for seconds, step in zip(timeline.seconds_of, timeline.steps.steps, strict=True):
        if isinstance(step, Kernel):
            eqn = graph.equations[step.equation]
            conversion = 2 * eqn.workspace_bytes / rates.conversion_bytes_per_second
            found["conversions"] += conversion
            found[_kind(eqn.work)] += float(seconds) - conversion - rates.launch_seconds
    return found


def _kind(work: Work | None) -> str:
    if work is None:
        return _OTHERS
    return "kernel gradients" if work.endswith("kernel_gradient") else "products"


def _convolution(
    row: dict[str, Any], which: str, *, planes: int = 3, stack: int = 1
) -> Convolution:
    """A convolution of `planes` by three by three voxels, of a whole volume.

    So many planes are stacked along channels before.
    """
    voxels, window = row["s"] ** 3, 9 * planes
    channels = row["ci"] * stack
    itemsize = 2 if row["dt"] == "bf16" else 4
    is_gradient = which == "dk"
    return Convolution(
        is_kernel_gradient=is_gradient,
        columns=row["co"],
        voxels=window * channels if is_gradient else voxels,
        places=voxels if is_gradient else window,
        channels=1 if is_gradient else channels,
        is_strided=False,
        itemsize=itemsize,
        nbytes=voxels * (channels + row["co"]) * itemsize,
        is_matmul=False,
        is_channels_first=True,
        rank=3,
    )


def _arithmetic(rates: Rates, row: dict[str, Any], one: Convolution) -> float:
    kind = "kernel_gradient" if one.is_kernel_gradient else "convolution"
    number = "bf16" if row["dt"] == "bf16" else "tf32"
    flops_per_second = rates.flops_per_second(Work(f"{number}_{kind}"))
    moving = one.nbytes / rates.memory_bytes_per_second
    return max(one.tile_flops / flops_per_second, moving)


def _channels_first(
    rates: Rates, row: dict[str, Any], which: str, is_nhwc: bool
) -> float:
    """Forced to channels last, XLA transposes; else cuDNN converts."""
    one = _convolution(row, which)
    how = "memory" if is_nhwc else "conversion"
    converting = 2 * one.nbytes / getattr(rates, f"{how}_bytes_per_second")
    return _arithmetic(rates, row, one) + converting


def _channels_last(
    rates: Rates, row: dict[str, Any], which: str, is_nhwc: bool
) -> float:
    """Not forced, XLA transposes to channels first and cuDNN converts back."""
    one = _convolution(row, which)
    if is_nhwc:
        return _arithmetic(rates, row, one)
    transposing = 2 * one.nbytes / rates.memory_bytes_per_second
    return _channels_first(rates, row, which, False) + transposing


def _three_planes(
    rates: Rates, row: dict[str, Any], which: str, is_nhwc: bool
) -> float:
    """Three two-dimensional convolutions, whose results are added."""
    one = _convolution(row, which, planes=1)
    adding = 2 * one.nbytes / rates.memory_bytes_per_second
    return 3 * _arithmetic(rates, row, one) + adding


def _stacked_planes(
    rates: Rates, row: dict[str, Any], which: str, is_nhwc: bool
) -> float:
    """One two-dimensional convolution of three planes, stacked along channels."""
    one = _convolution(row, which, planes=1, stack=3)
    return _arithmetic(rates, row, one) + one.nbytes / rates.memory_bytes_per_second


_FORMS: dict[str, Callable[[Rates, dict[str, Any], str, bool], float]] = {
    "cf": _channels_first,
    "cl": _channels_last,
    "2dsum": _three_planes,
    "2dstack": _stacked_planes,
}
