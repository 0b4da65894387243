"""Function and arguments -> a flat function of its arrays, traced once.

Arrays that the function captures become operands like its arguments. So a transform of
the flat function reaches every array.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._trace.jaxpr import Interpreter

RunLoop = Callable[[JaxprEqn, Sequence[Any]], Sequence[Any]]
"""Executes (or traces) a `lax.scan` equation with its operands."""


@dataclasses.dataclass(frozen=True)
class FlatFunction:
    """A traced function of flat operands.

    Attributes:
        jaxpr: Its equations.
        operands: The arrays that the function captures, then those of its arguments.
        closed_over_count: How many of the operands are captured.
        out_avals: Types of the flat results.
        out_tree: Structure of the results.
    """

    jaxpr: Any
    operands: tuple[Any, ...]
    closed_over_count: int
    out_avals: tuple[Any, ...]
    out_tree: Any

    def call(self, *operands: Any) -> Sequence[Any]:
        """Return the flat results."""
        return Interpreter().run(self.jaxpr, operands)

    def with_loops(self, run_loop: RunLoop) -> Callable[..., Sequence[Any]]:
        """Return `call` with another way to run loops, those in `jit` included."""

        def call(*operands: Any) -> Sequence[Any]:
            return WithLoops(run_loop).run(self.jaxpr, operands)

        return call


class WithLoops(Interpreter):
    """Lets a function run each `lax.scan`, also inside calls of `jit`."""

    def __init__(self, run_loop: RunLoop) -> None:
        self.run_loop = run_loop

    def execute(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Run a loop, or execute an equation as it is."""
        if _compat.scan_of(eqn) is None:
            return super().execute(eqn, inputs)
        with self.within(eqn):
            return self.run_loop(eqn, inputs)

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Look into calls of `jit` if they hold a loop."""
        called = _compat.called_jaxpr(eqn)
        return (called, inputs) if called is not None and _has_loop(called) else None


def _has_loop(called: Any) -> bool:
    """Whether a called jaxpr holds a loop, directly or in further calls."""
    jaxpr, _ = _compat.open_jaxpr(called)
    inner = [_compat.called_jaxpr(eqn) for eqn in jaxpr.eqns]
    return any(_compat.scan_of(eqn) is not None for eqn in jaxpr.eqns) or any(
        _has_loop(closed) for closed in inner if closed is not None
    )


def flatten_function(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    is_array: Callable[[Any], bool],
) -> FlatFunction:
    """Trace `fn` on the arrays among its arguments. All other leaves are static.

    Args:
        fn: The function.
        args: Its positional arguments, pytrees of arrays or of their types.
        kwargs: Its keyword arguments.
        is_array: Tells whether a leaf is an array.

    Raises:
        NotImplementedError: If `fn` reads or writes a mutable array.
        jax.errors.ConcretizationTypeError: If it branches on the value of an array.
    """
    leaves, structure = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if is_array(leaf)]

    def of_arrays(*arrays: Any) -> Any:
        merged = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            merged[i] = array
        new_args, new_kwargs = jax.tree.unflatten(structure, merged)
        return fn(*new_args, **new_kwargs)

    arrays = [leaves[i] for i in places]
    try:
        closed, out_shape = jax.make_jaxpr(of_arrays, return_shape=True)(*arrays)
    except jax.errors.ConcretizationTypeError as error:
        error.add_note(
            "jaxswap traces the function, as jax.jit does: it cannot branch on the "
            "value of an array. Use jnp.where or jax.lax.cond."
        )
        raise
    if _compat.uses_references(closed):
        raise NotImplementedError(
            "jaxswap cannot swap around mutable arrays (jax.new_ref): `fn` reads or "
            "writes one. Return the new value instead of writing it."
        )
    jaxpr, closed_over = _compat.open_jaxpr(closed)
    return FlatFunction(
        jaxpr=jaxpr,
        operands=(*closed_over, *arrays),
        closed_over_count=len(closed_over),
        out_avals=tuple(atom.aval for atom in jaxpr.outvars),
        out_tree=jax.tree.structure(out_shape),
    )
