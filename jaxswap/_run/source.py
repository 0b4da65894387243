"""A function that can be traced several times, with its loops run in any way."""

import dataclasses
from collections.abc import Sequence

from jaxswap._graph.graph import DecideLoop, Inside
from jaxswap._graph.pieces import Pieces
from jaxswap._graph.placement import Placement
from jaxswap._run.loop import Loops
from jaxswap._slabs.slabs import Cut, Slabs
from jaxswap._sweeps.arguments import axes_of_arguments
from jaxswap._sweeps.slabbed import by_slabs
from jaxswap._trace.describe import Traced
from jaxswap._trace.function import FlatFunction
from jaxswap._trace.opening import insides_of
from jaxswap._trace.partial_sums import placed
from jaxswap._trace.pieces import in_pieces
from jaxswap._trace.program import Program
from jaxswap._trace.symbolic import Sizes, names_of, sizes_of
from jaxswap._trace.tracing import trace


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A function from which programs are traced.

    Attributes:
        flat: The function, with flat operands.
        perturbed: For each operand, whether its gradient is wanted.
        placement: How the operands are split over a mesh. `None` for one device.
        sizes: What symbolic dimensions count as.
        slabs: How the finest values are cut into slabs. `None` if they are not, and
            `"auto"` if a plan may cut them. Until then they are whole.
        compress: The type to which values are rounded when they leave, or `""`.
        pieces: The values that can be stored in pieces.
    """

    flat: FlatFunction
    perturbed: Sequence[bool]
    placement: Placement | None = None
    sizes: Sizes = dataclasses.field(default_factory=dict)
    slabs: Cut = None
    compress: str = ""
    pieces: tuple[Pieces, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbolic dimensions of the operands."""
        return names_of(self.flat.types)

    def refuse_symbols(self) -> None:
        """Refuse to plan for symbolic dimensions.

        Raises:
            ValueError: If there are any.
        """
        if names := ", ".join(self.symbols):
            raise ValueError(
                f"the arguments have symbolic dimensions ({names}): nobody knows their "
                "bytes. Plan for a typical size, and export with that plan: `plan = "
                "jaxswap.plan(fn, *typical, budget=...)`, then `jaxswap.offload(fn, "
                "plan=plan)`."
            )

    def sized_as(self, shapes: Sequence[Sequence[int]]) -> "Source":
        """Return the source with symbolic dimensions that count as in these shapes."""
        return dataclasses.replace(self, sizes=sizes_of(self.flat.types, shapes))

    @property
    def insides(self) -> tuple[Inside, ...]:
        """The ways in which the values inside of its calls may be treated."""
        return insides_of(self.flat.jaxpr)

    @property
    def whole(self) -> "Source":
        """The same, without slabs."""
        return dataclasses.replace(self, slabs=None)

    def cut(self, slabs: Cut, pieces: tuple[Pieces, ...] = ()) -> "Source":
        """Return the same, cut into slabs, and with values that may be in pieces."""
        return dataclasses.replace(self, slabs=slabs, pieces=pieces)

    def named(self, program: Program) -> dict[int, int]:
        """Return the dimension to cut of each value of which `slabs` names it.

        Raises:
            ValueError: If they are not those of the arguments.
        """
        axis = self.slabs.axis if isinstance(self.slabs, Slabs) else None
        if not isinstance(axis, tuple):
            return {}
        return axes_of_arguments(program, self.flat.owners, axis)

    def traced(
        self, decide_loop: DecideLoop, inside: Inside = Inside.AS_WRITTEN
    ) -> Traced:
        """Trace function and gradient.

        Args:
            decide_loop: Says how loops run.
            inside: How values in `jax.checkpoint` and in branches are treated.

        Raises:
            NotImplementedError: If values are cut into slabs, and split over devices.
            ValueError: If nothing tells which axis to cut, or what names it is wrong.
        """
        program = self.program(decide_loop, inside)
        if isinstance(self.slabs, Slabs):
            program = by_slabs(program, self.slabs, self.named(program)).program
        return self.described(in_pieces(program, self.pieces))

    def program(self, decide_loop: DecideLoop, inside: Inside) -> Program:
        """Trace function and gradient, without slabs; arguments as for `traced`."""
        loops = Loops(decide_loop, inside, self.sizes, self.compress)
        call, types = self.flat.opened(loops, inside), self.flat.out_avals
        program = trace(call, self.flat.types, self.perturbed, types, loops.found)
        program = dataclasses.replace(program, inside=inside, compress=self.compress)
        return placed(program, self.placement)

    def described(self, program: Program) -> Traced:
        """Describe a program of this function, cut or not."""
        return Traced.of(program, self.sizes)
