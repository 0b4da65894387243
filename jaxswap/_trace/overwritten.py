"""An equation -> the operands over which XLA may write its results.

What a loop carries lies at one place in all iterations. A scatter changes its operand
where it lies. Then operand and result are one buffer, unless something reads the
operand later.
"""

from typing import Any

from jaxswap import _compat
from jaxswap._trace.traffic import SCATTERS

_UPDATES = SCATTERS | {"dynamic_update_slice"}


def overwritten(eqn: Any) -> list[int]:
    """Return the positions of these operands."""
    scan = _compat.scan_of(eqn)
    if scan is not None:
        return [*range(scan.const_count, scan.const_count + scan.carry_count)]
    if eqn.primitive.name == "while":
        consts = eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
        return [*range(consts, len(eqn.invars))]
    return [0] if eqn.primitive.name in _UPDATES else []
