"""Specs of a program's operands -> specs of all its values, as XLA will choose them.

Under `jit`, XLA's partitioner decides how each intermediate array is split. Plans need
to know that before anything is compiled. So the specs of the operands are followed
forward through the program: a dimension of a result is split like the dimension of the
operand that it comes from. This is an estimate. No result depends on it, and plans are
checked by the bytes of the compiled program.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import Literal

from jaxswap import _compat
from jaxswap._graph.placement import Placement, Spec
from jaxswap._trace.program import Program
from jaxswap._trace.shardings import dimensions_of
from jaxswap._trace.tracing import program_of
from jaxswap._trace.traffic import SCATTERS

Dimensions = Sequence[Sequence[str]]
Rule = Callable[[Any, Sequence[Spec]], list[Dimensions]]


def replicated(aval: Any) -> Spec:
    """Return the spec of an array of which each device holds a copy."""
    return ((),) * len(getattr(aval, "shape", ()))


def specs_of(
    program: Program, operands: Sequence[Spec], placement: Placement
) -> tuple[Spec, ...]:
    """Return the spec of each value of a program.

    Args:
        program: The program.
        operands: The specs of the operands.
        placement: The mesh.
    """
    known = dict(zip(program.operands, operands, strict=True))
    made_from = {
        cotangent: output
        for cotangent, output in zip(program.cotangents, program.outputs, strict=True)
        if cotangent is not None
    }

    def read(atom: int | Literal) -> Spec:
        if not isinstance(atom, int):
            return replicated(atom.aval)
        if atom not in known:
            like = made_from.get(atom)
            own = replicated(program.avals[atom])
            known[atom] = own if like is None else read(like)
        return known[atom]

    for operation in program.operations:
        found = _follow(operation.eqn, [read(v) for v in operation.inputs], placement)
        known.update(zip(operation.outputs, found, strict=True))
    return tuple(read(v) for v in range(len(program.avals)))


def body_specs(scan: _compat.Scan, specs: Sequence[Spec]) -> list[Spec]:
    """Return the specs of a loop body's operands, from those of the loop's operands."""
    first = scan.const_count + scan.carry_count
    return [*specs[:first], *(spec[1:] for spec in specs[first:])]


def _follow(eqn: Any, specs: Sequence[Spec], placement: Placement) -> tuple[Spec, ...]:
    """Return the specs of an equation's results, given those of its operands."""
    scan = _compat.scan_of(eqn)
    if scan is not None:
        wanted = _looped(scan, specs, placement)
    else:
        wanted = _RULES.get(eqn.primitive.name, _alike)(eqn, specs)
    return tuple(
        placement.fitting(_shape(result), _typed(result.aval) or dimensions)
        for result, dimensions in zip(eqn.outvars, wanted, strict=True)
    )


def _looped(
    scan: _compat.Scan, specs: Sequence[Spec], placement: Placement
) -> list[Dimensions]:
    """Split carried values as before, and other results as one iteration does."""
    body = program_of(scan.jaxpr)
    values = specs_of(body, body_specs(scan, specs), placement)
    first, count = scan.const_count, scan.carry_count
    found: list[Dimensions] = [list(spec) for spec in specs[first : first + count]]
    for atom in body.outputs[count:]:
        spec = values[atom] if isinstance(atom, int) else replicated(atom.aval)
        found.append([(), *spec])
    return found


def _typed(aval: Any) -> Dimensions | None:
    """Return the spec in an array's type, or None if the type has none."""
    sharding = getattr(aval, "sharding", None)
    spec = getattr(sharding, "spec", None)
    if spec is None or not any(spec):
        return None
    return dimensions_of(spec, len(aval.shape))


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _alike(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    """Split each dimension like that of the operands with as many dimensions.

    This holds for operations that work element by element. It also holds for windows,
    pads and slices: XLA splits their results like their operands.
    """
    found = []
    for result in eqn.outvars:
        dimensions: list[Sequence[str]] = [()] * len(_shape(result))
        for atom, spec in zip(eqn.invars, specs, strict=True):
            if len(spec) == len(dimensions) and 1 not in _only(_shape(atom), spec):
                dimensions = [a or b for a, b in zip(dimensions, spec, strict=True)]
        found.append(dimensions)
    return found


def _only(shape: Sequence[int], spec: Spec) -> list[int]:
    """Return the sizes of the dimensions that are split."""
    return [size for size, names in zip(shape, spec, strict=True) if names]


def _broadcast(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    dimensions: list[Sequence[str]] = [()] * len(_shape(eqn.outvars[0]))
    for place, names in zip(eqn.params["broadcast_dimensions"], specs[0], strict=True):
        dimensions[place] = names
    return [dimensions]


def _transposed(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    dimensions: list[Sequence[str]] = [specs[0][d] for d in eqn.params["permutation"]]
    return [dimensions]


def _reshaped(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    """Keep a dimension's split if as many elements come before it in the result."""
    shape, result = _shape(eqn.invars[0]), _shape(eqn.outvars[0])
    starts = {
        math.prod(result[:place]): place
        for place, size in enumerate(result)
        if size > 1
    }
    dimensions: list[Sequence[str]] = [()] * len(result)
    for place, names in enumerate(specs[0]):
        goes_to = starts.get(math.prod(shape[:place]))
        if names and goes_to is not None:
            dimensions[goes_to] = names
    return [dimensions]


def _squeezed(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    gone = eqn.params["dimensions"]
    return [[names for d, names in enumerate(specs[0]) if d not in gone]]


def _reduced(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    gone = eqn.params["axes"] if "axes" in eqn.params else eqn.params["dimensions"]
    kept = [names for d, names in enumerate(specs[0]) if d not in gone]
    return [kept for _ in eqn.outvars]


def _product(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    contracted, batch = eqn.params["dimension_numbers"]
    dimensions: list[Sequence[str]] = [
        specs[0][a] or specs[1][b] for a, b in zip(*batch, strict=True)
    ]
    for spec, gone, together in zip(specs, contracted, batch, strict=True):
        dimensions += [
            names for d, names in enumerate(spec) if d not in (*gone, *together)
        ]
    return [dimensions]


def _convolved(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    """Keep space split. If the kernel's space is split, it is summed over instead."""
    numbers = eqn.params["dimension_numbers"]
    left, right, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    dimensions: list[Sequence[str]] = [()] * len(out)
    dimensions[out[0]] = specs[0][left[0]]
    dimensions[out[1]] = specs[1][right[0]]
    for d, in_kernel, place in zip(left[2:], right[2:], out[2:], strict=True):
        if not specs[1][in_kernel]:
            dimensions[place] = specs[0][d]
    return [dimensions]


def _joined(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    dimensions = [*_alike(eqn, specs)[0]]
    dimensions[eqn.params["dimension"]] = ()
    return [dimensions]


def _gathered(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    """Split the result like the indices. What lies at an index is not split."""
    offsets = eqn.params["dimension_numbers"].offset_dims
    of_indices = iter(specs[1][:-1])
    rank = len(_shape(eqn.outvars[0]))
    return [[() if d in offsets else next(of_indices, ()) for d in range(rank)]]


def _like_first(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    return [list(specs[0]) for _ in eqn.outvars]


def _place_by_place(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    del eqn
    return [list(spec) for spec in specs]


def _constrained(eqn: Any, specs: Sequence[Spec]) -> list[Dimensions]:
    sharding = eqn.params.get("sharding", eqn.params.get("dst_sharding"))
    spec = getattr(sharding, "spec", None)
    if spec is None:
        return _like_first(eqn, specs)
    return [dimensions_of(spec, len(_shape(eqn.outvars[0])))]


_REDUCTIONS = "sum max min prod and or xor".split()
_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transposed,
    "reshape": _reshaped,
    "squeeze": _squeezed,
    **{f"reduce_{name}": _reduced for name in _REDUCTIONS},
    "argmax": _reduced,
    "argmin": _reduced,
    "reduce": _reduced,
    "dot_general": _product,
    "conv_general_dilated": _convolved,
    "concatenate": _joined,
    "gather": _gathered,
    **dict.fromkeys(SCATTERS, _like_first),
    "dynamic_update_slice": _like_first,
    "optimization_barrier": _place_by_place,
    "sharding_constraint": _constrained,
    "reshard": _constrained,
}
