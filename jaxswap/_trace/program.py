"""A traced function with its gradient, as one list of operations."""

import dataclasses
from typing import Any

from jax.extend.core import JaxprEqn, Literal

from jaxswap import _compat
from jaxswap._graph.graph import Inside, Loop
from jaxswap._graph.pieces import Pieces
from jaxswap._graph.placement import Placement, Spec
from jaxswap._slabs.facts import SlabFacts
from jaxswap._slabs.slabs import Slabs


@dataclasses.dataclass(frozen=True)
class Operation:
    """One equation. Its variables are numbers that are unique in the whole program.

    Attributes:
        eqn: The equation.
        inputs: Its operands.
        outputs: Its results.
        scope: Where in the network it is.
        origins: For each result, the operation that makes it in the user's program, if
            this one stands for several. Values are named by it.
        is_cut: Whether it cuts a piece off a value. See `pieces`.
        is_join: Whether it joins the pieces of a value again.
    """

    eqn: JaxprEqn
    inputs: tuple[int | Literal, ...]
    outputs: tuple[int, ...]
    scope: str
    origins: tuple["Operation", ...] = ()
    is_cut: bool = False
    is_join: bool = False

    @property
    def reads(self) -> tuple[int, ...]:
        """Indices of the values among the inputs, without literals."""
        return tuple(v for v in self.inputs if isinstance(v, int))


@dataclasses.dataclass(frozen=True, eq=False)
class OfSizes:
    """A number that follows from symbolic dimensions. Stands where a literal stands.

    With dimensions that are numbers, JAX writes it as a literal. So both programs have
    the same operations and values.

    Attributes:
        eqn: The equation that makes it.
        inputs: Literals, and other numbers of this kind.
        place: Which of the equation's results it is.
    """

    eqn: JaxprEqn
    inputs: tuple[Any, ...]
    place: int

    @property
    def aval(self) -> Any:
        """Its type."""
        return self.eqn.outvars[self.place].aval

    @property
    def val(self) -> Any:
        """Its value, which is computed wherever it is read."""
        inputs = [atom.val for atom in self.inputs]
        return _compat.bind_equation(self.eqn, inputs)[self.place]


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced function with its gradient.

    Attributes:
        operations: What is executed, in order.
        avals: Abstract value (shape, dtype) of each value, by index.
        constants: Values that are known when the program is traced.
        operands: Values that the caller passes to the forward pass.
        outputs: Results of the forward pass, in the order of the function's results.
        cotangents: One for each output that has a tangent, `None` for the others.
        gradients: One for each operand that is differentiated, `None` for the others.
        backward: Indices of the `operations` that run in the backward pass.
        loops: Bodies of loops that swap inside.
        inside: How values in a user's `jax.checkpoint` and in branches are treated.
        compress: The type to which values are rounded when they leave, or `""`.
        placement: The mesh over which the values are split. `None` for one device.
        specs: How each value is split. Empty for one device.
        deferred: Indices of the `operations` that are deferred: sums over a mesh that
            only results depend on, and what is made of them.
        slabs: How its finest values are cut into slabs. `None` if they are not.
        slab_facts: What the sweeps over these slabs are.
        pieces: The values that can be stored in pieces.
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
    inside: Inside = Inside.AS_WRITTEN
    compress: str = ""
    placement: Placement | None = None
    specs: tuple[Spec, ...] = ()
    deferred: frozenset[int] = frozenset()
    slabs: Slabs | None = None
    slab_facts: SlabFacts | None = None
    pieces: tuple[Pieces, ...] = ()

    @property
    def eqns(self) -> tuple[JaxprEqn, ...]:
        """What JAX executes, in order."""
        return tuple(operation.eqn for operation in self.operations)
