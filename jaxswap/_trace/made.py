"""A function -> the bytes of all that it makes, before its gradient is traced.

What the backward pass finds stored are such values, or others of their sizes. So little
of them means that there is nothing to swap.
"""

import dataclasses
from typing import Any

from jaxswap import _compat
from jaxswap._trace.cost import called
from jaxswap._trace.partial_sums import COLLECTIVES
from jaxswap._trace.symbolic import names_of
from jaxswap._trace.traffic import array_bytes


@dataclasses.dataclass(frozen=True)
class Made:
    """The values that a function makes, those of all iterations of a loop as one.

    Attributes:
        total_bytes: All of them together.
        largest_bytes: The largest one.
    """

    total_bytes: int = 0
    largest_bytes: int = 0

    def and_also(self, other: "Made") -> "Made":
        """Return both together."""
        largest_bytes = max(self.largest_bytes, other.largest_bytes)
        return Made(self.total_bytes + other.total_bytes, largest_bytes)

    def times(self, count: int) -> "Made":
        """Return what a loop makes in so many iterations."""
        return Made(count * self.total_bytes, count * self.largest_bytes)


def made_by(jaxpr: Any) -> Made | None:
    """Return what the equations of a jaxpr make, and those that they call.

    `None` if that is not known: there are symbolic dimensions, devices exchange values,
    or a rule of a `jax.custom_vjp` may store something else.
    """
    found = Made()
    for eqn in jaxpr.eqns:
        made = _made_by_equation(eqn)
        if made is None:
            return None
        found = found.and_also(made)
    return found


def _made_by_equation(eqn: Any) -> Made | None:
    name = eqn.primitive.name
    avals = [v.aval for v in eqn.outvars]
    if name.startswith("custom_vjp") or name in COLLECTIVES or names_of(avals):
        return None
    nbytes = [array_bytes(v) for v in eqn.outvars]
    found = Made(sum(nbytes), max(nbytes, default=0))
    scan = _compat.scan_of(eqn)
    for jaxpr in called(eqn):
        inner = made_by(jaxpr)
        if inner is None:
            return None
        found = found.and_also(inner if scan is None else inner.times(scan.length))
    return found
