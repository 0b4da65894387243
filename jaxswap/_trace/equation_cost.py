"""An equation -> all that a graph says of its cost, found once for each kind."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

from jaxswap._gpu.work import Work
from jaxswap._trace import cost
from jaxswap._trace.kinds import kind_of
from jaxswap._trace.operations import operation_name
from jaxswap._trace.options import stores_channels_last


@dataclasses.dataclass(frozen=True)
class EquationCost:
    """What an equation costs on one device. See `Equation` for each of these."""

    flops: float
    tile_flops: float
    tile_count: int
    is_heavy: bool
    is_view: bool
    is_cheap: bool
    is_reduction: bool
    is_known: bool
    work: Work | None
    operation: str
    workspace_bytes: int
    inner_bytes: float

    @classmethod
    def of(cls, eqn: Any) -> "EquationCost":
        """Read the cost of a jaxpr equation from its types and parameters."""
        return cls(
            flops=cost.flops(eqn),
            tile_flops=cost.tile_flops(eqn),
            tile_count=cost.tile_count(eqn),
            is_heavy=cost.is_heavy(eqn),
            is_view=eqn.primitive.name in cost.VIEWS,
            is_cheap=cost.is_cheap(eqn),
            is_reduction=cost.is_reduction(eqn),
            is_known=cost.is_known(eqn),
            work=cost.work(eqn),
            operation=operation_name(eqn),
            workspace_bytes=_workspace_bytes(eqn),
            inner_bytes=cost.inner_bytes(eqn),
        )


def cost_by_kind() -> Callable[[Any], EquationCost]:
    """Return `EquationCost.of` with a memory of the kinds that it was asked for."""
    found: dict[Hashable, EquationCost] = {}

    def cost_of(eqn: Any) -> EquationCost:
        kind = kind_of(eqn)
        if kind is None:
            return EquationCost.of(eqn)
        if kind not in found:
            found[kind] = EquationCost.of(eqn)
        return found[kind]

    return cost_of


def _workspace_bytes(eqn: Any) -> int:
    """What an operation takes beside operands and results while it runs.

    cuDNN converts features, unless XLA stores them as cuDNN wants.
    """
    converted = cost.converted_bytes(eqn)
    if converted and stores_channels_last():
        converted = 0
    return max(converted, cost.padded_bytes(eqn), cost.routed_bytes(eqn))
