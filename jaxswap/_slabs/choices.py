"""How much sweeps store on the device, store on the host, and compute again.

All three take something: memory, time on the link, time of computation. How much is
estimated from the sweeps alone, at a GPU's rates. The estimates only order choices:
those that are worth it are traced, and simulated in detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxswap._gpu.rates import Rates
from jaxswap._slabs.frame import Frame, Kind, Step
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.hosted import order_to_leave
from jaxswap._slabs.levels import Levels
from jaxswap._slabs.storing import Storage
from jaxswap._slabs.sweeps import Sweep

APART = 0.9
"""Two choices are tried if one needs at most this share of the other's memory."""
CLOSE, CLOSELY_APART = (0.85, 1.12), 0.96
"""The same near the limit, between these shares of it: there a little less memory may
spare computing a value again."""
ABOVE, BELOW = 1.5, 0.5
"""Shares of the limit between which choices are tried. Plans save memory elsewhere, and
estimates err, so what seems to be too large may fit."""
MOST_RECOMPUTED = 20


@dataclass(frozen=True)
class Choice:
    """Numbers of slabs, of values to compute again and to swap, with what that takes.

    Attributes:
        count: How many slabs there are.
        recomputed: How many values are computed again.
        swapped: How many lie in host memory.
        seconds: Of all sweeps.
        nbytes: Device memory of what sweeps write and read, at most.
    """

    count: int
    recomputed: int
    swapped: int
    seconds: float
    nbytes: float


def choices_of(
    storage: Storage,
    rates: Rates,
    *,
    recomputed: int | None = None,
    swapped: int | None = None,
) -> list[Choice]:
    """Return the choices for one number of slabs.

    Args:
        storage: What sweeps of the program store.
        rates: Those of the GPU.
        recomputed: How many values are computed again. `None`: several numbers.
        swapped: How many values lie in host memory. `None`: several numbers.
    """
    sweeping = storage.sweeping
    frame, levels, grid = sweeping.frame, sweeping.levels, sweeping.grid
    sets = storage.sets(MOST_RECOMPUTED if recomputed is None else recomputed)
    numbers = range(len(sets)) if recomputed is None else (recomputed,)
    found = []
    for number in numbers:
        sweeps = sweeping.sweeps(sets[min(number, len(sets) - 1)])
        leaving = order_to_leave(frame, grid, sweeps)
        counts = range(len(leaving) + 1) if swapped is None else (swapped,)
        for count in counts:
            hosted = frozenset(leaving[:count])
            seconds = seconds_of(frame, grid, sweeps, rates, hosted)
            nbytes = bytes_of(frame, levels, grid, sweeps, hosted)
            found.append(Choice(grid.count, number, count, seconds, nbytes))
    return found


def worth_trying(
    choices: Iterable[Choice], limit_bytes: float = 0
) -> tuple[Choice, ...]:
    """Return choices of which none is both slower and larger than another.

    Args:
        choices: All choices.
        limit_bytes: Device memory for what programs compute. 0: as little as can be.

    Returns:
        The choices. Each needs much less memory than all that are faster.
    """
    ordered = sorted(choices, key=lambda c: (c.seconds, c.nbytes))
    return tuple(_near(list(_apart(ordered, limit_bytes)), limit_bytes))


def _apart(choices: Iterable[Choice], limit_bytes: float) -> Iterable[Choice]:
    """Go over the choices that need much less memory than all faster ones."""
    least = float("inf")
    low, high = (share * limit_bytes for share in CLOSE)
    for choice in choices:
        share = CLOSELY_APART if low <= choice.nbytes <= high else APART
        if choice.nbytes <= share * least:
            least = choice.nbytes
            yield choice


def _near(choices: Sequence[Choice], limit_bytes: float) -> Iterable[Choice]:
    """Go over the choices around a limit: one above at least, and one far below."""
    if not limit_bytes:
        yield from choices[::-2]
        return
    for at, choice in enumerate(choices):
        is_last = choice.nbytes < BELOW * limit_bytes or at == len(choices) - 1
        if is_last or choice.nbytes <= ABOVE * limit_bytes:
            yield choice
        if is_last:
            return


def seconds_of(
    frame: Frame,
    grid: Grid,
    sweeps: Iterable[Sweep],
    rates: Rates,
    hosted: frozenset[int],
) -> float:
    """Return about how long sweeps take: their computation or copies, and launches."""
    total = 0.0
    for sweep in sweeps:
        reads, writes = (hosted.intersection(v) for v in (sweep.reads, sweep.writes))
        copies = (len(reads) + len(writes)) * grid.count
        come = sum(_read_bytes(frame, grid, sweep, v) for v in reads)
        leave = sum(frame.axes[v].nbytes for v in writes)
        total += copies * rates.launch_seconds + max(
            _computation(frame, grid, sweep, rates),
            come / rates.swap_in_bytes_per_second,
            leave / rates.swap_out_bytes_per_second,
        )
    return total


def _computation(frame: Frame, grid: Grid, sweep: Sweep, rates: Rates) -> float:
    """Return the seconds of a sweep's kernels.

    A heavy operation has a kernel, and one that makes its operand. What a sum reads,
    and what is written, goes through memory once.
    """
    seconds, moved, kernels = 0.0, 0.0, len(sweep.writes)
    for index in sweep.steps:
        step = frame.steps[index]
        if step.is_heavy:
            share = _share(frame, grid, sweep, step)
            seconds += share * _product_seconds(step, rates)
            moved += 2 * share * _fine_bytes(frame, step)
            kernels += 2
        elif step.kind is Kind.SUM:
            moved += _fine_bytes(frame, step)
            kernels += 1
    moved += sum(_read_bytes(frame, grid, sweep, v) for v in sweep.reads)
    moved += 2 * sum(frame.axes[v].nbytes for v in sweep.writes)
    launches = kernels * grid.count * rates.launch_seconds
    return seconds + moved / rates.memory_bytes_per_second + launches


def _product_seconds(step: Step, rates: Rates) -> float:
    measured = rates.operation_seconds.get(step.operation)
    if measured is not None or step.work is None:
        return measured or 0.0
    return step.tile_flops / rates.flops_per_second(step.work)


def _share(frame: Frame, grid: Grid, sweep: Sweep, step: Step) -> float:
    """Return how often each plane of a result is computed; the halo's are twice."""
    if step.kind is not Kind.LOCAL:
        return 1.0
    v = step.outputs[0]
    return sweep.windows[v].size / grid.pitch(frame.axes[v].rate)


def _fine_bytes(frame: Frame, step: Step) -> float:
    values = (*step.inputs, *step.outputs)
    return sum(frame.axes[v].nbytes for v in values if v in frame.axes)


def _read_bytes(frame: Frame, grid: Grid, sweep: Sweep, value: int) -> float:
    """Return the bytes of a value that all slabs together read."""
    axis = frame.axes[value]
    return axis.nbytes * sweep.windows[value].size / grid.pitch(axis.rate)


def bytes_of(
    frame: Frame,
    levels: Levels,
    grid: Grid,
    sweeps: Sequence[Sweep],
    hosted: frozenset[int],
) -> float:
    """Return about how much device memory values of sweeps take, at most."""
    written = {v: sweep.level for sweep in sweeps for v in sweep.writes}
    ends = dict(written)
    for sweep in sweeps:
        ends.update({v: sweep.level for v in sweep.reads if v in ends})
    for index, step in enumerate(frame.steps):
        if step.kind is Kind.WHOLE:
            for v in ends.keys() & {*step.inputs}:
                ends[v] = max(ends[v], levels.steps[index])
    held = [0.0] * (levels.count + 1)
    for v, level in written.items():
        for at in range(level, ends[v] + 1 if v not in hosted else level):
            held[at] += frame.axes[v].nbytes
    for sweep in sweeps:
        windows = (_window_bytes(frame, sweep, v) for v in sweep.reads)
        twice = (
            _window_bytes(frame, sweep, v) for v in hosted.intersection(sweep.reads)
        )
        held[sweep.level] += sum(windows) + sum(twice)
    return max(held)


def _window_bytes(frame: Frame, sweep: Sweep, value: int) -> float:
    axis = frame.axes[value]
    return axis.nbytes * sweep.windows[value].size / axis.planes
