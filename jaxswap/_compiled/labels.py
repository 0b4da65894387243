"""Which copy of the compiled program is which swap of the traced one.

`jaxswap.offload` traces each copy under the name `swap_out(LABEL)` or `swap_in(LABEL)`.
XLA:GPU drops that name when it turns the placement annotation into a copy. So the label
is followed through the text of the few passes that replace the instruction:

    device_put (named)     before optimization
    -> MoveToHost, MoveToDevice        same operand   convert-memory-placement
    -> copy, or a slice in host space  same operand   host-offloader
    -> copy-start                      same operand   host-memory-transfer-asyncifier
    -> copy-start, other name          same line      rename-instructions

If a label is lost, the evidence has no name for that copy. Nothing else changes. No JAX
here.
"""

import glob
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxswap._compiled.copies import swap_label
from jaxswap._compiled.hlo import Computation, HloInstruction, Module, parse_module

DUMPED_PASSES = (
    "convert-memory-placement-to-internal-annotations|host-offloader"
    "|host-memory-transfer-asyncifier|rename-instructions"
)
"""Value of `xla_dump_hlo_pass_re`, so that XLA writes the texts that are read here."""

_Move = tuple[str, str]
_DIRECTION = {"MoveToHost": "to_host", "MoveToDevice": "to_device"}


def trace_labels(folder: Path, module_name: str) -> dict[str, str]:
    """Follow the labels of swaps to the compiled program.

    Args:
        folder: Where `xla_dump_to` pointed.
        module_name: The program's name.

    Returns:
        Labels by the name of the instruction that starts the copy in the compiled
        program.
    """

    def stage(suffix: str) -> Module | None:
        files = sorted(folder.glob(f"*.{glob.escape(module_name)}.{suffix}.txt"))
        return parse_module(files[-1].read_text(encoding="utf-8")) if files else None

    traced = stage("before_optimizations")
    moves = _labelled_moves(traced) if traced else {}
    if not moves:
        return {}
    annotated = stage("*after_convert-memory-placement*")
    offloaded = stage("*before_host-offloader")
    copied = stage("*after_host-memory-transfer-asyncifier*")
    if not (annotated and offloaded and copied):
        return {}
    labels = _labels_of_copies(offloaded, copied, _match(moves, annotated, offloaded))
    before = stage("*before_rename-instructions")
    after = stage("*after_rename-instructions*")
    return _renamed(labels, before, after) if before and after else labels


def _labelled_moves(traced: Module) -> dict[_Move, str]:
    moves = {}
    for instruction in traced.instructions():
        if instruction.custom_call_target == "annotate_device_placement":
            direction = "to_host" if "swap_out(" in instruction.op_name else "to_device"
            if label := swap_label(instruction.op_name):
                moves[direction, instruction.operands[0]] = label
    return moves


def _moves(module: Module) -> Iterator[tuple[Computation, HloInstruction, str]]:
    for computation in module.computations:
        for instruction in computation.instructions:
            direction = _DIRECTION.get(instruction.custom_call_target)
            if direction is not None:
                yield computation, instruction, direction


def _match(
    moves: Mapping[_Move, str], annotated: Module, offloaded: Module
) -> dict[str, str]:
    """Return labels of moves by name, in the module before they become copies.

    JAX 0.10 traces the body of a loop as a function. When XLA inlines it, instructions
    get new names but keep their order. So moves of the same direction and type are
    matched in order, unless some have vanished.
    """
    labels: dict[str, str] = {}
    renamed: defaultdict[_Move, list[str]] = defaultdict(list)
    current = {one.name: (one, direction) for _, one, direction in _moves(offloaded)}
    for _, instruction, direction in _moves(annotated):
        label = moves.get((direction, instruction.operands[0]), "")
        if instruction.name in current:
            del current[instruction.name]
            labels[instruction.name] = label
        else:
            renamed[direction, instruction.arrays[0].text].append(label)
    unknown: defaultdict[_Move, list[str]] = defaultdict(list)
    for instruction, direction in current.values():
        unknown[direction, instruction.arrays[0].text].append(instruction.name)
    for kind, names in unknown.items():
        if len(names) == len(renamed[kind]):
            labels.update(zip(names, renamed[kind], strict=True))
    return {name: label for name, label in labels.items() if label}


def _labels_of_copies(
    offloaded: Module, copied: Module, names: Mapping[str, str]
) -> dict[str, str]:
    """Return labels of copies and slices, from the labels of their moves."""
    moves: dict[tuple[str, ...], str] = {}
    for computation, instruction, direction in _moves(offloaded):
        if (label := names.get(instruction.name)) is None:
            continue
        moves[direction, *instruction.operands] = label
        rounding = computation.producer(instruction.operands[0])
        if rounding is not None and rounding.opcode == "reduce-precision":
            # XLA removes it where the value has the type to which it rounds.
            moves[direction, *rounding.operands] = label
        neighbor = _slice_beside(computation, instruction, direction)
        if neighbor is not None:
            moves[neighbor.operands] = label
    labels: dict[str, str] = {}
    for instruction in copied.instructions():
        key = instruction.operands
        if instruction.opcode in ("copy-start", "copy"):
            is_out = instruction.arrays[0].is_on_host
            key = ("to_host" if is_out else "to_device", *key)
        elif instruction.opcode != "async-start":
            continue
        if key in moves:
            labels[instruction.name] = moves[key]
    return labels


def _slice_beside(
    computation: Computation, move: HloInstruction, direction: str
) -> HloInstruction | None:
    """Return the update that stores a moved value, or the slice that a move reads."""
    wanted = "dynamic-update-slice" if direction == "to_host" else "dynamic-slice"
    value: HloInstruction | None = move
    while value is not None:
        if direction == "to_host":
            value = _only_reader(computation, value)
        else:
            value = computation.producer(value.operands[0])
        if value is None or value.opcode == wanted:
            return value
        if value.opcode not in ("bitcast", "reshape", "broadcast", "copy"):
            return None
    return None


def _only_reader(
    computation: Computation, value: HloInstruction
) -> HloInstruction | None:
    readers = [one for one in computation.instructions if value.name in one.operands]
    return readers[0] if len(readers) == 1 else None


def _renamed(
    labels: Mapping[str, str], before: Module, after: Module
) -> dict[str, str]:
    pairs = zip(before.instructions(), after.instructions(), strict=False)
    new_names = {old.name: new.name for old, new in pairs if old.opcode == new.opcode}
    return {new_names.get(name, name): label for name, label in labels.items()}
