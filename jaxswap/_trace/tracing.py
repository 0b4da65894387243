"""Function and arguments -> `Program`: forward and backward pass as one list.

`jax.vjp` is traced together with the call of its result. So the list holds the forward
pass and the backward pass, in an order that can be executed. Calls of `jit` are
inlined. What no result needs is removed. An operation belongs to the backward pass if
it depends on a cotangent, or if only the backward pass needs it and it makes more bytes
than it reads (see `late`). All other operations can run in the forward pass, or later,
when the backward pass needs them.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal, Var

from jaxswap import _compat
from jaxswap._graph.graph import Loop
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.late import growing
from jaxswap._trace.program import OfSizes, Operation, Program
from jaxswap._trace.references import refuse_references_among
from jaxswap._trace.tangents import differentiate, has_tangent, with_zeros


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
        perturbed: For each operand, whether its gradient is wanted.
        out_avals: Abstract values of the results.
        loops: A list to which `function` adds loops while it is traced.

    Raises:
        NotImplementedError: If a mutable array is read or written.
    """
    wanted = [i for i, p in enumerate(perturbed) if p and has_tangent(operands[i])]

    def joint(operands: Sequence[Any], cotangents: Sequence[Any]) -> Any:
        outputs, pullback = differentiate(function, operands, wanted)
        given = iter(cotangents)
        dense = [next(given) if has_tangent(x) else None for x in out_avals]
        return outputs, pullback(with_zeros(dense, out_avals))

    closed = jax.make_jaxpr(joint)(
        list(operands), [x for x in out_avals if has_tangent(x)]
    )
    program = _number(closed, len(operands), out_avals, wanted)
    refuse_references_among(program.avals)
    return dataclasses.replace(program, loops=tuple(loops))


def program_of(closed: Any) -> Program:
    """Describe a traced function without its gradient: as a forward pass alone."""
    listing = Listing()
    operands, outputs = listing.take(closed)
    return Program(
        operations=without_dead(listing.operations, outputs),
        avals=tuple(listing.avals),
        constants=listing.constants,
        operands=tuple(operands),
        outputs=tuple(outputs),
        cotangents=(None,) * len(outputs),
        gradients=(None,) * len(operands),
        backward=frozenset(),
    )


def _number(
    closed: Any, operand_count: int, out_avals: Sequence[Any], wanted: Sequence[int]
) -> Program:
    """Turn the jaxpr of `joint` into a `Program`."""
    listing = DerivedListing()
    inputs, results = listing.take(closed)
    operands, given = inputs[:operand_count], iter(inputs[operand_count:])
    outputs, gradients = results[: len(out_avals)], results[len(out_avals) :]
    gradient_of = dict(zip(wanted, gradients, strict=True))
    operations = without_dead(listing.operations, results)
    cotangents = inputs[operand_count:]
    return Program(
        operations=operations,
        avals=tuple(listing.avals),
        constants=listing.constants,
        operands=tuple(operands),
        outputs=tuple(outputs),
        cotangents=tuple(next(given) if has_tangent(x) else None for x in out_avals),
        gradients=tuple(gradient_of.get(i) for i in range(operand_count)),
        backward=backward_of(operations, listing.avals, cotangents, results),
    )


class Listing(Interpreter):
    """Numbers values and collects operations. Looks into calls of `jit`."""

    def __init__(self) -> None:
        super().__init__()
        self.avals: list[Any] = []
        self.operations: list[Operation] = []
        self.constants: dict[int, Any] = {}
        self.scope = ""

    def take(self, closed: Any) -> tuple[list[int], list[int | Literal]]:
        """List a closed jaxpr. Return the numbers of its arguments and results."""
        jaxpr, constants = _compat.open_jaxpr(closed)
        pairs = zip(jaxpr.constvars, constants, strict=True)
        known = [self.constant(v, c) for v, c in pairs]
        inputs = [self.new(v) for v in jaxpr.invars]
        return inputs, self.run(jaxpr, [*known, *inputs])

    def new(self, variable: Var) -> int:
        """Give one more value a number."""
        self.avals.append(variable.aval)
        return len(self.avals) - 1

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Look into calls of `jit`."""
        called = _compat.called_jaxpr(eqn)
        return None if called is None else (called, inputs)

    def execute(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Append an operation."""
        if _compat.is_idle(eqn):
            return inputs
        if _is_of_sizes(eqn, inputs):
            places = range(len(eqn.outvars))
            return [OfSizes(eqn, tuple(inputs), place) for place in places]
        outputs = tuple(self.new(v) for v in eqn.outvars)
        scope = _plain_scope(self._scope_of(eqn))
        self.operations.append(Operation(eqn, tuple(inputs), outputs, scope))
        return outputs

    @contextlib.contextmanager
    def within(self, eqn: JaxprEqn) -> Iterator[None]:
        """Put what a call holds into the scope of the call."""
        before, self.scope = self.scope, self._scope_of(eqn)
        yield
        self.scope = before

    def literal(self, atom: Literal) -> Literal:
        """A literal stands for itself."""
        return atom

    def constant(self, variable: Var, value: Any) -> int:
        """Number a constant."""
        index = self.new(variable)
        self.constants[index] = value
        return index

    def _scope_of(self, eqn: JaxprEqn) -> str:
        stack = str(eqn.source_info.name_stack)
        return "/".join(part for part in (self.scope, stack) if part)


class DerivedListing(Listing):
    """Looks into functions with derivatives of their own, too: these were taken."""

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Look into calls of `jit` and of `jax.custom_jvp`."""
        called = _compat.custom_jvp_jaxpr(eqn)
        return super().call(eqn, inputs) if called is None else (called, inputs)


def _is_of_sizes(eqn: JaxprEqn, inputs: Sequence[Any]) -> bool:
    """Whether an equation only computes scalars from symbolic dimensions."""
    is_known = not any(isinstance(atom, int) for atom in inputs)
    is_scalar = all(getattr(v.aval, "shape", None) == () for v in eqn.outvars)
    is_from_sizes = any(isinstance(atom, OfSizes) for atom in inputs)
    is_size = eqn.primitive.name == "dim_as_value"
    return is_size or (is_known and is_from_sizes and is_scalar and not eqn.effects)


def _plain_scope(stack: str) -> str:
    """Remove `jvp(...)`, `transpose(...)` and similar parts from a name stack."""
    return re.sub(r"\b(?:jvp|transpose|vmap|remat\w*|checkpoint)\(|\)", "", stack)


def without_dead(
    operations: Sequence[Operation], results: Sequence[int | Literal]
) -> tuple[Operation, ...]:
    """Remove what neither a result nor a side effect needs."""
    live = {v for v in results if isinstance(v, int)}
    kept: list[Operation] = []
    for operation in reversed(operations):
        if operation.eqn.effects or not live.isdisjoint(operation.outputs):
            live.update(operation.reads)
            kept.append(operation)
    return tuple(reversed(kept))


def backward_of(
    operations: Sequence[Operation],
    avals: Sequence[Any],
    cotangents: Sequence[int],
    results: Sequence[Any],
) -> frozenset[int]:
    """Return the indices of the operations that belong to the backward pass.

    Args:
        operations: All operations.
        avals: Type of each value.
        cotangents: Values that are known when the forward pass has ended.
        results: What both passes return.
    """
    dependent = _dependent_on(operations, cotangents)
    made = {v for v in results if isinstance(v, int)}
    return dependent | growing(operations, avals, dependent, made)


def _dependent_on(
    operations: Sequence[Operation], roots: Sequence[int]
) -> frozenset[int]:
    """Return the indices of the operations that depend on one of the `roots`."""
    reached = set(roots)
    found = set()
    for index, operation in enumerate(operations):
        if not reached.isdisjoint(operation.reads):
            reached.update(operation.outputs)
            found.add(index)
    return frozenset(found)
