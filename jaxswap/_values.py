"""`Program` -> `Graph`: the traced program as plain data for policy and schedule."""

import math
from typing import Any

import numpy as np

from jaxswap import _compat, _cost
from jaxswap._graph import Equation, Graph, Value
from jaxswap._trace import Operation, Program


def graph_of(program: Program) -> Graph:
    """Describe a traced program by numbers and names.

    Values of the backward pass get their size only; what a policy is shown are the
    forward values.
    """
    makers = {v: op for op in program.operations for v in op.outputs}
    arguments = (*program.operands, *program.constants)
    names = _names(program)
    values = tuple(
        _value(index, aval, makers.get(index), names.get(index))
        for index, aval in enumerate(program.avals)
    )
    return Graph(
        values=values,
        equations=tuple(
            _equation(index, op, index in program.backward)
            for index, op in enumerate(program.operations)
        ),
        arguments=arguments,
        outputs=tuple(v for v in program.outputs if isinstance(v, int)),
        cotangents=tuple(v for v in program.cotangents if v is not None),
        gradients=tuple(v for v in program.gradients if isinstance(v, int)),
    )


def _value(index: int, aval: Any, maker: Operation | None, name: str | None) -> Value:
    shape = tuple(getattr(aval, "shape", ()))
    dtype = getattr(aval, "dtype", None)
    dtype = dtype if isinstance(dtype, np.dtype) and dtype.itemsize else None
    return Value(
        index=index,
        nbytes=math.prod(shape) * dtype.itemsize if dtype is not None else 0,
        shape=shape,
        dtype=dtype,
        primitive=maker.eqn.primitive.name if maker else "argument",
        source=_compat.source_line(maker.eqn) if maker else "",
        name=name,
        scope=maker.scope if maker else "",
        is_argument=maker is None,
    )


def _equation(index: int, op: Operation, is_backward: bool) -> Equation:
    return Equation(
        index=index,
        primitive=op.eqn.primitive.name,
        inputs=op.reads,
        outputs=op.outputs,
        flops=_cost.flops(op.eqn),
        tile_flops=_cost.tile_flops(op.eqn),
        is_backward=is_backward,
        is_heavy=_cost.is_heavy(op.eqn),
        is_view=op.eqn.primitive.name in _cost.VIEWS,
        is_cheap=_cost.is_cheap(op.eqn),
        is_pure=not op.eqn.effects,
        is_reduction=_cost.is_reduction(op.eqn),
        is_known=_cost.is_known(op.eqn),
        work=_cost.work(op.eqn),
        inner_bytes=_cost.inner_bytes(op.eqn),
    )


def _names(program: Program) -> dict[int, str]:
    """`checkpoint_name` names; the named value and its producer both carry it."""
    names: dict[int, str] = {}
    for op in program.operations:
        if op.eqn.primitive.name == "name":
            for v in (*op.reads, *op.outputs):
                names.setdefault(v, op.eqn.params["name"])
    return names
