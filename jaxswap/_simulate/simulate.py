"""Steps and rates -> `Timeline`: when everything happens and what memory it takes.

Three lanes run side by side: computation, copies to the host, copies to the device.
Each works off its queue in order. Computation waits for a copy where the schedule
says so, and for a value that is not back yet.

Device memory depends on the order of steps alone, not on the clock, as in a compiled
program, whose buffers are laid out before it runs: a buffer is held from the step
that makes it to the last that reads it; one that is copied to the host, to the step
that waits for the copy. What a loop carries, and what is updated, makes way for the
result.
"""

import dataclasses
import math
from collections.abc import Collection

import numpy as np

from jaxswap._gpu.rates import Rates
from jaxswap._graph.compress import copied_bytes
from jaxswap._graph.graph import Equation, Graph
from jaxswap._schedule.instructions import Barrier, Run, Schedule
from jaxswap._simulate.carries import LOOP, bytes_of_places
from jaxswap._simulate.kernels import (
    Fusion,
    Kernel,
    PlannedCopy,
    Steps,
    Wait,
)
from jaxswap._simulate.lives import freed_of
from jaxswap._simulate.lowering import lower
from jaxswap._simulate.timeline import Timeline, Transfer

GROUPED = "ragged_dot_general"
"""The primitive whose operands XLA copies for each group."""
LOOP_LAUNCHES = 5
"""How many more kernels a loop over two parts takes: one for its second part, one for
the number of each part, and two to begin."""


class Simulator:
    """Plays schedules of one graph at one GPU's rates."""

    def __init__(self, graph: Graph, rates: Rates) -> None:
        self.graph = graph
        self.rates = rates
        self.fusion = Fusion(graph)
        self.nbytes = [v.nbytes for v in graph.values]
        self.copied_bytes = [copied_bytes(v, graph.compress) for v in graph.values]
        self.base_seconds = [self._product_seconds(eqn) for eqn in graph.equations]
        self.iterations = {
            eqn.index: iteration_of(eqn.body, rates)
            for eqn in graph.equations
            if eqn.body is not None
        }
        self.grouped = {
            eqn.inputs[0] for eqn in graph.equations if eqn.primitive == GROUPED
        }
        self.caller_bytes = self._caller_bytes()
        in_loops = [
            v for eqn in graph.equations if eqn.primitive == LOOP for v in eqn.outputs
        ]
        self.loop_host_bytes = sum(graph.values[v].host_nbytes for v in in_loops)
        inside = (found.host_bytes for found in self.iterations.values())
        self.loop_host_bytes += max(inside, default=0)
        self.host_nbytes = [v.host_nbytes for v in graph.values]
        for v in in_loops:
            self.host_nbytes[v] = 0

    def play(self, schedule: Schedule) -> Timeline:
        """Simulate one forward and backward pass."""
        steps = lower(self.fusion, schedule)
        return _Play(self, steps, self._merged(schedule)).timeline()

    def play_once(self) -> Timeline:
        """Simulate all equations once, in their order, as one forward pass."""
        runs = tuple(Run(eqn.index) for eqn in self.graph.equations)
        return self.play(Schedule(runs, (), (), (), ()))

    def kernel_seconds(self, kernel: Kernel, values: tuple[int, ...]) -> float:
        """Seconds that a kernel takes: the longer of its arithmetic and its bytes."""
        eqn = self.graph.equations[kernel.equation]
        given = self.fixed_seconds(eqn)
        if given is not None:
            return given
        made = sum(self.nbytes[values[b]] for b in kernel.makes)
        rate = self.rates.memory_bytes_per_second
        if eqn.is_reduction:
            rate = self.rates.reduction_bytes_per_second
        if kernel.is_shared:
            return made / rate + self.loop_seconds(kernel)
        read = sum(self.nbytes[values[b]] for b in kernel.reads)
        read += sum(map(self.nbytes.__getitem__, kernel.arguments))
        moved = max(read + made, eqn.inner_bytes)
        alone = max(moved / rate, self.base_seconds[kernel.equation])
        return self.rates.launch_seconds + alone + self.loop_seconds(kernel)

    def loop_seconds(self, kernel: Kernel) -> float:
        """Seconds of what the loop takes in which a result is written in place."""
        return LOOP_LAUNCHES * self.rates.launch_seconds if kernel.is_in_place else 0.0

    def fixed_seconds(self, eqn: Equation) -> float | None:
        """Seconds of a kernel that do not depend on its operands. `None` if they do."""
        if eqn.index in self.iterations:
            return eqn.trip_count * self.iterations[eqn.index].seconds
        if self.is_copy(eqn):
            return 0.0
        return self.rates.operation_seconds.get(eqn.operation)

    def copy_seconds(self, value: int, is_inward: bool) -> float:
        """Seconds that the copy of a value takes when nothing else is copied."""
        rate = (
            self.rates.swap_in_bytes_per_second
            if is_inward
            else self.rates.swap_out_bytes_per_second
        )
        return self.rates.copy_latency_seconds + self.copied_bytes[value] / rate

    def both_ways_share(self, is_inward: bool) -> float:
        """Share of its rate that a copy keeps while another one goes the other way."""
        if is_inward:
            return self.rates.swap_in_both_ways_share
        return self.rates.swap_out_both_ways_share

    def inner_bytes(self, equation: int) -> int:
        """Device memory that an equation needs inside, beside operands and results."""
        eqn, found = self.graph.equations[equation], self.iterations.get(equation)
        if found is None:
            return eqn.workspace_bytes
        is_in_call = eqn.primitive != LOOP
        return found.device_bytes + is_in_call * eqn.workspace_bytes

    def _merged(self, schedule: Schedule) -> set[int]:
        """Values whose copies for grouped products XLA makes once for all products.

        It merges equal operations, unless the value passed a barrier in between.
        Arguments pass none.
        """
        equations = (*schedule.forward, *schedule.backward)
        if any(isinstance(step, Barrier) for step in equations):
            return set(self.graph.arguments) & self.grouped
        return self.grouped

    def is_copy(self, eqn: Equation) -> bool:
        """Whether an equation copies between device and host, beside computation."""
        ends = (*eqn.inputs, *eqn.outputs)
        is_put = eqn.primitive == "device_put"
        return is_put and any(self.graph.values[v].host_nbytes for v in ends)

    def _product_seconds(self, eqn: Equation) -> float:
        """Seconds of arithmetic, for those equations that it can limit."""
        if eqn.work is None:
            return 0.0
        flops = max(eqn.flops, eqn.tile_flops)
        converted_bytes = 2 * eqn.workspace_bytes  # read once, written once
        return (
            flops * self._idle_factor(eqn) / self.rates.flops_per_second(eqn.work)
            + converted_bytes / self.rates.conversion_bytes_per_second
        )

    def _idle_factor(self, eqn: Equation) -> float:
        """How much longer a product takes whose tiles do not fill the GPU evenly.

        Tiles are computed in waves of one for each multiprocessor. Where there are few
        tiles, kernels split the sums, which gains back what is beyond a factor of two.
        """
        if not eqn.tile_count:
            return 1.0
        waves = math.ceil(eqn.tile_count / self.rates.tiles_at_once)
        return min(2.0, waves * self.rates.tiles_at_once / eqn.tile_count)

    def _caller_bytes(self) -> int:
        """Arguments, cotangents (a scalar's is a constant), results, gradients."""
        graph = self.graph
        cotangents = [v for v in graph.cotangents if self.nbytes[v] > 16]
        given = (*graph.arguments, *cotangents)
        made = (*graph.outputs, *graph.gradients)
        return sum(self.nbytes[v] for v in (*given, *made))


@dataclasses.dataclass(frozen=True)
class Iteration:
    """What one iteration of a loop takes.

    Attributes:
        seconds: Of computation, or of the copies in one direction, if these are more.
        device_bytes: Memory for what lives within the iteration.
        host_bytes: Host memory of what loops in it have swapped.
    """

    seconds: float
    device_bytes: int
    host_bytes: int = 0


def iteration_of(body: Graph, rates: Rates) -> Iteration:
    """Simulate one iteration of a loop, whose copies have all of it to hide behind."""
    simulator = Simulator(body, rates)
    timeline = simulator.play_once()
    values = body.values
    out_bytes, in_bytes, copies = 0, 0, 0
    for eqn in body.equations:
        if simulator.is_copy(eqn):
            out_bytes += sum(values[v].host_nbytes for v in eqn.outputs)
            in_bytes += sum(values[v].nbytes for v in eqn.outputs)
            copies += 1
    device_bytes_at = timeline.device_bytes_at + bytes_of_places(
        body, simulator.fusion, timeline
    )
    latency = copies * rates.copy_latency_seconds
    return Iteration(
        seconds=max(
            timeline.seconds,
            latency + out_bytes / rates.swap_out_bytes_per_second,
            latency + in_bytes / rates.swap_in_bytes_per_second,
        ),
        device_bytes=int(device_bytes_at.max(initial=timeline.caller_bytes))
        - timeline.caller_bytes,
        host_bytes=simulator.loop_host_bytes,
    )


class _Play:
    """One run through the steps."""

    def __init__(
        self, simulator: Simulator, steps: Steps, merged: Collection[int]
    ) -> None:
        self.simulator = simulator
        self.steps = steps
        self.merged = merged
        self.clock = 0.0
        self.lanes = [0.0, 0.0]
        self.arrival: dict[int, float] = {}
        self.at_host: dict[int, float] = {}
        self.transfers: list[Transfer] = []
        count = len(steps.steps)
        self.starts = np.zeros(count)
        self.seconds = np.zeros(count)
        self.stalls = np.zeros(count)

    def timeline(self) -> Timeline:
        rates = self.simulator.rates
        for at, step in enumerate(self.steps.steps):
            started = self.clock
            match step:
                case Kernel():
                    ready = max(
                        (self.arrival[b] for b in step.reads if b in self.arrival),
                        default=0.0,
                    )
                    begin = max(self.clock, ready)
                    self.seconds[at] = self.simulator.kernel_seconds(
                        step, self.steps.values
                    )
                    self.clock = begin + self.seconds[at]
                    self.stalls[at] = begin - started
                    self.starts[at] = begin
                case PlannedCopy():
                    self.starts[at] = self.clock
                    self.seconds[at] = rates.launch_seconds
                    self.clock += self.seconds[at]
                    self._copy(at, step)
                case Wait(values):
                    ready = max(self.at_host[v] for v in values)
                    self.clock = max(self.clock, ready)
                    self.stalls[at] = self.clock - started
                    self.starts[at] = self.clock
        freed = freed_of(self.steps)
        device = self._device_bytes(freed)
        return Timeline(
            steps=self.steps,
            starts=self.starts,
            seconds_of=self.seconds,
            stalls=self.stalls,
            transfers=tuple(self.transfers),
            device_bytes_at=device + self.simulator.caller_bytes,
            host_bytes_at=self._host_bytes(freed),
            freed=freed,
            caller_bytes=self.simulator.caller_bytes,
            seconds=float(max(self.clock, *self.lanes)),
        )

    def _copy(self, at: int, copy: PlannedCopy) -> None:
        lane = int(copy.is_inward)
        begin = max(self.clock, self.lanes[lane])
        if copy.is_inward:
            begin = max(begin, self.at_host.get(copy.value, 0.0))
        alone = self.simulator.copy_seconds(copy.value, copy.is_inward)
        share = self.simulator.both_ways_share(copy.is_inward)
        seconds = _shared(alone, self.lanes[1 - lane] - begin, share)
        self.lanes[lane] = begin + seconds
        if copy.is_inward:
            self.arrival[copy.buffer] = begin + seconds
        else:
            self.at_host[copy.value] = begin + seconds
        self.transfers.append(Transfer(copy.value, copy.is_inward, at, begin, seconds))

    def _device_bytes(self, freed: np.ndarray) -> np.ndarray:
        """Bytes of buffers held at each step."""
        change = np.zeros(len(self.steps.steps) + 1, np.int64)
        for at, step in enumerate(self.steps.steps):
            for b in _made(step):
                if not self.steps.is_fixed[b]:
                    nbytes = self.simulator.nbytes[self.steps.values[b]]
                    change[at] += nbytes
                    change[max(freed[b], at) + 1] -= nbytes
            if isinstance(step, Kernel):
                inner = self.simulator.inner_bytes(step.equation)
                change[at] += inner
                change[at + 1] -= inner
        self._hold_merged(change)
        return np.cumsum(change)[:-1]

    def _hold_merged(self, change: np.ndarray) -> None:
        """Add copies for groups, from behind their first product to their last one."""
        first: dict[int, tuple[int, int]] = {}
        last: dict[int, int] = {}
        for at, step in enumerate(self.steps.steps if self.merged else ()):
            if not isinstance(step, Kernel):
                continue
            eqn = self.simulator.graph.equations[step.equation]
            if eqn.primitive == GROUPED and eqn.inputs[0] in self.merged:
                first.setdefault(eqn.inputs[0], (at, eqn.workspace_bytes))
                last[eqn.inputs[0]] = at
        for v, (at, nbytes) in first.items():
            if last[v] > at:
                change[at + 1] += nbytes
                change[last[v]] -= nbytes

    def _host_bytes(self, freed: np.ndarray) -> np.ndarray:
        """Bytes in host memory at each step: from the copy out to the last one in.

        What sweeps write there counts until the last one has read it. What loops have
        swapped inside is counted from beginning to end.
        """
        change = np.zeros(len(self.steps.steps) + 1, np.int64)
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for transfer in self.transfers:
            if not transfer.is_inward:
                first[transfer.value] = transfer.step
            last[transfer.value] = transfer.step
        for v, at in first.items():
            change[at] += self.simulator.copied_bytes[v]
            change[last[v] + 1] -= self.simulator.copied_bytes[v]
        for at, step in enumerate(self.steps.steps):
            for b in _made(step):
                nbytes = self.simulator.host_nbytes[self.steps.values[b]]
                change[at] += nbytes
                change[max(freed[b], at) + 1] -= nbytes
        return np.cumsum(change)[:-1] + self.simulator.loop_host_bytes


def _made(step: Kernel | PlannedCopy | Wait) -> tuple[int, ...]:
    """Return the buffers that a step makes."""
    if isinstance(step, Kernel):
        return tuple(step.makes)
    if isinstance(step, PlannedCopy) and step.is_inward:
        return (step.buffer,)
    return ()


def _shared(alone: float, overlap: float, share: float) -> float:
    """Seconds of a copy while the other direction is busy for `overlap`."""
    if overlap <= 0:
        return alone
    if alone <= overlap * share:
        return alone / share
    return overlap + alone - overlap * share
