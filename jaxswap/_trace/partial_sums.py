"""Sums over a mesh, split in two: each device's part, and at the end their total.

Some sums go over a dimension that is split over devices, such as the gradient of a
weight, which goes over the batch. Each device sums its part. Then an all-reduce adds up
the parts. XLA's partitioner puts the all-reduce right after the operation. XLA combines
all-reduces, but only if none waits for another. The barriers of a schedule make later
operations wait for gradients. So they would split the all-reduces again (two into
sixty-five, for a U-Net on four GPUs).

Here such an operation becomes two. One makes the parts of all devices, stacked. The
other adds them up, at the end of its pass. Then barriers only wait for the parts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from jaxswap import _compat
from jaxswap._graph.placement import Placement, Spec
from jaxswap._trace import cost
from jaxswap._trace.halo import Window, halos_of, local_convolution
from jaxswap._trace.program import Operation, Program
from jaxswap._trace.propagation import specs_of
from jaxswap._trace.shardings import is_typed, mesh_of, partition_of, sharding_of

COLLECTIVES = frozenset(
    "psum psum2 psum_invariant reduce_scatter all_gather all_gather_invariant".split()
)
"""Collectives of `jax.shard_map` that a gradient can end in."""

SLACK = 4
"""Sums are deferred up to this many times the size of the largest result. A deferred
sum holds memory until the end."""


def placed(program: Program, placement: Placement | None) -> Program:
    """Return a program as the devices of a mesh run it.

    Args:
        program: The traced program.
        placement: How its operands are split. `None` on one device, and also for the
            program of one device of a `jax.shard_map`.
    """
    if placement is None:
        names = {operation.eqn.primitive.name for operation in program.operations}
        return program if names.isdisjoint(COLLECTIVES) else split_sums(program)
    specs = specs_of(program, placement.operands, placement)
    return split_sums(dataclasses.replace(program, placement=placement, specs=specs))


def split_sums(program: Program) -> Program:
    """Split the sums over a mesh that only results depend on. Defer the totals.

    Collectives of `jax.shard_map` that only results depend on are deferred, too.
    """
    last = _Results(program)
    avals, specs = list(program.avals), list(program.specs)
    now: list[tuple[Operation, bool]] = []
    late: list[tuple[Operation, bool]] = []
    deferred: set[int] = set()
    for index, operation in enumerate(program.operations):
        is_backward = index in program.backward
        is_collective = operation.eqn.primitive.name in COLLECTIVES
        if not deferred.isdisjoint(operation.reads):
            late.append((operation, is_backward))
        elif not last.are_only(operation):
            now.append((operation, is_backward))
            continue
        elif is_collective:
            late.append((operation, is_backward))
        else:
            split = _split(program, operation, len(avals))
            if split is None:
                now.append((operation, is_backward))
                continue
            parts, total, aval, spec = split
            avals.append(aval)
            specs.append(spec)
            now.append((parts, is_backward))
            late.append((total, is_backward))
        deferred.update(operation.outputs)
    operations = [*now, *late]
    return dataclasses.replace(
        program,
        operations=tuple(operation for operation, _ in operations),
        avals=tuple(avals),
        specs=tuple(specs),
        backward=frozenset(i for i, (_, behind) in enumerate(operations) if behind),
        deferred=frozenset(range(len(now), len(operations))),
    )


class _Results:
    """Tells which operations only small results depend on."""

    def __init__(self, program: Program) -> None:
        self.program = program
        results = {*program.outputs, *program.gradients}
        self.results = {v for v in results if isinstance(v, int)}
        self.users: dict[int, list[Operation]] = {}
        for operation in program.operations:
            for v in operation.reads:
                self.users.setdefault(v, []).append(operation)
        largest = max(map(self._size, self.results), default=0)
        self.most = SLACK * largest
        self.is_end: dict[int, bool] = {}
        for operation in reversed(program.operations):
            self.is_end.update(
                dict.fromkeys(operation.outputs, self.are_only(operation))
            )

    def are_only(self, operation: Operation) -> bool:
        """Whether only results, by light operations, depend on an operation."""
        return all(
            (v in self.results or v in self.users)
            and all(self._is_light(user) for user in self.users.get(v, ()))
            for v in operation.outputs
        )

    def _is_light(self, user: Operation) -> bool:
        return (
            not user.eqn.effects
            and not cost.is_heavy(user.eqn)
            and all(self.is_end.get(v, False) for v in user.outputs)
            and all(self._size(v) <= self.most for v in (*user.reads, *user.outputs))
        )

    def _size(self, v: int) -> int:
        return getattr(self.program.avals[v], "size", 0)


def _split(
    program: Program, operation: Operation, index: int
) -> tuple[Operation, Operation, Any, Spec] | None:
    """Return an operation that makes the parts of a sum, and one that adds them up."""
    placement, eqn = program.placement, operation.eqn
    if placement is None or not all(isinstance(v, int) for v in operation.inputs):
        return None
    window = window_of(eqn, [program.specs[v] for v in operation.reads])
    if window is None or not window.summed:
        return None
    if eqn.primitive.name == "conv_general_dilated":
        halos = halos_of(eqn, window, placement).values()
        if any(halo is None for halo in halos):
            return None
    if placement.explicit:
        if window.inputs != tuple(program.specs[v] for v in operation.reads):
            return None
        pairs = zip(eqn.invars, window.inputs, strict=True)
        if not all(is_typed(v.aval, spec, placement) for v, spec in pairs):
            return None
    parts = _parts(eqn, window, placement)
    aval = parts.outvars[0].aval
    total = _total(eqn, parts, window, placement)
    return (
        dataclasses.replace(operation, eqn=parts, outputs=(index,)),
        dataclasses.replace(operation, eqn=total, inputs=(index,)),
        aval,
        (window.summed, *window.output),
    )


def window_of(eqn: Any, specs: Sequence[Spec]) -> Window | None:
    """Return how each device makes its part. `None` if it cannot make it alone."""
    name = eqn.primitive.name
    if name == "reduce_sum":
        axes = eqn.params["axes"]
        kept = [names for d, names in enumerate(specs[0]) if d not in axes]
        summed = tuple(name for d in axes for name in specs[0][d])
        return Window(summed, (specs[0],), tuple(kept))
    if name == "dot_general":
        return _window_of_product(eqn, specs)
    if name == "conv_general_dilated":
        return _window_of_convolution(eqn, specs)
    return None


def _window_of_product(eqn: Any, specs: Sequence[Spec]) -> Window | None:
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = list(specs[0]), list(specs[1])
    for a, b in zip((*left_sum, *left_batch), (*right_sum, *right_batch), strict=True):
        left[a] = right[b] = left[a] or right[b]
    if left != [*_where(left, specs[0])] or right != [*_where(right, specs[1])]:
        return None
    summed = tuple(name for d in left_sum for name in left[d])
    output = [left[d] for d in left_batch]
    output += [n for d, n in enumerate(left) if d not in (*left_sum, *left_batch)]
    output += [n for d, n in enumerate(right) if d not in (*right_sum, *right_batch)]
    return _checked(Window(summed, (tuple(left), tuple(right)), tuple(output)))


def _where(found: Sequence[Any], given: Spec) -> list[Any]:
    """Return the given split, plus the found one of dimensions that had none."""
    return [own or new for own, new in zip(given, found, strict=True)]


def _window_of_convolution(eqn: Any, specs: Sequence[Spec]) -> Window | None:
    params = eqn.params
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    numbers = params["dimension_numbers"]
    left, right, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    inputs = list(specs[0]), list(specs[1])
    features = specs[0][left[1]] or specs[1][right[1]]
    inputs[0][left[1]] = inputs[1][right[1]] = features
    summed = [*features]
    for a, b in zip(left[2:], right[2:], strict=True):
        if specs[0][a] != specs[1][b] or len(specs[0][a]) > 1:
            return None
        summed.extend(specs[0][a])
    output: list[tuple[str, ...]] = [()] * len(out)
    output[out[0]] = specs[0][left[0]]
    output[out[1]] = specs[1][right[0]]
    window = Window(tuple(summed), (tuple(inputs[0]), tuple(inputs[1])), tuple(output))
    return _checked(window)


def _checked(window: Window) -> Window | None:
    """Return the window, or None if an axis would split one array twice."""
    arrays = (*window.inputs, (window.summed, *window.output))
    for spec in arrays:
        names = [name for dimension in spec for name in dimension]
        if len(names) != len(set(names)):
            return None
    return window


def _parts(eqn: Any, window: Window, placement: Placement) -> Any:
    """Return the equation that makes the parts of all devices, stacked."""

    def part(*arrays: Any) -> Any:
        params = {**eqn.params}
        if "out_sharding" in params:
            params["out_sharding"] = None
        if eqn.primitive.name == "conv_general_dilated":
            result = local_convolution(eqn, params, window, placement, *arrays)
        else:
            result = eqn.primitive.bind(*arrays, **params)
        return lax.expand_dims(result, (0,))

    sharded = jax.shard_map(
        part,
        mesh=mesh_of(placement),
        in_specs=tuple(map(partition_of, window.inputs)),
        out_specs=partition_of((window.summed, *window.output)),
    )
    operands = [
        _described(v.aval, spec, placement)
        for v, spec in zip(eqn.invars, window.inputs, strict=True)
    ]
    return _only_equation(eqn, sharded, operands)


def _total(eqn: Any, parts: Any, window: Window, placement: Placement) -> Any:
    """Return the equation that adds up the parts of all devices."""
    stacked = (window.summed, *window.output)
    total = jax.shard_map(
        lambda x: lax.psum(lax.squeeze(x, (0,)), window.summed),
        mesh=mesh_of(placement),
        in_specs=partition_of(stacked),
        out_specs=partition_of(window.output),
    )
    aval = _described(parts.outvars[0].aval, stacked, placement)
    return _only_equation(eqn, total, [aval])


def _only_equation(eqn: Any, function: Any, operands: Sequence[Any]) -> Any:
    """Return the one equation of a traced function, as if the user had written it."""
    with _compat.at_equation(eqn):
        jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(function)(*operands))
    (only,) = jaxpr.eqns
    return only


def _described(aval: Any, spec: Spec, placement: Placement) -> Any:
    sharding = sharding_of(placement, spec) if placement.explicit else None
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding)
