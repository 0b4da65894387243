"""A traced program without the calls and barriers that hide planes from rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._trace.program import Operation, Program
from jaxswap._trace.tracing import DerivedListing, backward_of, without_dead

Atom = Any
"""The number of a value, or a literal."""


def without_calls(program: Program) -> Program:
    """Return a program in which functions with gradients of their own are written out.

    Such calls remain where nothing is differentiated.
    """
    listing = _Opened()
    listing.avals = list(program.avals)
    became: dict[int, Atom] = {}
    for operation in program.operations:
        inputs = [now(atom, became) for atom in operation.inputs]
        if listing.call(operation.eqn, inputs) is None:
            listing.operations.append(
                dataclasses.replace(operation, inputs=tuple(inputs))
            )
            continue
        listing.scope = operation.scope
        results = listing.results(operation.eqn, inputs)
        became.update(zip(operation.outputs, results, strict=True))
    constants = {**program.constants, **listing.constants}
    changed = dataclasses.replace(
        program, avals=tuple(listing.avals), constants=constants
    )
    return with_operations(changed, listing.operations, became)


def without_barriers(program: Program, values: Collection[int]) -> Program:
    """Return a program without the barriers through which some values go."""
    became: dict[int, Atom] = {}
    operations: list[Operation] = []
    for operation in program.operations:
        inputs = tuple(now(atom, became) for atom in operation.inputs)
        is_barrier = operation.eqn.primitive.name == "optimization_barrier"
        if is_barrier and not set(values).isdisjoint(operation.reads):
            became.update(zip(operation.outputs, inputs, strict=True))
        else:
            operations.append(dataclasses.replace(operation, inputs=inputs))
    return with_operations(program, operations, became)


def with_operations(
    program: Program,
    operations: Sequence[Operation],
    became: Mapping[int, Atom] | None = None,
) -> Program:
    """Return a program with other operations, those that no result needs left out.

    Args:
        program: The program.
        operations: What it executes instead.
        became: Results of the program that are now other values, or literals.
    """
    outputs = tuple(now(atom, became or {}) for atom in program.outputs)
    gradients = tuple(now(atom, became or {}) for atom in program.gradients)
    results = [atom for atom in (*outputs, *gradients) if atom is not None]
    left = without_dead(operations, results)
    cotangents = [v for v in program.cotangents if v is not None]
    return dataclasses.replace(
        program,
        operations=left,
        outputs=outputs,
        gradients=gradients,
        backward=backward_of(left, program.avals, cotangents, results),
    )


def now(atom: Atom, became: Mapping[int, Atom]) -> Atom:
    """Return what a value, or a literal, became; itself if it did not change."""
    return became.get(atom, atom) if isinstance(atom, int) else atom


class _Opened(DerivedListing):
    """Looks into functions with a `jax.custom_vjp`, too."""

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Look into calls of `jit`, `jax.custom_jvp` and `jax.custom_vjp`."""
        called = _compat.custom_vjp_jaxpr(eqn)
        return super().call(eqn, inputs) if called is None else (called, inputs)
