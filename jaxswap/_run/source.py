"""A function that can be traced several times, with its loops run in any way."""

import dataclasses
from collections.abc import Sequence

from jaxswap._graph.graph import Inside
from jaxswap._graph.placement import Placement
from jaxswap._run.loop import DecideLoop, Loops
from jaxswap._trace.describe import Traced
from jaxswap._trace.function import FlatFunction
from jaxswap._trace.opening import insides_of
from jaxswap._trace.partial_sums import placed
from jaxswap._trace.tracing import trace


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A function from which programs are traced.

    Attributes:
        flat: The function, with flat operands.
        perturbed: For each operand, whether its gradient is wanted.
        placement: How the operands are split over a mesh. `None` for one device.
    """

    flat: FlatFunction
    perturbed: Sequence[bool]
    placement: Placement | None = None

    @property
    def insides(self) -> tuple[Inside, ...]:
        """The ways in which the values inside of its calls may be treated."""
        return insides_of(self.flat.jaxpr)

    def traced(
        self, decide_loop: DecideLoop, inside: Inside = Inside.AS_WRITTEN
    ) -> Traced:
        """Trace function and gradient.

        Args:
            decide_loop: Says how loops run.
            inside: How values in `jax.checkpoint` and in branches are treated.
        """
        loops = Loops(decide_loop, inside)
        call, types = self.flat.opened(loops, inside), self.flat.out_avals
        program = trace(call, self.flat.types, self.perturbed, types, loops.found)
        program = dataclasses.replace(program, inside=inside)
        return Traced.of(placed(program, self.placement))
