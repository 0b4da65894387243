"""The instructions that a schedule is made of."""

import dataclasses
from collections.abc import Sequence

from jaxswap._graph.graph import Graph


@dataclasses.dataclass(frozen=True)
class InPlace:
    """How a result is written, part by part, over an operand that is not read again.

    Attributes:
        values: The names of the operand. Barriers give values further names.
        leaves: The values of which parts are read, or which are read whole. All between
            them and the result is computed for each part.
        awaited: Values that others compute from the operand. They are awaited. If not,
            XLA might copy the operand for them.
    """

    values: tuple[int, ...]
    leaves: tuple[int, ...]
    awaited: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """Execute an equation.

    Attributes:
        equation: Its index.
        is_recomputed: It is an equation of the forward pass, issued in the backward
            pass.
        in_place: How its result is written over an operand. `None`: XLA decides.
    """

    equation: int
    is_recomputed: bool = False
    in_place: InPlace | None = None

    @property
    def leaves(self) -> tuple[int, ...]:
        """What is read beside the equation's inputs, where it is computed in parts."""
        given = self.in_place
        return () if given is None else (*given.leaves, *given.values)


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
    """Let all later readers of any of these values wait until all of them exist."""

    device: tuple[int, ...]
    host: tuple[int, ...] = ()


Instruction = Run | SwapOut | SwapIn | Barrier


@dataclasses.dataclass(frozen=True)
class Return:
    """One copy back to the device.

    Attributes:
        gate: The heavy entry right before which the copy starts. `None`: it starts
            right before its use, and nothing hides it.
        use: The first entry that it serves.
        done_at: A heavy entry before the use that waits for the copy, if there is one.
    """

    gate: int | None
    use: int
    done_at: int | None = None


@dataclasses.dataclass(frozen=True)
class Swap:
    """How one value is swapped.

    Attributes:
        value: The index of the value.
        made: The entry after which the copy to the host starts.
        free_at: The heavy entry that waits for the copy. `None`: nothing waits.
        returns: The copies back, in order.
    """

    value: int
    made: int
    free_at: int | None
    returns: tuple[Return, ...]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Instructions of both passes, and the values that the first leaves to the second.

    Attributes:
        forward: Instructions of the forward pass.
        backward: Instructions of the backward pass.
        device_residuals: Values that stay in device memory between the passes.
        host_residuals: Values that wait in host memory between the passes.
        swaps: The swaps from which the copies come.
    """

    forward: tuple[Instruction, ...]
    backward: tuple[Instruction, ...]
    device_residuals: tuple[int, ...]
    host_residuals: tuple[int, ...]
    swaps: tuple[Swap, ...]


def free_values(
    graph: Graph, instructions: Sequence[Instruction]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the values that instructions read but do not make: on device, on host."""
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
                for v in (*graph.equations[equation].inputs, *step.leaves):
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
