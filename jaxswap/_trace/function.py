"""Function and arguments -> a flat function of its arrays, traced once.

Arrays that the function captures become operands like its arguments. So a transform of
the flat function reaches every array.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxswap import _compat
from jaxswap._graph.graph import Inside
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.kinds import Kinds
from jaxswap._trace.opening import Opened, RunLoop
from jaxswap._trace.references import refuse_references_in


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

    @property
    def owners(self) -> tuple[int | None, ...]:
        """For each array, its positional argument; `None` for those with a keyword."""
        positional, _ = self.structure.children()
        owners = [
            at
            for at, argument in enumerate(positional.children())
            for _ in range(argument.num_leaves)
        ]
        return tuple(owners[i] if i < len(owners) else None for i in self.places)

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
        owners: For each operand, the positional argument that it belongs to; `None` for
            all others.
        kinds: Executes its equations.
    """

    jaxpr: Any
    closed_over_count: int
    out_tree: Any
    owners: tuple[int | None, ...]
    kinds: Kinds = dataclasses.field(default_factory=Kinds)

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
        return Interpreter(self.kinds.bind).run(self.jaxpr, operands)

    def opened(self, run_loop: RunLoop, inside: Inside) -> Callable[..., Sequence[Any]]:
        """Return `call` with other ways to run loops, checkpoints and branches."""

        def call(*operands: Any) -> Sequence[Any]:
            opened = Opened(run_loop, inside, self.kinds.bind)
            return opened.run(self.jaxpr, operands)

        return call


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
    refuse_references_in(closed)
    jaxpr, closed_over = _compat.without_constants(closed)
    out_tree = jax.tree.structure(out_shape)
    owners = (*[None] * len(closed_over), *arguments.owners)
    flat = FlatFunction(jaxpr, len(closed_over), out_tree, owners)
    return flat, tuple(closed_over)
