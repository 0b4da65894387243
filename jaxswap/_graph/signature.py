"""Which programs a plan fits: the types of the arguments, and a hash of the program.

A plan gives each value an action and each copy a time. It fits every program that makes
values of the same types by the same operations from the same inputs. Constants and axes
of the operations may differ: memory, seconds and order stay the same. Gradients are
correct in any case, since the function is traced anew wherever a plan is used.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

from jaxswap._graph.graph import Graph, Loop


@dataclasses.dataclass(frozen=True)
class Signature:
    """Types of arguments, and a hash of the program traced from them.

    Attributes:
        arguments: Type of each array, such as `"float32[8,1024]"`, in order.
        program: Hash of the operations, of the values that each reads and makes, and of
            these values' types. Constants, axes and other parameters do not count. So
            one plan fits two programs that differ only in these.
    """

    arguments: tuple[str, ...]
    program: str

    def __str__(self) -> str:
        """Write the types, with repeated types counted, and the hash."""
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
        place = " on the host" if value.host_nbytes else ""
        digest.update(f"{value.dtype}{value.shape}{place}".encode())
    ends = (graph.arguments, graph.outputs, graph.cotangents, graph.gradients)
    digest.update(repr(ends).encode())
    if graph.is_body:
        digest.update(repr((graph.carried, graph.sliced, graph.trip_count)).encode())
    digest.update(graph.compress.encode())
    for loop in graph.loops:
        digest.update(_loop_text(loop).encode())
    return Signature(
        arguments=tuple(type_of(graph, graph.arguments)),
        program=digest.hexdigest()[:16],
    )


def _loop_text(loop: Loop) -> str:
    """Write what the operations do not show of a loop: which values it stores."""
    parts = [signature_of(loop.graph).program]
    for segment in loop.segments:
        is_whole = segment.count == loop.graph.trip_count and segment.block == 1
        parts += () if is_whole else (f"{segment.count}/{segment.block}",)
        parts.append("".join(action.value[0] for action in segment.actions))
    return "".join((*parts, *map(_loop_text, loop.blocks)))


def type_of(graph: Graph, values: Sequence[int]) -> list[str]:
    """Types of values, such as `"float32[8,1024]"`."""
    shown = []
    for v in values:
        value = graph.values[v]
        shape = ",".join(map(str, value.shape))
        shown.append(f"{value.dtype or 'extended'}[{shape}]")
    return shown
