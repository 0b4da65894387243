"""Graph and schedule -> the kernels that a compiler makes of them, and their buffers.

XLA fuses operations that work element by element into whatever reads their results,
as often as needed, so most values of a traced program never exist in memory. What
exists are *buffers*: results of operations that do not fuse, what those read, and
what leaves the fused code for the caller, the backward pass or the host. A *kernel*
makes buffers from buffers.

The rules are those of XLA's GPU fusion passes, simplified (openxla.org/xla/gpu, "XLA
GPU fusion"). They err where XLA's own cost model splits or joins a group differently;
`jaxswap.plan` therefore compares its prediction with the compiled program.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterator, Mapping

from jaxswap._graph.graph import Equation, Graph

POOLINGS = ("reduce_window_max", "reduce_window_min", "reduce_window_sum")
"""Their kernels read each window of what is pooled, and may compute it."""
NO_BUFFER = -1
"""Stands for the memory of an argument, which is held all the time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """Fused work that runs at once.

    Attributes:
        equation: Index of the last equation in it.
        is_recomputed: Whether that is a forward equation run in the backward pass.
        reads: Buffers read.
        makes: Buffers made.
        arguments: Arguments read, which are no buffers of the program's own.
        overwrites: Buffers that make way for results, if nothing reads them later.
        is_shared: Reads nothing that a kernel just before has not read as well, and
            is fused with it: its reads cost nothing.
        leaves: The values from whose parts parts of the result follow. None if they do
            not.
        may_replace: Buffers over which the result may be written, part by part, if
            nothing reads them later, each with its names among the leaves.
        is_in_place: Whether it writes its result, part by part, over an operand.
    """

    equation: int
    is_recomputed: bool
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    is_shared: bool = False
    arguments: tuple[int, ...] = ()
    overwrites: tuple[int, ...] = ()
    leaves: frozenset[int] = frozenset()
    may_replace: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    is_in_place: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedCopy:
    """One copy between device and host, where it is issued.

    Attributes:
        value: What is copied.
        buffer: The device buffer that is read or made; `NO_BUFFER` for a view of an
            argument that is copied to the host.
        is_inward: Whether it goes from the host to the device.
    """

    value: int
    buffer: int
    is_inward: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Computation waits for copies to the host; their device buffers are free then."""

    values: tuple[int, ...]


Step = Kernel | PlannedCopy | Wait


@dataclasses.dataclass(frozen=True)
class Steps:
    """Both passes as kernels, copies and waits.

    Attributes:
        steps: In the order of issue.
        forward_count: How many of them belong to the forward pass.
        values: The value of each buffer; a value that returns has several buffers.
        last_reads: Index of the last step that reads each buffer; the index of the
            step that makes it if none does.
        runs: How many equations were issued before each step.
        is_fixed: Buffers that the caller owns (arguments, results, gradients): they
            hold memory of their own from beginning to end.
    """

    steps: tuple[Step, ...]
    forward_count: int
    values: tuple[int, ...]
    last_reads: tuple[int, ...]
    runs: tuple[int, ...]
    is_fixed: tuple[bool, ...]


class Fusion:
    """What of a graph's fusion does not depend on the schedule."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.base = self._bases()
        self.is_fusible = [is_fusible(e) for e in graph.equations]
        for scatter, total in self._folded():
            self.is_fusible[scatter], self.is_fusible[total] = True, False
        self.materialized = self._materialized()
        self.fixed = {*graph.outputs, *graph.gradients}
        self.is_alias = [
            is_alias(e) and e.outputs[0] in self.base for e in graph.equations
        ]

    def _folded(self) -> Iterator[tuple[int, int]]:
        """Scatters onto zeros and the sums that alone read them, as equations.

        XLA makes the other summand, and scatters onto that. So the gradient of a loss
        that looks up one of many logits is one array.
        """
        reads = collections.Counter(v for e in self.graph.equations for v in e.inputs)
        reads.update((*self.graph.outputs, *self.graph.gradients))
        for eqn in self.graph.equations:
            for v in eqn.inputs if eqn.primitive in ("add", "add_any") else ():
                scatter = self.producers.get(v)
                if scatter is None or scatter.primitive != "scatter-add":
                    continue
                zeros = self.producers.get(scatter.inputs[0])
                is_fresh = zeros is not None and not zeros.inputs
                if is_fresh and reads[v] == 1:
                    yield scatter.index, eqn.index

    def _bases(self) -> dict[int, int]:
        """The value at whose bytes a view looks; views that grow are none."""
        values = self.graph.values
        base: dict[int, int] = {}
        for eqn in self.graph.equations:
            if is_alias(eqn):
                for v, source in zip(eqn.outputs, eqn.inputs, strict=False):
                    if values[v].nbytes <= values[source].nbytes:
                        base[v] = base.get(source, source)
        return base

    def bases_of(self, values: Collection[int]) -> set[int]:
        """The values at whose bytes some of these look."""
        return {self.base[v] for v in values if v in self.base}

    def _materialized(self) -> set[int]:
        """Values that are buffers in any schedule."""
        found = {*self.graph.arguments, *self.graph.cotangents}
        found.update(self.graph.outputs, self.graph.gradients)
        for eqn, fuses in zip(self.graph.equations, self.is_fusible, strict=True):
            if not fuses:
                found.update(eqn.outputs)
            # A sum that takes in a scatter is a buffer, and computes what it reads.
            if not (fuses or eqn.is_reduction or is_fusible(eqn)):
                found.update(self._read_as_buffers(eqn))
        found |= self.bases_of(found)
        self._add_shared(found)
        return found

    def _read_as_buffers(self, eqn: Equation) -> tuple[int, ...]:
        """The operands, without those that XLA makes inside of the kernel.

        Products widen narrow operands as they read them. Loops make constants in each
        iteration. Pooling, and its gradient, compute what is pooled.
        """
        if eqn.primitive in POOLINGS:
            return ()
        if eqn.primitive == "select_and_scatter_add":
            return eqn.inputs[:1]
        if eqn.primitive == "dot_general":
            return tuple(map(self._before_widening, eqn.inputs))
        if eqn.body is None or eqn.primitive != "scan":
            return eqn.inputs
        scanned = eqn.inputs[len(eqn.inputs) - len(eqn.body.sliced) :]
        return tuple(
            v
            for v in eqn.inputs
            if v in eqn.overwritten
            or v in scanned
            or v not in self.producers
            or self.producers[v].inputs
            or not self.producers[v].is_view
        )

    def _before_widening(self, v: int) -> int:
        """What an operand is widened from; itself if it is not."""
        at = self.base.get(v, v)
        eqn = self.producers.get(at)
        if eqn is None or eqn.primitive != "convert_element_type":
            return v
        values = self.graph.values
        (source,) = eqn.inputs or (v,)
        return source if values[source].nbytes < values[at].nbytes else v

    def _add_shared(self, found: set[int]) -> None:
        """Add fusible values that are cheaper to store than to make for each reader.

        Fused into each of `count` readers a value costs `count` times the bytes it is
        made of; as a buffer it costs these once, and its own bytes 1 + `count` times.
        """
        values = self.graph.values
        readers = self._reader_counts()
        roots: dict[int, frozenset[int]] = {}
        for eqn in self.graph.equations:
            above = frozenset().union(*(roots.get(v, ()) for v in eqn.inputs))
            for v in eqn.outputs:
                own, count = values[v].nbytes, readers.get(v, 0)
                made_of = sum(values[root].nbytes for root in above)
                is_view = v in self.base
                is_shared = not is_view and len(above) > 1 and count > 1
                if is_shared and count * made_of >= made_of + own * (1 + count):
                    found.add(v)
                is_buffer = v in found and not is_view
                roots[v] = frozenset((v,)) if is_buffer else above

    def _reader_counts(self) -> dict[int, int]:
        """How many equations of its own pass read each value, views looked through."""
        is_backward = {
            v: eqn.is_backward for eqn in self.graph.equations for v in eqn.outputs
        }
        counts: dict[int, int] = {}
        for eqn in reversed(self.graph.equations):
            for v in set(eqn.inputs):
                if eqn.is_backward == is_backward.get(v, True):
                    through = any(v in self.base for v in eqn.outputs[:1])
                    own = counts.get(eqn.outputs[0], 0) if through else 1
                    counts[v] = counts.get(v, 0) + own
        return counts


def is_alias(eqn: Equation) -> bool:
    """Whether the results of an equation are its operands' own bytes."""
    return eqn.is_view or eqn.primitive == "optimization_barrier"


def is_fusible(eqn: Equation) -> bool:
    """Whether XLA computes the results of an equation again in each of its readers."""
    is_barrier = eqn.primitive == "optimization_barrier"
    return eqn.is_cheap and eqn.is_pure and not (eqn.is_reduction or is_barrier)
