"""A compiled program -> every copy between device and host, and the work it overlaps.

An asynchronous copy is a pair of instructions, start and done. What the schedule runs
between the two is the copy's window. If the window holds a heavy operation (matrix
product, convolution, attention kernel), this can hide the copy. Otherwise the copy is
exposed. This is a statement about the schedule, not a measurement of time. No JAX here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxswap._compiled.hlo import Array, Computation, HloInstruction, Module

Direction = Literal["to_host", "to_device"]


@dataclass(frozen=True)
class Copy:
    """One copy between device and host memory in a compiled program.

    Attributes:
        direction: `"to_host"` or `"to_device"`.
        nbytes: Bytes of one execution.
        label: What is copied: the label that `jaxswap.offload` gave it, or the line of
            the source that made the value, or JAX's name of the operation.
        heavy: Names of the heavy operations in its window, in execution order.
        in_loop: Whether it runs inside a loop.
        repeats: How often it runs: the product of the iterations of the loops around
            it. A loop whose number XLA does not know counts as one.
        computation: Name of the computation that holds it.
        name: Name of the instruction that starts it.
    """

    direction: Direction
    nbytes: int
    label: str
    heavy: tuple[str, ...]
    in_loop: bool
    repeats: int
    computation: str
    name: str

    @property
    def is_exposed(self) -> bool:
        """Whether no heavy operation can hide it."""
        return not self.heavy

    @property
    def total_bytes(self) -> int:
        """Bytes of all its executions."""
        return self.nbytes * self.repeats


def find_copies(
    module: Module, labels: Mapping[str, str] | None = None
) -> tuple[Copy, ...]:
    """List the copies between device and host in execution order.

    Args:
        module: A scheduled module.
        labels: Labels of instructions by name, as `trace_labels` finds them.

    Returns:
        The copies of each computation in its execution order. The entry computation is
        the last, as in the text.

    Raises:
        ValueError: If the module is not scheduled. What runs beside a copy is read from
            the order of its instructions.
    """
    if not module.is_scheduled:
        raise ValueError(
            f"`{module.name}` is not scheduled, so its text does not tell what runs "
            "beside a copy: take the text of a compiled program."
        )
    runs = runs_of(module)
    heaviness = _Heaviness(module)
    copies = []
    for computation in module.computations:
        if computation.name not in runs:
            continue
        repeats, in_loop = runs[computation.name]
        for position, instruction in enumerate(computation.instructions):
            movement = _movement(instruction, computation, module)
            if movement is None:
                continue
            direction, nbytes = movement
            window = _window(computation.instructions, position)
            heavy = (one.name for one in window if heaviness.is_heavy(one))
            copies.append(
                Copy(
                    direction=direction,
                    nbytes=nbytes,
                    label=_label(instruction, computation, module, labels or {}),
                    heavy=tuple(heavy),
                    in_loop=in_loop,
                    repeats=repeats,
                    computation=computation.name,
                    name=instruction.name,
                )
            )
    return tuple(copies)


_HEAVY_TARGET = re.compile(
    r"^__cu(blas|dnn|fft)\$|^__cub\$|cusolver|gemm|matmul|conv|attention|fmha|flash|"
    r"triton|mosaic",
    re.IGNORECASE,
)
_HEAVY = frozenset({"dot", "convolution", "ragged-dot"})
_HEAVY_IF_LARGE = frozenset({"sort", "fft", "triangular-solve", "cholesky"})
_LARGE_BYTES = 1 << 20
"""What moves less is done before a copy has started."""
_CONTROL_FLOW = frozenset({"call", "while", "conditional", "call-start"})
_TRANSPARENT = frozenset(
    {"bitcast", "copy", "copy-start", "copy-done", "opt-barrier", "tuple"}
)


class _Heaviness:
    """Tells whether an instruction is heavy, and remembers the answer."""

    def __init__(self, module: Module):
        self._module = module
        self._known: dict[str, bool] = {}

    def is_heavy(self, instruction: HloInstruction) -> bool:
        if instruction.opcode in _HEAVY:
            return True
        if instruction.opcode in _HEAVY_IF_LARGE:
            return instruction.device_bytes >= _LARGE_BYTES
        if instruction.opcode == "custom-call":
            return bool(_HEAVY_TARGET.search(instruction.custom_call_target))
        if instruction.opcode.endswith("-done"):
            return False
        return any(self._holds_heavy(name) for name in instruction.called)

    def _holds_heavy(self, name: str) -> bool:
        if name not in self._known:
            computation = self._module.by_name.get(name)
            instructions = computation.instructions if computation else ()
            self._known[name] = any(self.is_heavy(one) for one in instructions)
        return self._known[name]


def runs_of(module: Module) -> dict[str, tuple[int, bool]]:
    """Return how often each scheduled computation runs, and whether in a loop."""
    runs: dict[str, tuple[int, bool]] = {}
    pending = [(module.entry.name, 1, False)]
    while pending:
        name, repeats, in_loop = pending.pop()
        runs[name] = (repeats, in_loop)
        for instruction in module.by_name[name].instructions:
            if instruction.opcode not in _CONTROL_FLOW:
                continue
            loops = instruction.opcode == "while"
            times = repeats * instruction.trip_count if loops else repeats
            pending += [(one, times, in_loop or loops) for one in instruction.called]
    return runs


def _movement(
    instruction: HloInstruction, computation: Computation, module: Module
) -> tuple[Direction, int] | None:
    """Return direction and bytes if the instruction copies between device and host."""
    opcode = instruction.opcode
    if opcode == "copy-start":
        return _between(instruction.arrays[1], instruction.arrays[0])
    if opcode in ("copy", "dynamic-slice", "dynamic-update-slice"):
        return _plain_movement(instruction, computation)
    if opcode in ("fusion", "fusion-start", "async-start") and instruction.called:
        called = module.by_name[instruction.called[0]]
        if called.root.opcode == "fusion":
            return _movement(called.root, called, module)
        return _called_movement(called)
    return None


def _plain_movement(
    instruction: HloInstruction, computation: Computation
) -> tuple[Direction, int] | None:
    # A slice is read from operand 0; an update is operand 1, written into operand 0.
    position = 1 if instruction.opcode == "dynamic-update-slice" else 0
    source = computation.producer(instruction.operands[position])
    if source is None or not source.arrays:
        return None
    movement = _between(source.arrays[0], instruction.arrays[0])
    if movement is None:
        return None
    moved = source if position else instruction
    return movement[0], moved.arrays[0].nbytes


def _called_movement(called: Computation) -> tuple[Direction, int] | None:
    """Return the movement of a fusion: a slice or update, with what XLA fused to it."""
    parameters = [one for one in called.instructions if one.opcode == "parameter"]
    reads_host = any(array.is_on_host for one in parameters for array in one.arrays)
    host_results = [array for array in called.root.arrays if array.is_on_host]
    if host_results:
        for instruction in called.instructions:
            if instruction.opcode == "dynamic-update-slice":
                return _plain_movement(instruction, called)
        if not reads_host:
            return "to_host", sum(array.nbytes for array in host_results)
    elif reads_host:
        return "to_device", called.root.device_bytes
    return None


def _between(source: Array, destination: Array) -> tuple[Direction, int] | None:
    if source.is_on_host == destination.is_on_host:
        return None
    return "to_host" if destination.is_on_host else "to_device", destination.nbytes


def _window(
    instructions: Sequence[HloInstruction], position: int
) -> Sequence[HloInstruction]:
    """Return the instructions between start and done. None if it is synchronous."""
    start = instructions[position]
    if not start.opcode.endswith("-start"):
        return ()
    for end in range(position + 1, len(instructions)):
        later = instructions[end]
        if later.opcode.endswith("-done") and start.name in later.operands:
            return instructions[position + 1 : end]
    return instructions[position + 1 :]


def _label(
    copy: HloInstruction,
    computation: Computation,
    module: Module,
    labels: Mapping[str, str],
) -> str:
    readers = (one for one in computation.instructions if copy.name in one.operands)
    inner = (one for name in copy.called for one in module.by_name[name].instructions)
    related = (copy, *readers, *inner)
    for instruction in related:
        label = labels.get(instruction.name) or swap_label(instruction.op_name)
        if label:
            return label
    origin = origin_of(copy, computation)
    for instruction in (origin, *related):
        if instruction.source:
            return instruction.source
    return origin.op_name or copy.op_name or origin.name


def swap_label(op_name: str) -> str:
    """Read LABEL from a name that holds `swap_out(LABEL)` or `swap_in(LABEL)`.

    Args:
        op_name: JAX's path of an operation, such as
            `jit(f)/jvp(swap_out(h))/device_put`.

    Returns:
        The label, which may hold balanced parentheses. "" if there is none.

    Example:
        >>> swap_label("jit(f)/jvp(swap_out(block(3)))/device_put")
        'block(3)'
    """
    found = re.search(r"swap_(?:out|in)\(", op_name)
    if found is None:
        return ""
    depth = 1
    for position in range(found.end(), len(op_name)):
        depth += {"(": 1, ")": -1}.get(op_name[position], 0)
        if depth == 0:
            return op_name[found.end() : position]
    return ""


def origin_of(copy: HloInstruction, computation: Computation) -> HloInstruction:
    """Find what made a copied value, past other copies of it.

    Args:
        copy: The instruction that copies.
        computation: The computation that holds it.

    Returns:
        The instruction; the copy itself if its operand is not in the computation.
    """
    is_update = "update" in copy.name or copy.opcode == "dynamic-update-slice"
    operand = copy.operands[1 if is_update else 0] if copy.operands else ""
    value, origin, index = computation.producer(operand), copy, 0
    while value is not None:
        origin = value
        if operand.partition("#")[2]:
            index = int(operand.partition("#")[2])
        if value.opcode == "get-tuple-element":
            index = value.tuple_index
        elif value.opcode not in _TRANSPARENT:
            break
        position = index if value.opcode == "tuple" else 0
        operand = value.operands[position] if value.operands else ""
        value = computation.producer(operand)
    return origin
