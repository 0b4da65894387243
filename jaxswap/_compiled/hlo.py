"""The text of a compiled program -> plain data.

The input is what `compiled.as_text()` returns. The result is a `Module` made of
computations. Their instructions are in execution order, since XLA prints a scheduled
module in this order. Only what evidence needs is read: shapes as arrays with their
memory space, operands, called computations, and the source line of an instruction. No
JAX here.

The grammar is XLA's HLO text form, `xla/hlo/parser/hlo_parser.cc` in openxla/xla.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HOST_SPACE = 5
"""Number of the host memory space in layouts: `S(5)`."""


@dataclass(frozen=True)
class Array:
    """One array of an instruction's shape.

    Attributes:
        text: The type as printed, without its layout: `f32[4096,1024]`.
        nbytes: Size without padding.
        memory_space: The number after `S` in the layout. 0 for device memory.
    """

    text: str
    nbytes: int
    memory_space: int

    @property
    def is_on_host(self) -> bool:
        """Whether the array lives in host memory."""
        return self.memory_space == HOST_SPACE


@dataclass(frozen=True)
class HloInstruction:
    """One line of a computation.

    Attributes:
        name: Unique name within the module.
        opcode: Its kind, such as `fusion`, `copy-start`, `custom-call`.
        arrays: The arrays of its result, with tuples flattened.
        operands: Names of its operands, with `#k` for element k of a tuple.
        called: Names of the computations that it calls.
        custom_call_target: What a `custom-call` calls, or "".
        op_name: JAX's path of names, such as `jit(f)/dot_general`, or "".
        source: `file:line` of the user's code, or "".
        dim_labels: Of a convolution: the axes of its operands and result, such as
            `bf01_oi01->bf01`, else "".
        tuple_index: The element that a `get-tuple-element` takes.
        trip_count: Iterations of a `while` if XLA knows them, else 1.
        is_root: Whether its result is the result of its computation.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    custom_call_target: str = ""
    op_name: str = ""
    source: str = ""
    dim_labels: str = ""
    tuple_index: int = 0
    trip_count: int = 1
    is_root: bool = False

    @property
    def device_bytes(self) -> int:
        """Bytes of the result outside host memory."""
        return sum(array.nbytes for array in self.arrays if not array.is_on_host)


@dataclass(frozen=True)
class Computation:
    """A named list of instructions. In a scheduled module it is in execution order."""

    name: str
    instructions: tuple[HloInstruction, ...]
    is_entry: bool = False

    @functools.cached_property
    def by_name(self) -> Mapping[str, HloInstruction]:
        """Instructions by name."""
        return {instruction.name: instruction for instruction in self.instructions}

    def producer(self, operand: str) -> HloInstruction | None:
        """Return the instruction that makes an operand. None if it is elsewhere."""
        return self.by_name.get(operand.partition("#")[0])

    @property
    def root(self) -> HloInstruction:
        """The instruction whose result is the computation's result."""
        marked = [one for one in self.instructions if one.is_root]
        return marked[0] if marked else self.instructions[-1]


@dataclass(frozen=True)
class Module:
    """A compiled program."""

    name: str
    is_scheduled: bool
    computations: tuple[Computation, ...]

    @functools.cached_property
    def by_name(self) -> Mapping[str, Computation]:
        """Computations by name."""
        return {computation.name: computation for computation in self.computations}

    @property
    def entry(self) -> Computation:
        """The computation that runs first."""
        return next(one for one in self.computations if one.is_entry)

    def instructions(self) -> Iterator[HloInstruction]:
        """Go over all instructions of all computations."""
        for computation in self.computations:
            yield from computation.instructions


def parse_module(text: str) -> Module:
    """Read a module from its text.

    Args:
        text: HLO text, as `jax.stages.Compiled.as_text` returns it.

    Returns:
        The module, in the order of the text.

    Raises:
        ValueError: If the text is not an HLO module.

    Example:
        >>> module = parse_module('''HloModule jit_f, is_scheduled=true
        ...
        ... ENTRY %main (x: f32[8]) -> f32[8] {
        ...   %x = f32[8]{0} parameter(0)
        ...   ROOT %y = f32[8]{0:S(5)} copy(%x)
        ... }
        ... ''')
        >>> module.entry.root.arrays[0].is_on_host
        True
    """
    header = re.search(r"^HloModule ([^\s,]+)(.*)", text, re.MULTILINE)
    if header is None:
        raise ValueError("`text` is not HLO: it has no line that starts `HloModule`.")
    frames = _source_lines(text)
    computations = []
    for match in _COMPUTATION.finditer(text):
        lines = match["body"].splitlines()
        parsed = (_parse_instruction(line, frames) for line in lines)
        computations.append(
            Computation(
                name=match["name"],
                instructions=tuple(one for one in parsed if one is not None),
                is_entry=bool(match["entry"]),
            )
        )
    return Module(header[1], "is_scheduled=true" in header[2], tuple(computations))


_COMPUTATION = re.compile(
    r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .*\{\n(?P<body>(?:.*\n)*?)\}",
    re.MULTILINE,
)
_ASSIGNMENT = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = ")
_ARRAY = re.compile(
    r"(?P<type>[a-z]\w*)\[(?P<sizes>[\d,<=]*)\](?:\{(?P<layout>[^}]*)\})?"
)
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_OPERAND = re.compile(r"%([\w.\-]+(?:#\d+)?)")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation"
    r"|branch_computations|called_computations)="
    r"(?:\{([^}]*)\}|(%[\w.\-]+))"
)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"([\w>-]+)")
_TUPLE_INDEX = re.compile(r", index=(\d+)")
_BITS = {"pred": 8, "token": 0, "opaque": 0}


@functools.lru_cache(maxsize=4096)
def parse_arrays(text: str) -> tuple[Array, ...]:
    """Read a shape. Tuples are flattened, in order. Many instructions share one."""
    return tuple(
        Array(
            text=f"{match['type']}[{match['sizes']}]",
            nbytes=_count_bytes(match["type"], match["sizes"]),
            memory_space=_memory_space(match["layout"] or ""),
        )
        for match in _ARRAY.finditer(text)
    )


def _parse_instruction(line: str, frames: Mapping[str, str]) -> HloInstruction | None:
    assignment = _ASSIGNMENT.match(line)
    if assignment is None:
        return None
    shape_end = _end_of_shape(line, assignment.end())
    operands_start = line.find("(", shape_end)
    if operands_start < 0:
        return None
    operands_end = _matching_parenthesis(line, operands_start)
    attributes = line[operands_end:]
    calls = _CALLED.findall(attributes) if "%" in attributes else ()
    called = [braced or single for braced, single in calls]
    trips = _field('"known_trip_count":{"n":', _TEXT, attributes)
    index = _TUPLE_INDEX.match(attributes)
    return HloInstruction(
        name=assignment["name"],
        opcode=line[shape_end:operands_start].strip(),
        arrays=parse_arrays(line[assignment.end() : shape_end]),
        operands=tuple(_OPERAND.findall(line[operands_start:operands_end])),
        called=tuple(_OPERAND.findall(" ".join(called))),
        custom_call_target=_field("custom_call_target=", _TEXT, attributes),
        op_name=_field("op_name=", _TEXT, attributes),
        source=_source(attributes, frames),
        dim_labels=_field("dim_labels=", _WORD, attributes),
        tuple_index=int(index[1]) if index else 0,
        trip_count=int(trips) if trips else 1,
        is_root=bool(assignment["root"]),
    )


def _end_of_shape(line: str, start: int) -> int:
    if line.startswith("(", start):
        return _matching_parenthesis(line, start)
    end = line.find(" ", start)
    return end if end >= 0 else len(line)


def _matching_parenthesis(line: str, start: int) -> int:
    """Return the position after the parenthesis that closes the one at `start`."""
    opened = closed = start
    while (closed := line.find(")", closed)) >= 0:
        closed += 1
        opened = line.find("(", opened + 1, closed)
        if opened < 0:
            return closed
    return len(line)


def _count_bytes(element_type: str, sizes: str) -> int:
    digits = re.search(r"\d+", element_type)
    bits = _BITS.get(element_type, int(digits[0]) if digits else 0)
    for size in re.findall(r"\d+", sizes):
        bits *= int(size)
    return -(-bits // 8)


def _memory_space(layout: str) -> int:
    found = _MEMORY_SPACE.search(layout)
    return int(found[1]) if found else 0


def _field(name: str, form: re.Pattern[str], text: str) -> str:
    """Return what follows the first `name`, or "". Most instructions lack most fields.

    So it is looked for as a plain string, which takes a fraction of a pattern's time.
    """
    start = text.find(name)
    found = form.match(text, start + len(name)) if start >= 0 else None
    return found[1].replace('\\"', '"').replace("\\'", "'") if found else ""


def _source(attributes: str, frames: Mapping[str, str]) -> str:
    file = _field("source_file=", _TEXT, attributes)
    if file:
        return f"{file}:{_field('source_line=', _WORD, attributes)}"
    return frames.get(_field("stack_frame_id=", _WORD, attributes), "")


def _source_lines(text: str) -> Mapping[str, str]:
    """Read the tables of stack frames that JAX 0.10 and newer print at the top."""
    files = dict(re.findall(r'^(\d+) "(.*)"$', _table(text, "FileNames"), re.MULTILINE))
    locations = {
        location: f"{files.get(file, '')}:{line}"
        for location, file, line in re.findall(
            r"^(\d+) \{file_name_id=(\d+).*? line=(\d+)",
            _table(text, "FileLocations"),
            re.MULTILINE,
        )
    }
    return {
        frame: locations.get(location, "")
        for frame, location in re.findall(
            r"^(\d+) \{file_location_id=(\d+)",
            _table(text, "StackFrames"),
            re.MULTILINE,
        )
    }


def _table(text: str, title: str) -> str:
    found = re.search(rf"^{title}\n((?:.+\n)*)", text, re.MULTILINE)
    return found[1] if found else ""
