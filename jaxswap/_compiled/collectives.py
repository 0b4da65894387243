"""A compiled program -> what its devices send to one another.

XLA's partitioner adds collective operations to a program that is split over a mesh. XLA
combines those that need not wait for one another. Their number and bytes show whether
something kept them apart. No JAX here.
"""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxswap._compiled.copies import runs_of
from jaxswap._compiled.hlo import HloInstruction, Module

KINDS = frozenset(
    "all-reduce all-gather reduce-scatter all-to-all collective-permute "
    "collective-broadcast ragged-all-to-all".split()
)

_LISTS_OPERANDS = frozenset({"collective-permute-start", "all-gather-start"})
"""The types of these list the operands before the results."""


@dataclass(frozen=True)
class Collective:
    """One collective operation of a compiled program.

    Attributes:
        kind: XLA's name: `"all-reduce"`, `"collective-permute"` (halos), ...
        nbytes: Bytes of its results on each device, in one execution.
        repeats: How often it runs: the product of the trip counts of its loops.
        name: Name of the instruction.
    """

    kind: str
    nbytes: int
    repeats: int
    name: str

    @property
    def total_bytes(self) -> int:
        """Bytes of all its executions."""
        return self.nbytes * self.repeats


def find_collectives(module: Module) -> tuple[Collective, ...]:
    """List the collectives of a compiled program in the order of its text."""
    runs = runs_of(module)
    return tuple(
        Collective(kind, nbytes, runs[computation.name][0], instruction.name)
        for computation in module.computations
        if computation.name in runs
        for instruction in computation.instructions
        for kind, nbytes in _sent(instruction, module)
    )


def _sent(instruction: HloInstruction, module: Module) -> Iterator[tuple[str, int]]:
    """Return kind and bytes of a collective's results. Empty for other instructions."""
    kind = instruction.opcode.removesuffix("-start")
    if kind == "async":
        for name in instruction.called:
            for inner in module.by_name[name].instructions:
                yield from _sent(inner, module)
    elif kind in KINDS:
        arrays = instruction.arrays
        if instruction.opcode in _LISTS_OPERANDS:
            arrays = arrays[len(arrays) // 2 :]
        yield kind, sum(array.nbytes for array in arrays)


def summarize(collectives: Sequence[Collective]) -> dict[str, tuple[int, int]]:
    """Return how many there are of each kind, and how many bytes in one step."""
    counts = collections.Counter[str]()
    nbytes = collections.Counter[str]()
    for collective in collectives:
        counts[collective.kind] += collective.repeats
        nbytes[collective.kind] += collective.total_bytes
    return {kind: (counts[kind], nbytes[kind]) for kind in sorted(counts)}
