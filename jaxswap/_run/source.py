"""A function that can be traced several times, with its loops run in any way."""

import dataclasses
from collections.abc import Sequence

from jaxswap._graph.placement import Placement
from jaxswap._run.loop import DecideLoop, Loops
from jaxswap._trace.describe import Traced
from jaxswap._trace.function import FlatFunction
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

    def traced(self, decide_loop: DecideLoop) -> Traced:
        """Trace function and gradient, with loops that run as `decide_loop` says."""
        loops = Loops(decide_loop)
        call, types = self.flat.with_loops(loops), self.flat.out_avals
        program = trace(call, self.flat.types, self.perturbed, types, loops.found)
        return Traced.of(placed(program, self.placement))
