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
class Arguments:
    """The arguments of one call, split into arrays and everything else.

    Attributes:
        arrays: The arrays, or their types.
        static: All other leaves, and `None` in place of the arrays.
        places: Where the arrays are among the leaves.
        structure: Structure of the leaves: of a tuple and a dictionary.
    """

    arrays: tuple[Any, ...]
    static: tuple[Any, ...]
    places: tuple[int, ...]
    structure: Any

    @classmethod
    def of(
        cls,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_array: Callable[[Any], bool],
    ) -> "Arguments":
        """Split arguments.

        Args:
            args: Positional arguments, pytrees of arrays or of their types.
            kwargs: Keyword arguments.
            is_array: Tells whether a leaf is an array.
        """
        leaves, structure = jax.tree.flatten((args, kwargs))
        places = tuple(i for i, leaf in enumerate(leaves) if is_array(leaf))
        arrays = tuple(leaves[i] for i in places)
        for i in places:
            leaves[i] = None
        return cls(arrays, tuple(leaves), places, structure)

    def with_arrays(self, arrays: Sequence[Any]) -> "Arguments":
        """Return the arguments with other arrays."""
        return dataclasses.replace(self, arrays=tuple(arrays))

    def call(self, fn: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        """Call a function with other arrays in place of the arrays."""
        leaves = list(self.static)
        for i, array in zip(self.places, arrays, strict=True):
            leaves[i] = array
        args, kwargs = jax.tree.unflatten(self.structure, leaves)
        return fn(*args, **kwargs)


@dataclasses.dataclass(frozen=True, eq=False)
class FlatFunction:
    """A traced function of flat operands. It holds no array of any call.

    Attributes:
        jaxpr: Its equations. Arrays that the function captures are operands, too. They
            come first.
        closed_over_count: How many of the operands are captured.
        out_tree: Structure of the results.
    """

    jaxpr: Any
    closed_over_count: int
    out_tree: Any

    @property
    def types(self) -> tuple[Any, ...]:
        """Types of the operands: what the function captures, then its arguments."""
        return tuple(v.aval for v in (*self.jaxpr.constvars, *self.jaxpr.invars))

    @property
    def out_avals(self) -> tuple[Any, ...]:
        """Types of the flat results."""
        return tuple(atom.aval for atom in self.jaxpr.outvars)

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
    fn: Callable[..., Any], arguments: Arguments
) -> tuple[FlatFunction, tuple[Any, ...]]:
    """Trace a function on the arrays among its arguments. Everything else is static.

    Returns:
        The flat function, and the arrays that `fn` captures.

    Raises:
        NotImplementedError: If `fn` reads or writes a mutable array.
        jax.errors.ConcretizationTypeError: If it branches on the value of an array.
    """
    try:
        closed, out_shape = jax.make_jaxpr(
            lambda *arrays: arguments.call(fn, arrays), return_shape=True
        )(*arguments.arrays)
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
    jaxpr, closed_over = _compat.without_constants(closed)
    out_tree = jax.tree.structure(out_shape)
    return FlatFunction(jaxpr, len(closed_over), out_tree), tuple(closed_over)
