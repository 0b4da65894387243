"""A call that runs one loop over parts of arrays -> one iteration, as numbers.

Such an iteration reads parts of arrays where they lie, and writes parts in place. So it
takes time and memory for these parts, not for the arrays.
"""

import dataclasses
from typing import Any

from jaxswap import _compat
from jaxswap._graph.graph import Equation, Graph
from jaxswap._trace.traffic import array_bytes


def loop_in(eqn: Any) -> _compat.Scan | None:
    """Return the loop that a call runs. `None` if it runs none, or several."""
    called = _compat.called_jaxpr(eqn)
    if called is None:
        return None
    inner, _ = _compat.open_jaxpr(called)
    loops = [scan for e in inner.eqns if (scan := _compat.scan_of(e)) is not None]
    return loops[0] if len(loops) == 1 else None


def in_place(body: Graph) -> Graph:
    """Return an iteration that reads and writes parts of arrays where they lie.

    Args:
        body: The same, where each part is an array, and each array is written anew.
    """
    base = _bases(body)
    values, kept, parts = list(body.values), [], []
    arguments = set(body.arguments)
    for eqn in body.equations:
        is_given = bool(eqn.inputs) and base.get(eqn.inputs[0], -1) in arguments
        if is_given and eqn.primitive == "dynamic_update_slice":
            (v,) = eqn.outputs
            values[v] = dataclasses.replace(values[v], nbytes=0)
            base[v] = base[eqn.inputs[0]]
            eqn = dataclasses.replace(eqn, inputs=eqn.inputs[1:])
        if is_given and _is_part(body, eqn):
            parts += eqn.outputs
        else:
            kept.append(dataclasses.replace(eqn, index=len(kept)))
    return dataclasses.replace(
        body,
        values=tuple(values),
        equations=tuple(kept),
        arguments=(*body.arguments, *parts),
        sliced=(*body.sliced, *parts),
    )


def carried_bytes(eqn: Any, body: Graph) -> int:
    """Return the device memory of what a loop carries, and its call does not return."""
    carried = sum(body.values[v].nbytes for v in body.carried)
    returned = sum(
        array_bytes(v) for v in eqn.outvars if not _compat.is_on_host(v.aval)
    )
    return max(0, carried - returned)


def _is_part(body: Graph, eqn: Equation) -> bool:
    """Whether an equation cuts a part out of an array on the device."""
    is_slice = eqn.primitive == "dynamic_slice"
    return is_slice and not body.values[eqn.inputs[0]].host_nbytes


def _bases(body: Graph) -> dict[int, int]:
    """Return the value that each value is, barriers looked through."""
    base = {v: v for v in range(len(body.values))}
    for eqn in body.equations:
        if eqn.primitive == "optimization_barrier":
            for out, given in zip(eqn.outputs, eqn.inputs, strict=False):
                base[out] = base[given]
    return base
