"""Instructions -> the kernels and copies that a compiler makes of them."""

from collections.abc import Sequence

from jaxswap._graph.graph import Equation
from jaxswap._schedule.instructions import (
    Barrier,
    InPlace,
    Instruction,
    Run,
    Schedule,
    SwapIn,
    SwapOut,
)
from jaxswap._simulate.kernels import (
    NO_BUFFER,
    Fusion,
    Kernel,
    PlannedCopy,
    Step,
    Steps,
    Wait,
)
from jaxswap._simulate.parts import Parts


def lower(fusion: Fusion, schedule: Schedule) -> Steps:
    """Return the kernels and copies of a schedule."""
    lowering = _Lowering(fusion, schedule)
    lowering.run(schedule.forward)
    forward_count = len(lowering.steps)
    lowering.run(schedule.backward)
    return Steps(
        steps=tuple(lowering.steps),
        forward_count=forward_count,
        values=tuple(lowering.values),
        last_reads=tuple(lowering.last_reads),
        runs=tuple(lowering.runs),
        is_fixed=tuple(b in lowering.fixed for b in range(len(lowering.values))),
    )


def _union(sets: dict[int, frozenset[int]], values: Sequence[int]) -> frozenset[int]:
    """All members of the sets of some values."""
    found: frozenset[int] = frozenset()
    for v in values:
        more = sets.get(v)
        if more and more is not found:
            found = found | more if found else more
    return found


class _Lowering:
    """Walks over instructions and collects steps."""

    def __init__(self, fusion: Fusion, schedule: Schedule) -> None:
        self.fusion = fusion
        self.equations = fusion.graph.equations
        self.steps: list[Step] = []
        self.run_count = 0
        self.runs: list[int] = []
        self.values: list[int] = []
        self.last_reads: list[int] = []
        self.fixed: set[int] = set()
        self.unmade = set(fusion.fixed)
        self.roots: dict[int, frozenset[int]] = {}
        self.given: dict[int, frozenset[int]] = {}
        self.parts = Parts(fusion.graph)
        self.at_host: set[int] = set()
        stored = {swap.value for swap in schedule.swaps}
        self.static = fusion.materialized | stored | fusion.bases_of(stored)
        self.buffers = self.static
        self.family: list[tuple[frozenset[int], int]] = []
        for v in (*fusion.graph.arguments, *fusion.graph.cotangents):
            self.roots[v] = frozenset()
            self.given[v] = frozenset((v,))
            self.parts.make(v, NO_BUFFER)

    def run(self, instructions: Sequence[Instruction]) -> None:
        held: set[int] = set()
        for step in instructions:
            if isinstance(step, Barrier):
                held.update(step.device)
        self.buffers = self.static | held | self.fusion.bases_of(held)
        for step in instructions:
            match step:
                case Run():
                    self._run(self.equations[step.equation], step)
                    self.run_count += 1
                case SwapOut(value):
                    self._copy(value, is_inward=False)
                case SwapIn(value):
                    self._copy(value, is_inward=True)
                case Barrier(_, host):
                    self._wait(host)

    def _run(self, eqn: Equation, run: Run) -> None:
        leaves = self.parts.leaves_of(eqn, self.roots, self.values)
        if self.fusion.is_alias[eqn.index]:
            for v, source in zip(eqn.outputs, eqn.inputs, strict=False):
                self.roots[v] = self.roots.get(source, frozenset())
                self.given[v] = self.given.get(source, frozenset())
                self.parts.rename(v, source, leaves)
                if v in self.unmade:
                    self.unmade.discard(v)
                    self.fixed.update(self.roots[v])
            return
        given, roots = _union(self.given, eqn.inputs), _union(self.roots, eqn.inputs)
        is_fused = self.fusion.is_fusible[eqn.index]
        if is_fused and self.buffers.isdisjoint(eqn.outputs):
            for v in eqn.outputs:
                self.roots[v] = roots
                self.given[v] = given
                self.parts.fuse(v, leaves)
            return
        at = len(self.steps)
        for buffer in roots:
            self.last_reads[buffer] = at
        over = self._overwritten(eqn, run.in_place)
        named = {b: self.values[b] for b in sorted(roots)}
        replaced = self.parts.replaceable(eqn, named, leaves)
        buffers = tuple(self._new(v) for v in eqn.outputs)
        if eqn.is_heavy:
            self.family.clear()
        shared = eqn.is_cheap and self._joins_family(roots, at)
        read = (tuple(roots), buffers, shared, tuple(given), over)
        is_in_place = run.in_place is not None
        parts = (leaves or frozenset(), replaced, is_in_place)
        self._append(Kernel(eqn.index, run.is_recomputed, *read, *parts))

    def _overwritten(self, eqn: Equation, given: InPlace | None) -> tuple[int, ...]:
        """The buffers that are operands which results take the place of."""
        sizes = self.fusion.graph.values
        if given is not None:
            return (self.parts.content[given.values[0]],)
        return tuple(
            buffer
            for v in eqn.overwritten
            for buffer in self.roots.get(v, ())
            if sizes[self.values[buffer]].nbytes == sizes[v].nbytes
        )

    def _append(self, step: Step) -> None:
        self.steps.append(step)
        self.runs.append(self.run_count)

    def _joins_family(self, roots: frozenset[int], at: int) -> bool:
        """Whether a cheap kernel is fused with one before it that reads the same."""
        for others, since in reversed(self.family[-8:]):
            if roots and roots <= others and since < at:
                return True
        self.family.append((roots, at))
        return False

    def _new(self, v: int) -> int:
        self.values.append(v)
        self.last_reads.append(len(self.steps))
        buffer = len(self.values) - 1
        self.roots[v] = frozenset((buffer,))
        self.parts.make(v, buffer)
        self.given.pop(v, None)
        if v in self.unmade:  # Made once more, it is no longer the caller's.
            self.unmade.discard(v)
            self.fixed.add(buffer)
        return buffer

    def _copy(self, v: int, is_inward: bool) -> None:
        if is_inward:
            (buffer,) = self.roots[v] = frozenset((self._new(v),))
        else:
            # The value may be a view: its bytes are copied in its own form.
            buffer = max(self.roots[v], default=NO_BUFFER)
            if buffer != NO_BUFFER:
                self.last_reads[buffer] = len(self.steps)
            self.at_host.add(v)
        self._append(PlannedCopy(v, buffer, is_inward))

    def _wait(self, host: Sequence[int]) -> None:
        values = tuple(v for v in host if v in self.at_host)
        if values:
            self.at_host.difference_update(values)
            self._append(Wait(values))
