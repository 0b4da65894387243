"""`Program` -> `Graph`: the traced program as plain data for policy and schedule."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxswap import _compat
from jaxswap._graph.graph import Equation, Graph, Value
from jaxswap._graph.placement import Spec, axes_of
from jaxswap._trace.equation_cost import EquationCost, cost_by_kind
from jaxswap._trace.inner_loop import carried_bytes, in_place, loop_in
from jaxswap._trace.overwritten import overwritten
from jaxswap._trace.parts import is_in_parts
from jaxswap._trace.program import Operation, Program
from jaxswap._trace.propagation import body_specs, specs_of
from jaxswap._trace.symbolic import NO_SIZES, Sizes, sized
from jaxswap._trace.tracing import program_of


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A traced program, and its description.

    Attributes:
        program: What is executed.
        graph: The same as numbers and names, for everything that decides.
    """

    program: Program
    graph: Graph

    @classmethod
    def of(cls, program: Program, sizes: Sizes = NO_SIZES) -> "Traced":
        """Describe a program, with sizes for its symbolic dimensions."""
        return cls(program, graph_of(sized(program, sizes)))


def graph_of(
    program: Program,
    carried: tuple[int, ...] = (),
    sliced: tuple[int, ...] = (),
    trip_count: int = 1,
) -> Graph:
    """Describe a traced program by numbers and names.

    Policies decide on forward values, so values of the backward pass only get their
    size. Bytes and operations are those of one device. The last three arguments are for
    a loop's body, see `Graph`.
    """
    makers = {
        v: origin
        for op in program.operations
        if not op.is_join
        for v, origin in zip(op.outputs, origins_of(op), strict=True)
    }
    arguments = (*program.operands, *program.constants)
    names = _names(program)
    cost_of = cost_by_kind()
    values = tuple(
        _value(
            index,
            aval,
            makers.get(index),
            names.get(index),
            index in carried,
            _shards(program, index),
        )
        for index, aval in enumerate(program.avals)
    )
    return Graph(
        values=values,
        equations=tuple(
            _equation(program, index, op, cost_of(op.eqn))
            for index, op in enumerate(program.operations)
        ),
        arguments=arguments,
        outputs=tuple(v for v in program.outputs if isinstance(v, int)),
        cotangents=tuple(v for v in program.cotangents if v is not None),
        gradients=tuple(v for v in program.gradients if isinstance(v, int)),
        carried=carried,
        handed_on=tuple(
            v if isinstance(v, int) else -1 for v in program.outputs[: len(carried)]
        ),
        sliced=sliced,
        trip_count=trip_count,
        loops=program.loops,
        inside=program.inside,
        slabs=program.slabs,
        slab_facts=program.slab_facts,
        compress=program.compress,
        pieces=program.pieces,
    )


def origins_of(op: Operation) -> tuple[Operation, ...]:
    """Return, for each result, the operation of the user's program that makes it."""
    return op.origins or (op,) * len(op.outputs)


def _shards(program: Program, *values: int) -> int:
    """Return into how many parts devices split what reads or makes these values."""
    if program.placement is None:
        return 1
    names = {name for v in values for name in axes_of(program.specs[v])}
    return program.placement.shards(names)


def _value(
    index: int,
    aval: Any,
    maker: Operation | None,
    name: str | None,
    is_carried: bool,
    shards: int,
) -> Value:
    shape = tuple(getattr(aval, "shape", ()))
    dtype = getattr(aval, "dtype", None)
    dtype = dtype if isinstance(dtype, np.dtype) and dtype.itemsize else None
    nbytes = math.prod(shape) * dtype.itemsize // shards if dtype is not None else 0
    is_on_host = _compat.is_on_host(aval)
    given = "carry" if is_carried else "argument"
    return Value(
        index=index,
        nbytes=0 if is_on_host else nbytes,
        shape=shape,
        dtype=dtype,
        primitive=maker.eqn.primitive.name if maker else given,
        source=_compat.source_line(maker.eqn) if maker else "",
        name=name,
        scope=maker.scope if maker else "",
        is_argument=maker is None and not is_carried,
        host_nbytes=nbytes if is_on_host else 0,
    )


def _equation(
    program: Program, index: int, op: Operation, cost: EquationCost
) -> Equation:
    scan, workspace_bytes = _compat.scan_of(op.eqn), cost.workspace_bytes
    body = _checkpointed(program, op) if scan is None else _body(program, op, scan)
    inner = loop_in(op.eqn)
    if inner is not None:
        scan, body = inner, in_place(_iteration(inner, program_of(inner.jaxpr)))
        workspace_bytes = carried_bytes(op.eqn, body)
    # The code in a `shard_map` already is the code of one device.
    is_local = op.eqn.primitive.name == "shard_map"
    shards = 1 if is_local else _shards(program, *op.reads, *op.outputs)
    return Equation(
        index=index,
        primitive=op.eqn.primitive.name,
        inputs=op.reads,
        outputs=op.outputs,
        flops=cost.flops / shards,
        tile_flops=cost.tile_flops / shards,
        tile_count=math.ceil(cost.tile_count / shards),
        is_backward=index in program.backward,
        is_heavy=cost.is_heavy,
        is_view=cost.is_view,
        is_cheap=cost.is_cheap,
        is_pure=not (op.eqn.effects or op.is_cut),
        is_reduction=cost.is_reduction,
        is_known=cost.is_known,
        work=cost.work,
        operation=cost.operation if shards == 1 else "",
        workspace_bytes=workspace_bytes // shards,
        inner_bytes=cost.inner_bytes / shards,
        body=body,
        trip_count=1 if scan is None else scan.length,
        is_deferred=index in program.deferred,
        overwritten=_overwritten(op),
        is_in_parts=program.placement is None and is_in_parts(op),
        is_cut=op.is_cut,
        is_join=op.is_join,
    )


def _overwritten(op: Operation) -> tuple[int, ...]:
    operands = (op.inputs[at] for at in overwritten(op.eqn))
    return tuple(v for v in operands if isinstance(v, int))


def _body(outer: Program, op: Operation, scan: _compat.Scan) -> Graph:
    """Describe one iteration of a loop as it is, without a gradient."""
    specs = body_specs(scan, _specs(outer, op))
    return _iteration(scan, _within(outer, program_of(scan.jaxpr), specs))


def _iteration(scan: _compat.Scan, program: Program) -> Graph:
    first, last = scan.const_count, scan.const_count + scan.carry_count
    carried, sliced = program.operands[first:last], program.operands[last:]
    return graph_of(program, carried, sliced, scan.length)


def _checkpointed(outer: Program, op: Operation) -> Graph | None:
    """Describe what a `jax.checkpoint` executes, so that each operation takes time.

    That is one call in its forward pass, and another one in its backward pass.
    """
    closed = _compat.closed_call_jaxpr(op.eqn) or _compat.checkpointed(op.eqn)
    if closed is None:
        return None
    return graph_of(_within(outer, program_of(closed), _specs(outer, op)))


def _within(outer: Program, program: Program, specs: Sequence[Spec]) -> Program:
    """Give what an equation executes inside the placement of its operands."""
    if outer.placement is None:
        return program
    placed = specs_of(program, specs, outer.placement)
    return dataclasses.replace(program, placement=outer.placement, specs=placed)


def _specs(program: Program, op: Operation) -> list[Spec]:
    if program.placement is None:
        return [()] * len(op.inputs)
    return [program.specs[a] if isinstance(a, int) else () for a in op.inputs]


def _names(program: Program) -> dict[int, str]:
    """Return `checkpoint_name` names, for each named value and for what makes it."""
    names: dict[int, str] = {}
    for op in program.operations:
        if op.eqn.primitive.name == "name":
            for v in (*op.reads, *op.outputs):
                names.setdefault(v, op.eqn.params["name"])
    return names
