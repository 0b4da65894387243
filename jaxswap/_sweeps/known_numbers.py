"""Numbers that follow from no argument, such as places that are counted.

They are computed by NumPy, because the device that a program is for may not be here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxswap._sweeps.rule import shape_of
from jaxswap._trace.program import Program

MOST = 1 << 16
"""Larger arrays are not computed."""
Compute = Callable[..., Any]


class KnownNumbers:
    """Tells the numbers of a program that follow from no argument.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self._makers = {v: op for op in program.operations for v in op.outputs}
        self._found: dict[int, np.ndarray | None] = {}

    def of(self, value: int) -> np.ndarray | None:
        """Return the numbers of a value. `None` if they are not known."""
        if value not in self._found:
            self._found[value] = self._computed(value)
        return self._found[value]

    def _computed(self, value: int) -> np.ndarray | None:
        operation = self._makers.get(value)
        if operation is None:
            return None
        eqn = operation.eqn
        compute = COMPUTED.get(eqn.primitive.name)
        size = max(math.prod(shape_of(v)) for v in (*eqn.invars, *eqn.outvars))
        if compute is None or size > MOST:
            return None
        inputs = []
        for atom in operation.inputs:
            known = self.of(atom) if isinstance(atom, int) else _literal(atom)
            if known is None:
                return None
            inputs.append(known)
        aval: Any = eqn.outvars[0].aval
        return np.asarray(compute(eqn, *inputs)).astype(aval.dtype)


def _literal(atom: Any) -> np.ndarray | None:
    return np.asarray(atom.val) if isinstance(atom, Literal) else None


def _counted(eqn: JaxprEqn) -> np.ndarray:
    shape, dimension = eqn.params["shape"], eqn.params["dimension"]
    places = np.arange(shape[dimension], dtype=eqn.params["dtype"])
    return _broadcast(places, shape, [dimension])


def _broadcast(x: np.ndarray, shape: Sequence[int], to: Sequence[int]) -> np.ndarray:
    sizes = [1] * len(shape)
    for d, place in enumerate(to):
        sizes[place] = x.shape[d]
    return np.broadcast_to(x.reshape(sizes), shape)


def _each(compute: Compute) -> Compute:
    return lambda eqn, *inputs: compute(*inputs)


def _divided(eqn: JaxprEqn, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Divide; whole numbers are cut, as in JAX."""
    del eqn
    is_whole = np.issubdtype(x.dtype, np.integer)
    return np.trunc(x / y) if is_whole else np.divide(x, y)


COMPUTED: dict[str, Compute] = {
    "iota": _counted,
    "broadcast_in_dim": lambda eqn, x: _broadcast(
        x, eqn.params["shape"], eqn.params["broadcast_dimensions"]
    ),
    "reshape": lambda eqn, x: x.reshape(eqn.params["new_sizes"]),
    "convert_element_type": lambda eqn, x: x,
    "add": _each(np.add),
    "sub": _each(np.subtract),
    "mul": _each(np.multiply),
    "div": _divided,
    "rem": _each(np.fmod),
    "neg": _each(np.negative),
    "sign": _each(np.sign),
    "floor": _each(np.floor),
    "max": _each(np.maximum),
    "min": _each(np.minimum),
    "clamp": lambda eqn, low, x, high: np.clip(x, low, high),
    "lt": _each(np.less),
    "gt": _each(np.greater),
    "ne": _each(np.not_equal),
    "and": _each(np.logical_and),
    "select_n": lambda eqn, which, *cases: np.where(which, cases[-1], cases[0]),
}
"""How primitives with which places are counted are computed."""
