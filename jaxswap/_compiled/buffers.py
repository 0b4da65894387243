"""XLA's own account of its memory -> the buffers alive when temporaries peak.

XLA gives every value a slot (an offset in an allocation) and a live range in the
schedule. With `xla_dump_to` it writes both as text. The peak is the moment at which the
occupied slots of device temporaries have the largest sum. Values that share a slot,
such as an accumulator updated in place, count once. No JAX here.

The text forms are those of `BufferAssignment::ToString` and `HloLiveRange::ToString` in
openxla/xla, `xla/service/buffer_assignment.cc` and `xla/hlo/utils/hlo_live_range.cc`.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxswap._compiled.copies import swap_label
from jaxswap._compiled.hlo import HOST_SPACE, HloInstruction, Module

_Slot = tuple[str, int]


@dataclass(frozen=True)
class Buffer:
    """A temporary that is alive at the peak of device memory.

    Attributes:
        label: What the buffer holds: the label of a swapped value, or JAX's name of the
            operation that made it.
        nbytes: Its size.
        opcode: The instruction that made it, or the target of a custom call.
        source: `file:line` of the user's code, or "".
        name: Name of the instruction.
        array: Type and sizes, such as `f32[4096,1024]`.
    """

    label: str
    nbytes: int
    opcode: str
    source: str
    name: str
    array: str


@dataclass(frozen=True)
class AssignedValue:
    """A value with its slot and its live range.

    Attributes:
        name: The instruction that makes it.
        array: Type and sizes.
        slot: Allocation and offset in bytes.
        nbytes: Its size.
        first: Step of the schedule that makes it.
        last: Last step that reads it.
    """

    name: str
    array: str
    slot: _Slot
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Report:
    """XLA's account of its memory.

    Attributes:
        temporaries: The arrays that live in temporary device memory.
        steps: At which step of the schedule each instruction runs.
    """

    temporaries: tuple[AssignedValue, ...] = ()
    steps: Mapping[str, int] = field(default_factory=dict)


def read_report(folder: Path, module: Module) -> Report:
    """Read what XLA reported while it compiled.

    Args:
        folder: Where `xla_dump_to` pointed.
        module: The compiled program. XLA may have reported others in the same folder.

    Returns:
        The report; an empty one if XLA wrote none, as when the program came out of a
        persistent compilation cache.
    """
    pattern = f"*.{glob.escape(module.name)}.*after_optimizations"
    assignments = sorted(folder.glob(f"{pattern}-buffer-assignment.txt"))
    live_ranges = sorted(folder.glob(f"{pattern}-live-range.txt"))
    if not assignments or not live_ranges:
        return Report()
    assignment, live_range = (
        assignments[-1].read_text(encoding="utf-8"),
        live_ranges[-1].read_text(encoding="utf-8"),
    )
    known = {one.name for one in module.instructions()}
    return Report(
        parse_temporaries(assignment, live_range, known=known),
        {name: int(step) for step, name in _STEP.findall(live_range)},
    )


def parse_temporaries(
    assignment: str, live_range: str, known: Collection[str]
) -> tuple[AssignedValue, ...]:
    """Join XLA's two reports: slots and live ranges of device temporaries.

    Args:
        assignment: Text of the buffer assignment.
        live_range: Text of the live ranges.
        known: Names of the instructions of the compiled program. The report names the
            result of an asynchronous operation after an instruction inside it, which
            the program's text omits. Such a value gets the name of the operation's
            start.

    Returns:
        The arrays that live in temporary device memory.
    """
    ranges = {
        name: (int(first), int(last))
        for name, first, last in _LIVE_RANGE.findall(live_range)
    }
    steps = {int(step): name for step, name in _STEP.findall(live_range)}
    values = []
    for allocation, header, body in _ALLOCATION.findall(assignment):
        if "preallocated-temp" not in header or f"color {HOST_SPACE}," in header:
            continue
        for name, index, size, offset, array in _VALUE.findall(body):
            first, last = ranges.get(name + (index or "{}"), (0, -1))
            if first > last:
                continue
            if name not in known:
                later = (steps[step] for step in range(first, last) if step in steps)
                name = next((one for one in later if one in known), name)
            slot = (allocation, int(offset))
            values.append(AssignedValue(name, array, slot, int(size), first, last))
    return tuple(values)


def find_peak(values: Iterable[AssignedValue]) -> tuple[AssignedValue, ...]:
    """Find the values alive when most bytes are occupied, largest first.

    Args:
        values: Temporaries with slots and live ranges.

    Returns:
        One value for each occupied slot: the largest one, and the last made of those.
    """
    peak_bytes = 0
    peak: list[AssignedValue] = []
    for _, occupied, alive in occupancy(values):
        if occupied > peak_bytes:
            peak_bytes = occupied
            owners = (_owner(sharing) for sharing in alive.values() if sharing)
            peak = sorted(owners, key=lambda value: (-value.nbytes, value.first))
    return tuple(peak)


def occupancy(
    values: Iterable[AssignedValue],
) -> Iterator[tuple[int, int, Mapping[_Slot, list[AssignedValue]]]]:
    """Go through the schedule and tell what is alive.

    Args:
        values: Temporaries with slots and live ranges.

    Yields:
        Each step at which something changes, the bytes occupied from then on, and the
        values in each slot. The mapping is changed at the next step.
    """
    events: dict[int, tuple[list[AssignedValue], list[AssignedValue]]]
    events = defaultdict(lambda: ([], []))
    for value in values:
        events[value.first][0].append(value)
        events[value.last + 1][1].append(value)
    alive: defaultdict[_Slot, list[AssignedValue]] = defaultdict(list)
    occupied = 0
    for step in sorted(events):
        born, dead = events[step]
        touched = {value.slot for value in (*born, *dead)}
        occupied -= sum(_slot_bytes(alive[slot]) for slot in touched)
        for value in dead:
            alive[value.slot].remove(value)
        for value in born:
            alive[value.slot].append(value)
        occupied += sum(_slot_bytes(alive[slot]) for slot in touched)
        yield step, occupied, alive


def describe_buffers(
    peak: Iterable[AssignedValue],
    values: Iterable[AssignedValue],
    module: Module,
    labels: Mapping[str, str],
) -> tuple[Buffer, ...]:
    """Describe values in the user's terms.

    If a loop carries a value, the description is that of what made it in the same slot.

    Args:
        peak: The values to describe.
        values: All assigned values.
        module: The program they belong to.
        labels: Labels of copies by the name of the starting instruction.

    Returns:
        A buffer for each value of `peak`, in the same order.
    """
    instructions = {one.name: one for one in module.instructions()}
    by_slot: defaultdict[_Slot, list[AssignedValue]] = defaultdict(list)
    for value in values:
        maker = instructions.get(value.name)
        if maker is not None and maker.opcode not in _CARRIERS:
            by_slot[value.slot].append(value)
    buffers = []
    for value in peak:
        maker = instructions.get(value.name)
        if maker is not None and maker.opcode in _CARRIERS:
            same = [one for one in by_slot[value.slot] if one.nbytes == value.nbytes]
            earlier = [one for one in same if one.first <= value.first] or same
            if earlier:
                maker = instructions[max(earlier, key=lambda one: one.first).name]
        buffers.append(_describe(value, maker, labels))
    return tuple(buffers)


_CARRIERS = frozenset({"parameter", "while", "get-tuple-element", "tuple"})
_ALLOCATION = re.compile(
    r"^allocation (\d+): (.*):\n((?: value: .*\n?)*)", re.MULTILINE
)
_VALUE = re.compile(
    r"^ value: <\d+ ([^ {]+)(\{[\d,]*\})?(?: \(phi\))? @\d+> "
    r"\(size=(\d+),offset=(\d+)\): (\w+\[[^{\n]*)",
    re.MULTILINE,
)
_STEP = re.compile(r"^\s+(\d+):(\S+)$", re.MULTILINE)
_LIVE_RANGE = re.compile(r"^\s+(\S+\{[\d,]*\}):(\d+)-(\d+)$", re.MULTILINE)


def _slot_bytes(sharing: list[AssignedValue]) -> int:
    return max((value.nbytes for value in sharing), default=0)


def _owner(sharing: list[AssignedValue]) -> AssignedValue:
    return max(sharing, key=lambda value: (value.nbytes, value.first))


def _describe(
    value: AssignedValue, maker: HloInstruction | None, labels: Mapping[str, str]
) -> Buffer:
    if maker is None:
        return Buffer(value.name, value.nbytes, "", "", value.name, value.array)
    label = labels.get(maker.name) or swap_label(maker.op_name)
    return Buffer(
        label=label or maker.op_name or maker.name,
        nbytes=value.nbytes,
        opcode=maker.custom_call_target or maker.opcode,
        source=maker.source,
        name=maker.name,
        array=value.array,
    )
