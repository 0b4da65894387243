"""Function and arguments -> `Program`: forward and backward pass as one list.

`jax.vjp` is traced together with the call of its result, so the list holds the
forward pass, whatever the backward pass wants from it, and the backward pass, in an
order that can be executed. Calls of `jit` are inlined, and what no result needs is
dropped. An operation belongs to the backward pass if and only if it depends on a
cotangent; all others can run in the forward pass *or* be put off until the backward
pass asks for them.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from jaxswap import _compat
from jaxswap._graph.graph import Loop
from jaxswap._graph.placement import Placement, Spec


@dataclasses.dataclass(frozen=True)
class Operation:
    """One equation whose variables are numbered through the whole program."""

    eqn: JaxprEqn
    inputs: tuple[int | Literal, ...]
    outputs: tuple[int, ...]
    scope: str

    @property
    def reads(self) -> tuple[int, ...]:
        """Indices of the values among the inputs (literals left out)."""
        return tuple(v for v in self.inputs if isinstance(v, int))


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced function with its gradient.

    Attributes:
        operations: What is executed, in order.
        avals: Abstract value (shape, dtype) of each value, by index.
        constants: Values known at trace time.
        operands: Values that the caller passes to the forward pass.
        outputs: Results of the forward pass, in the order of the function's.
        cotangents: One for each output that has a tangent, `None` for the others.
        gradients: One for each operand that is differentiated, `None` for the others.
        backward: Indices into `operations` of those that depend on a cotangent.
        loops: Bodies of loops that swap inside.
        placement: The mesh over which its values are split; `None` for one device.
        specs: How each value is split; empty for one device.
        put_off: Indices into `operations` of sums over a mesh that only results wait
            for, and of what is made of them.
    """

    operations: tuple[Operation, ...]
    avals: tuple[Any, ...]
    constants: dict[int, Any]
    operands: tuple[int, ...]
    outputs: tuple[int | Literal, ...]
    cotangents: tuple[int | None, ...]
    gradients: tuple[int | Literal | None, ...]
    backward: frozenset[int]
    loops: tuple[Loop, ...] = ()
    placement: Placement | None = None
    specs: tuple[Spec, ...] = ()
    put_off: frozenset[int] = frozenset()


Scanned = Callable[[JaxprEqn, Sequence[Any]], Sequence[Any]]
"""Executes (or traces) a `lax.scan` equation on its operands."""


def has_tangent(x: Any) -> bool:
    """Whether values of this type can be differentiated (floating or complex)."""
    return bool(jnp.issubdtype(x.dtype, np.inexact))


def evaluate(
    jaxpr: Any, env: dict[Var, Any], scanned: Scanned | None = None
) -> list[Any]:
    """Execute (or trace) the equations of a jaxpr.

    Args:
        jaxpr: The equations.
        env: What they are given; results are added.
        scanned: Executes loops, also those within calls of `jit`; `None`: as they are.
    """

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        inner = _compat.called_jaxpr(eqn)
        if scanned is not None and _compat.scan_of(eqn) is not None:
            with _compat.at_equation(eqn):
                results = scanned(eqn, inputs)
        elif scanned is not None and inner is not None and _has_scan(inner):
            called, consts = _compat.open_jaxpr(inner)
            given = dict(zip(called.constvars, consts, strict=True))
            given.update(zip(called.invars, inputs, strict=True))
            with _compat.at_equation(eqn):
                results = evaluate(called, given, scanned)
        else:
            results = _compat.bind_equation(eqn, inputs)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _has_scan(called: Any) -> bool:
    """Whether a called jaxpr holds a loop, directly or within further calls."""
    jaxpr, _ = _compat.open_jaxpr(called)
    inner = [_compat.called_jaxpr(eqn) for eqn in jaxpr.eqns]
    return any(_compat.scan_of(eqn) is not None for eqn in jaxpr.eqns) or any(
        _has_scan(j) for j in inner if j is not None
    )


def program_of(closed: Any) -> Program:
    """Describe a traced function that is not differentiated: forward pass alone."""
    jaxpr, consts = _compat.open_jaxpr(closed)
    flat = _Flattener()
    constants = {flat.new(v): c for v, c in zip(jaxpr.constvars, consts, strict=True)}
    operands = [flat.new(v) for v in jaxpr.invars]
    variables = (*jaxpr.constvars, *jaxpr.invars)
    env = dict(zip(variables, (*constants, *operands), strict=True))
    outputs = flat.inline(jaxpr, env, "")
    return Program(
        operations=_without_dead(flat.operations, outputs),
        avals=tuple(flat.avals),
        constants={**constants, **flat.constants},
        operands=tuple(operands),
        outputs=tuple(outputs),
        cotangents=(None,) * len(outputs),
        gradients=(None,) * len(operands),
        backward=frozenset(),
    )


def differentiate(
    function: Callable[..., Sequence[Any]],
    operands: Sequence[Any],
    wanted: Sequence[int],
) -> tuple[Sequence[Any], Callable[[Sequence[Any]], Sequence[Any]]]:
    """`jax.vjp` with respect to the operands at the places `wanted`."""

    def of_wanted(*primals: Any) -> Sequence[Any]:
        merged = list(operands)
        for i, primal in zip(wanted, primals, strict=True):
            merged[i] = primal
        return list(function(*merged))

    return jax.vjp(of_wanted, *(operands[i] for i in wanted))


def with_zeros(cotangents: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """Cotangents with zeros of the right type where there is none."""
    return [
        c
        if c is not None
        else jnp.zeros(x.shape, x.dtype)
        if has_tangent(x)
        else np.zeros(x.shape, jax.dtypes.float0)
        for c, x in zip(cotangents, avals, strict=True)
    ]


def trace(
    function: Callable[..., Sequence[Any]],
    operands: Sequence[Any],
    perturbed: Sequence[bool],
    out_avals: Sequence[Any],
    loops: Sequence[Loop] = (),
) -> Program:
    """Trace `function` and its vector-Jacobian product into one `Program`.

    Args:
        function: Takes the operands as positional arrays, returns a flat sequence.
        operands: Arrays or tracers to call it with.
        perturbed: For each operand whether its gradient is wanted.
        out_avals: Abstract values of the results.
        loops: A list that `function` adds loops to while it is traced.
    """
    wanted = [i for i, p in enumerate(perturbed) if p and has_tangent(operands[i])]

    def joint(operands: Sequence[Any], cotangents: Sequence[Any]) -> Any:
        outputs, pullback = differentiate(function, operands, wanted)
        given = iter(cotangents)
        dense = [next(given) if has_tangent(x) else None for x in out_avals]
        return outputs, pullback(with_zeros(dense, out_avals))

    traced = jax.make_jaxpr(joint)(
        list(operands), [x for x in out_avals if has_tangent(x)]
    )
    program = _number(traced, len(operands), out_avals, wanted)
    return dataclasses.replace(program, loops=tuple(loops))


def _number(
    traced: Any, operand_count: int, out_avals: Sequence[Any], wanted: Sequence[int]
) -> Program:
    """Turn the jaxpr of `joint` into a `Program`."""
    jaxpr, consts = _compat.open_jaxpr(traced)
    flat = _Flattener()
    constants = {flat.new(v): c for v, c in zip(jaxpr.constvars, consts, strict=True)}
    inputs = [flat.new(v) for v in jaxpr.invars]
    variables = (*jaxpr.constvars, *jaxpr.invars)
    env = dict(zip(variables, (*constants, *inputs), strict=True))
    results = flat.inline(jaxpr, env, "")
    operands, given = inputs[:operand_count], iter(inputs[operand_count:])
    outputs, gradients = results[: len(out_avals)], results[len(out_avals) :]
    gradient_of = dict(zip(wanted, gradients, strict=True))
    operations = _without_dead(flat.operations, results)
    constants.update(flat.constants)
    return Program(
        operations=operations,
        avals=tuple(flat.avals),
        constants=constants,
        operands=tuple(operands),
        outputs=tuple(outputs),
        cotangents=tuple(next(given) if has_tangent(x) else None for x in out_avals),
        gradients=tuple(gradient_of.get(i) for i in range(operand_count)),
        backward=_dependent(operations, inputs[operand_count:]),
    )


class _Flattener:
    """Numbers variables and collects operations while calls are inlined."""

    def __init__(self) -> None:
        self.avals: list[Any] = []
        self.operations: list[Operation] = []
        self.constants: dict[int, Any] = {}

    def new(self, var: Var) -> int:
        self.avals.append(var.aval)
        return len(self.avals) - 1

    def inline(
        self, jaxpr: Any, env: dict[Var, Any], scope: str
    ) -> list[int | Literal]:
        """Append the equations of `jaxpr`; return where its results are found."""

        def read(atom: Any) -> int | Literal:
            return atom if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            here = "/".join(p for p in (scope, str(eqn.source_info.name_stack)) if p)
            called = _compat.called_jaxpr(eqn)
            if _compat.is_idle_reshard(eqn):
                outputs = tuple(inputs)
            elif called is None:
                outputs = tuple(self.new(v) for v in eqn.outvars)
                operation = Operation(eqn, tuple(inputs), outputs, _plain_scope(here))
                self.operations.append(operation)
            else:
                inner, consts = _compat.open_jaxpr(called)
                known = [self.new(v) for v in inner.constvars]
                self.constants.update(zip(known, consts, strict=True))
                variables = (*inner.constvars, *inner.invars)
                inner_env = dict(zip(variables, (*known, *inputs), strict=True))
                outputs = self.inline(inner, inner_env, here)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]


def _plain_scope(stack: str) -> str:
    """Strip `jvp(...)`, `transpose(...)` and the like from a name stack."""
    return re.sub(r"\b(?:jvp|transpose|vmap|remat\w*|checkpoint)\(|\)", "", stack)


def _without_dead(
    operations: Sequence[Operation], results: Sequence[int | Literal]
) -> tuple[Operation, ...]:
    """Drop what neither a result nor a side effect needs."""
    live = {v for v in results if isinstance(v, int)}
    kept: list[Operation] = []
    for operation in reversed(operations):
        if operation.eqn.effects or not live.isdisjoint(operation.outputs):
            live.update(operation.reads)
            kept.append(operation)
    return tuple(reversed(kept))


def _dependent(operations: Sequence[Operation], roots: Sequence[int]) -> frozenset[int]:
    """Indices of the operations that depend on one of the values `roots`."""
    reached = set(roots)
    found = set()
    for index, operation in enumerate(operations):
        if not reached.isdisjoint(operation.reads):
            reached.update(operation.outputs)
            found.add(index)
    return frozenset(found)
