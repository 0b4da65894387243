"""A traced program -> the same as numbers for its sweeps, and a rule for each step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from jax.extend.core import Literal

from jaxswap import _compat
from jaxswap._slabs.frame import Axis, Frame, Kind, Step
from jaxswap._slabs.grid import Grid, Line
from jaxswap._slabs.hosted import Margins
from jaxswap._sweeps.host_arrays import in_host_memory
from jaxswap._sweeps.lines import lines_at
from jaxswap._sweeps.rule import NotBySlabsError, Part, shape_of, sizes_of
from jaxswap._sweeps.rules import rule_of
from jaxswap._trace.cost import PRODUCTS, flops, tile_flops, work
from jaxswap._trace.operations import operation_name
from jaxswap._trace.program import Operation, Program


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why an operation that meets the sliced axis runs on whole arrays.

    Attributes:
        primitive: What it is.
        source: The line of the user's program.
        text: Why.
    """

    primitive: str
    source: str
    text: str

    def __str__(self) -> str:
        """Write it as a sentence."""
        place = f" at {self.source}" if self.source else ""
        return f"{self.primitive}{place}: {self.text}"


@dataclasses.dataclass(frozen=True, eq=False)
class Described:
    """A program that is to run by slabs.

    Attributes:
        program: The program.
        lines: The sliced axis of each value that has one.
        length: Planes of the axis that is cut.
        frame: The program as numbers. Its steps are the operations.
        parts: How each step that is not whole is computed for a slab.
        reasons: Why operations on sliced values are not computed by slabs.
    """

    program: Program
    lines: Mapping[int, Line]
    length: int
    frame: Frame
    parts: Mapping[int, Part]
    reasons: tuple[Reason, ...]

    def grid(self, count: int, *, in_pairs: bool) -> Grid:
        """Cut the axis into so many slabs, or fewer; see `Grid.of`."""
        met = {
            v
            for step in self.frame.steps
            if step.kind is not Kind.WHOLE
            for v in (*step.inputs, *step.outputs)
            if v in self.lines
        }
        rates = {self.lines[v].rate for v in met}
        return Grid.of(self.length, count, rates, in_pairs=in_pairs)

    def in_host_memory(self, margins: Mapping[int, Margins]) -> Described:
        """Return the same, with some values in host memory, sliced axis first."""
        avals = list(self.program.avals)
        for v, margin in margins.items():
            planes = margin.before + self.frame.axes[v].planes + margin.after
            shape = list(avals[v].shape)
            del shape[self.lines[v].dimension]
            avals[v] = in_host_memory(avals[v], (planes, *shape))
        program = dataclasses.replace(self.program, avals=tuple(avals))
        return dataclasses.replace(self, program=program)


def described(
    program: Program, lines: Mapping[int, Line], length: int, levels: int
) -> Described:
    """Find out how each operation of a program meets the sliced axis.

    Args:
        program: The program.
        lines: The sliced axis of each value that has one.
        length: Planes of the axis that is cut.
        levels: How many levels are computed by slabs: the finest one, the one of half
            its planes, and so on.
    """
    finest = Fraction(1, 2 ** (levels - 1))
    fine = _with_reshaped(
        program, lines, {v for v, line in lines.items() if line.rate >= finest}
    )
    steps: list[Step] = []
    parts: dict[int, Part] = {}
    reasons: list[Reason] = []
    for index, operation in enumerate(program.operations):
        step, part = _whole(operation), None
        if not fine.isdisjoint((*operation.reads, *operation.outputs)):
            try:
                part = _part(operation, lines, fine)
            except NotBySlabsError as error:
                reasons.append(_reason(operation, str(error)))
        if part is not None:
            parts[index] = part
            step = _by_slabs(operation, part)
        steps.append(step)
    results = (*program.outputs, *program.gradients)
    frame = Frame(
        steps=tuple(steps),
        axes={v: _axis(program.avals[v], line, v in fine) for v, line in lines.items()},
        wanted=frozenset(v for v in results if isinstance(v, int)),
        cotangents=frozenset(v for v in program.cotangents if v is not None),
        compared=_compared(program, steps),
    )
    return Described(program, lines, length, frame, parts, tuple(reasons))


def _with_reshaped(
    program: Program, lines: Mapping[int, Line], fine: set[int]
) -> frozenset[int]:
    """Add values that hold as much as fine ones, in another shape.

    Where features are pooled or repeated by reshapes, the sliced axis is split in two.
    It has fewer planes then, but each of them holds more.
    """
    found, before = set(fine), 0
    while len(found) > before:
        before = len(found)
        for operation in program.operations:
            is_reshape = operation.eqn.primitive.name == "reshape"
            values = [v for v in (*operation.reads, *operation.outputs) if v in lines]
            shapes = {v: sizes_of(program.avals[v]) for v in values}
            as_fine = {shapes[v] for v in found.intersection(values)}
            if is_reshape and as_fine:
                found.update(values)
            found.update(v for v in values if shapes[v] in as_fine)
    return frozenset(found)


def _compared(program: Program, steps: Sequence[Step]) -> frozenset[int]:
    """Return the values that are compared with their extreme along the sliced axis.

    The gradient of an extreme goes to where a value equals it. A value that is computed
    again may differ in its last bit.
    """
    makers = {v: i for i, step in enumerate(steps) for v in step.outputs}

    def is_extreme(value: int) -> bool:
        index = makers.get(value)
        while index is not None and program.operations[index].reads:
            name = program.operations[index].eqn.primitive.name
            if name in ("reduce_max", "reduce_min"):
                return steps[index].kind is Kind.SUM
            if name not in ("reshape", "broadcast_in_dim", "convert_element_type"):
                return False
            index = makers.get(program.operations[index].reads[0])
        return False

    return frozenset(
        v
        for operation in program.operations
        if operation.eqn.primitive.name == "eq"
        and any(map(is_extreme, operation.reads))
        for v in operation.reads
        if not is_extreme(v)
    )


def _axis(aval: Any, line: Line, is_fine: bool) -> Axis:
    shape = sizes_of(aval)
    nbytes = math.prod(shape) * aval.dtype.itemsize
    return Axis(shape[line.dimension], line.rate, is_fine, nbytes)


def _whole(operation: Operation) -> Step:
    return Step(Kind.WHOLE, operation.reads, operation.outputs)


def _by_slabs(operation: Operation, part: Part) -> Step:
    pairs = zip(operation.inputs, part.stencils, strict=True)
    read = [(place, v, s) for place, (v, s) in enumerate(pairs) if isinstance(v, int)]
    counted = 0
    if part.combine is not None:
        places = [place for place, _, _ in read]
        counted = places.index(part.combine.counted)
    eqn = operation.eqn
    name = eqn.primitive.name
    return Step(
        kind=Kind.LOCAL if part.combine is None else Kind.SUM,
        inputs=tuple(v for _, v, _ in read),
        outputs=operation.outputs,
        stencils=tuple(s for _, _, s in read),
        counted=counted,
        is_heavy=name in PRODUCTS,
        flops=flops(eqn),
        tile_flops=tile_flops(eqn),
        work=work(eqn),
        operation=operation_name(eqn),
        is_sum_of_two=name in ("add", "add_any"),
    )


def _part(
    operation: Operation, lines: Mapping[int, Line], fine: frozenset[int]
) -> Part:
    """Return how an operation is computed for a slab.

    Raises:
        NotBySlabsError: If it cannot be.
    """
    eqn = operation.eqn
    rule = rule_of(eqn)
    if rule is None:
        raise NotBySlabsError("has no rule")
    if eqn.effects:
        raise NotBySlabsError("has an effect")
    ins, outs = lines_at(operation.inputs, lines), lines_at(operation.outputs, lines)
    part = rule.part(eqn, ins, outs)
    for atom, stencils in zip(operation.inputs, part.stencils, strict=True):
        if stencils is None and isinstance(atom, int) and atom in fine:
            raise NotBySlabsError("reads an operand whole")
        if stencils is None and isinstance(atom, Literal) and shape_of(atom):
            raise NotBySlabsError("reads a constant array")
    return part


def _reason(operation: Operation, text: str) -> Reason:
    eqn = operation.eqn
    return Reason(eqn.primitive.name, _compat.source_line(eqn), text)
