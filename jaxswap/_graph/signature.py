"""What a plan fits: the types of the arguments, and the work done on them.

A plan says what becomes of each value and when. It fits every program that makes values
of the same types by the same operations from the same inputs, whatever constants and
axes these operations use: memory, seconds and order are the same. Gradients do not
depend on it at all, as the function is traced anew wherever a plan is followed.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

from jaxswap._graph.graph import Graph


@dataclasses.dataclass(frozen=True)
class Signature:
    """Types of arguments, and a fingerprint of the program traced from them.

    Attributes:
        arguments: Type of each array, such as `"float32[8,1024]"`, in order.
        program: Hash of the operations, of which values each reads and makes, and of
            these values' types. Constants, axes and other parameters do not count, so
            a plan fits two programs that differ in nothing else.
    """

    arguments: tuple[str, ...]
    program: str

    def __str__(self) -> str:
        """Write the types, repeated ones counted, and the hash."""
        runs: list[list[str]] = []
        for argument in self.arguments:
            if runs and runs[-1][0] == argument:
                runs[-1].append(argument)
            else:
                runs.append([argument])
        parts = [r[0] if len(r) == 1 else f"{len(r)} x {r[0]}" for r in runs]
        return f"({', '.join(parts)}), program {self.program}"


def signature_of(graph: Graph) -> Signature:
    """Describe the arguments of a graph and hash its equations."""
    digest = hashlib.sha256()
    for eqn in graph.equations:
        parts = (eqn.primitive, eqn.inputs, eqn.outputs, eqn.is_backward, eqn.flops)
        digest.update(repr(parts).encode())
    for value in graph.values:
        digest.update(f"{value.dtype}{value.shape}".encode())
    ends = (graph.arguments, graph.outputs, graph.cotangents, graph.gradients)
    digest.update(repr(ends).encode())
    if graph.is_body:
        digest.update(repr((graph.carried, graph.sliced, graph.trip_count)).encode())
    for loop in graph.loops:
        actions = "".join(action.value[0] for action in loop.actions)
        digest.update(f"{signature_of(loop.graph).program}{actions}".encode())
    return Signature(
        arguments=tuple(type_of(graph, graph.arguments)),
        program=digest.hexdigest()[:16],
    )


def type_of(graph: Graph, values: Sequence[int]) -> list[str]:
    """Types of values, such as `"float32[8,1024]"`."""
    shown = []
    for v in values:
        value = graph.values[v]
        shape = ",".join(map(str, value.shape))
        shown.append(f"{value.dtype or 'extended'}[{shape}]")
    return shown
