"""Graph, actions and timing -> `Schedule`: what runs when, and when copies start.

Each pass becomes a list of instructions in the order in which they are issued. XLA
reorders freely, so the order is made binding where it matters by barriers
(`jax.lax.optimization_barrier`) in front of heavy operations:

    Run a; SwapOut x; ...; Barrier(inputs of b, host copy of x); Run b

makes `b` wait until `x` has arrived on the host, so the device memory of `x` is free
from `b` on, and what runs between the two hides the copy. In the other direction

    Barrier(inputs of b, host copy of x); SwapIn x; Run b; ...; Run c reads x

keeps the copy from starting before `b` does, so `x` takes no device memory earlier,
and `b` hides it.
"""

import dataclasses
from collections.abc import Sequence

from jaxswap._graph import Action, Graph
from jaxswap._lifetimes import Lifetimes, Swap
from jaxswap._order import Entry, order_backward, order_forward, stored_values
from jaxswap._timing import Timing


@dataclasses.dataclass(frozen=True)
class Run:
    """Execute an equation; `is_replay` if it is a forward one in the backward pass."""

    equation: int
    is_replay: bool = False


@dataclasses.dataclass(frozen=True)
class SwapOut:
    """Start the copy of a value to the host."""

    value: int


@dataclasses.dataclass(frozen=True)
class SwapIn:
    """Start the copy of a value back to the device."""

    value: int


@dataclasses.dataclass(frozen=True)
class Barrier:
    """What reads any of these afterwards starts only when all of them are there."""

    device: tuple[int, ...]
    host: tuple[int, ...] = ()


Instruction = Run | SwapOut | SwapIn | Barrier


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Instructions of both passes and what goes from one to the other.

    Attributes:
        forward: instructions of the forward pass.
        backward: instructions of the backward pass.
        device_residuals: values that stay in device memory between the passes.
        host_residuals: values that wait in host memory between the passes.
        swaps: the swaps behind the copies.
    """

    forward: tuple[Instruction, ...]
    backward: tuple[Instruction, ...]
    device_residuals: tuple[int, ...]
    host_residuals: tuple[int, ...]
    swaps: tuple[Swap, ...]


def schedule(graph: Graph, actions: Sequence[Action], timing: Timing) -> Schedule:
    """Lay out both passes of `graph` in time.

    Args:
        graph: the traced program.
        actions: one for each value; those of arguments and of values of the backward
            pass are ignored.
        timing: when copies start.
    """
    stored = stored_values(graph, actions, graph.residuals())
    forward = order_forward(graph, stored)
    backward = order_backward(
        graph, stored, 2 * timing.swapout_threshold, timing.min_bytes
    )
    entries = (*forward, *backward)
    lifetimes = Lifetimes(entries, timing)
    swaps = tuple(
        swap
        for v in _candidates(graph, actions, timing)
        if (swap := lifetimes.swap_of(v, graph.values[v].nbytes)) is not None
    )
    issue = _Issue(graph, entries, swaps)
    split = len(forward)
    ahead = issue.instructions(range(split))
    behind = issue.instructions(range(split, len(entries)))
    device, host = _free_values(graph, behind)
    return Schedule(ahead, behind, device, host, swaps)


def _candidates(
    graph: Graph, actions: Sequence[Action], timing: Timing
) -> list[int]:
    """Values that leave the device if their uses lie far enough apart."""
    found = []
    for eqn in graph.equations:
        for v in eqn.outputs:
            nbytes = graph.values[v].nbytes
            if eqn.is_backward:
                is_idle = timing.swap_cotangents and nbytes >= timing.min_bytes
                if is_idle and not eqn.is_view:
                    found.append(v)
            elif actions[v] is Action.OFFLOAD and nbytes:
                found.append(v)
    return found


class _Issue:
    """Turns entries and swaps into instructions."""

    def __init__(
        self, graph: Graph, entries: Sequence[Entry], swaps: Sequence[Swap]
    ) -> None:
        self.graph = graph
        self.entries = entries
        self.producers = graph.producers()
        self.leaves: dict[int, list[int]] = {}
        self.waits: dict[int, list[int]] = {}
        self.returns: dict[int, list[int]] = {}
        self.late_returns: dict[int, list[int]] = {}
        for swap in swaps:
            self.leaves.setdefault(swap.made, []).append(swap.value)
            if swap.free_at is not None:
                self.waits.setdefault(swap.free_at, []).append(swap.value)
            for back in swap.returns:
                place = self.late_returns if back.gate is None else self.returns
                at = back.use if back.gate is None else back.gate
                place.setdefault(at, []).append(swap.value)
        self.fresh = self._fresh_inputs()
        self.loose_ends = self._loose_ends()

    def instructions(self, positions: range) -> tuple[Instruction, ...]:
        """Instructions of the entries at `positions`."""
        issued: list[Instruction] = []
        loose: list[int] = []
        for at in positions:
            entry = self.entries[at]
            returns, late = self.returns.get(at, []), self.late_returns.get(at, [])
            host = tuple(dict.fromkeys((*self.waits.get(at, []), *returns)))
            fresh = self.fresh.get(at, ())
            if host or fresh or (loose and entry.is_heavy):
                anchors = self._anchors(entry) if entry.is_heavy else self._token(at)
                device = tuple(dict.fromkeys((*anchors, *fresh, *loose)))
                issued.append(Barrier(device, host))
                loose = []
            loose.extend(self.loose_ends.get(at, ()))
            if late:
                issued.append(Barrier(self._token(at), tuple(late)))
            issued.extend(SwapIn(v) for v in (*returns, *late))
            issued.extend(Run(*part) for part in entry.parts)
            issued.extend(SwapOut(v) for v in self.leaves.get(at, []))
        return tuple(issued)

    def _anchors(self, entry: Entry) -> tuple[int, ...]:
        """Inputs of a heavy entry that a barrier holds back: its large ones."""
        made = [v for v in entry.reads if v in self.producers] or list(entry.reads)
        largest = max((self.graph.values[v].nbytes for v in made), default=0)
        return tuple(v for v in made if 8 * self.graph.values[v].nbytes >= largest)

    def _token(self, at: int) -> tuple[int, ...]:
        """A value that is there only when the backward pass has come this far."""
        for entry in reversed(self.entries[:at]):
            if entry.is_backward and not entry.is_replay and entry.makes:
                return entry.makes[-1:]
        return self.graph.cotangents

    def _loose_ends(self) -> dict[int, tuple[int, ...]]:
        """Results of heavy backward entries that no later heavy entry waits for.

        Gradients of weights. Nothing would keep XLA from putting them off, with all
        that they read, to the end of the program; so the next heavy entry is made to
        wait for them.
        """
        found: dict[int, tuple[int, ...]] = {}
        awaited: set[int] = set()
        for at, entry in reversed(list(enumerate(self.entries))):
            if not entry.is_backward:
                break
            if entry.is_heavy and awaited.isdisjoint(entry.makes):
                found[at] = entry.makes[-1:]
            if entry.is_heavy or not awaited.isdisjoint(entry.makes):
                awaited.update(entry.reads)
        return found

    def _fresh_inputs(self) -> dict[int, tuple[int, ...]]:
        """Stored inputs of replays that must pass a barrier, by position.

        XLA merges equal operations. A replay that reads nothing but what the forward
        pass read would become the forward value again, held all the way.
        """
        found: dict[int, tuple[int, ...]] = {}
        distinct: set[int] = set()
        back = {v for vs in (self.returns, self.late_returns) for v in sum(vs.values(), [])}
        gate = None
        for at, entry in enumerate(self.entries):
            if not entry.is_backward:
                continue
            if entry.is_heavy:
                gate = at
            if not entry.is_replay:
                continue
            if any(v in distinct or v in back for v in entry.reads):
                distinct.update(entry.makes)
                continue
            place = at if gate is None or entry.is_heavy else gate
            found[place] = tuple(dict.fromkeys((*found.get(place, ()), *entry.reads)))
            distinct.update(entry.makes)
        return found


def _free_values(
    graph: Graph, instructions: Sequence[Instruction]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Values that instructions read without making them: on the device, on the host."""
    made = {*graph.cotangents}
    sent: set[int] = set()
    device: dict[int, None] = {}
    host: dict[int, None] = {}

    def read(v: int) -> None:
        if v not in made:
            device[v] = None

    for step in instructions:
        match step:
            case Run(equation):
                for v in graph.equations[equation].inputs:
                    read(v)
                made.update(graph.equations[equation].outputs)
            case SwapOut(value):
                read(value)
                sent.add(value)
            case SwapIn(value):
                if value not in sent:
                    host[value] = None
                made.add(value)
            case Barrier(on_device, on_host):
                for v in on_device:
                    read(v)
                host.update(dict.fromkeys(v for v in on_host if v not in sent))
    gradients = [v for v in graph.gradients if v not in made]
    device.update(dict.fromkeys(gradients))
    return tuple(device), tuple(host)
