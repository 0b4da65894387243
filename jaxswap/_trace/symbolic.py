"""Symbolic dimensions of `jax.export` -> numbers, so that a program can be described.

A program of symbolic dimensions runs as it is. But whoever decides about its values
needs bytes. So the graph of such a program is that of a twin, in which each symbolic
dimension is a number.
"""

import dataclasses
import operator
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax import export
from jax.extend import core

from jaxswap._trace.program import Program

STAND_IN = 1024
"""The size of a symbolic dimension whose size nobody knows."""

Sizes = Mapping[str, int]
"""The size of a symbolic dimension, by name. All others have the size `STAND_IN`."""

NO_SIZES: Sizes = types.MappingProxyType({})


def symbols_of(dimension: Any) -> tuple[str, ...]:
    """Return the names in a symbolic dimension of `jax.export`. None in a number.

    JAX shows them only in the text of the dimension.
    """
    if not export.is_symbolic_dim(dimension):
        return ()
    names = re.findall(r"[A-Za-z_]\w*", str(dimension))
    return tuple(dict.fromkeys(name for name in names if name not in _DIMENSION_CODE))


def size_of(dimension: Any, sizes: Mapping[str, int]) -> int:
    """Return the size of a dimension if its names have these sizes.

    JAX's text of a dimension is that which `jax.export.symbolic_shape` reads.
    """
    if not export.is_symbolic_dim(dimension):
        return int(dimension)
    text = str(dimension).replace("^", "**")
    return int(eval(text, {"__builtins__": {}}, {**_DIMENSION_CODE, **sizes}))


_DIMENSION_CODE = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
}


def names_of(avals: Iterable[Any]) -> tuple[str, ...]:
    """Return the names of the symbolic dimensions in types, each once."""
    dimensions = [n for x in avals for n in getattr(x, "shape", ())]
    names = (name for n in dimensions for name in symbols_of(n))
    return tuple(dict.fromkeys(names))


def sizes_of(avals: Sequence[Any], shapes: Sequence[Sequence[int]]) -> Sizes:
    """Return the sizes with which types have these shapes, as far as that is clear."""
    found: dict[str, int] = {}
    for x, shape in zip(avals, shapes, strict=False):
        for dimension, size in zip(getattr(x, "shape", ()), shape, strict=False):
            if symbols_of(dimension) == (str(dimension),):
                found.setdefault(str(dimension), size)
    return found


def sized(program: Program, sizes: Sizes) -> Program:
    """Return the twin of a program in which each dimension is a number."""
    if not names_of(program.avals):
        return program
    twin = _Twin(sizes)
    return dataclasses.replace(
        program,
        avals=tuple(map(twin.type_of, program.avals)),
        operations=tuple(
            dataclasses.replace(op, eqn=twin.equation(op.eqn))
            for op in program.operations
        ),
    )


class _Twin:
    """Replaces symbolic dimensions by numbers, also in what an equation holds."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.variables: dict[core.Var, core.Var] = {}

    def number(self, dimension: Any) -> int:
        """Return the size of a dimension."""
        names = symbols_of(dimension)
        known = {name: self.sizes.get(name, STAND_IN) for name in names}
        return size_of(dimension, known)

    def type_of(self, aval: Any) -> Any:
        """Return a type of known size."""
        if not names_of([aval]):
            return aval
        return aval.update(shape=tuple(map(self.number, aval.shape)))

    def equation(self, eqn: core.JaxprEqn) -> core.JaxprEqn:
        """Return an equation of known sizes."""
        return eqn.replace(
            invars=[self._atom(atom) for atom in eqn.invars],
            outvars=[self._atom(v) for v in eqn.outvars],
            params={name: self._parameter(x) for name, x in eqn.params.items()},
        )

    def _atom(self, atom: Any) -> Any:
        if not isinstance(atom, core.Var) or not names_of([atom.aval]):
            return atom
        return self.variables.setdefault(atom, core.Var(self.type_of(atom.aval)))

    def _parameter(self, x: Any) -> Any:
        if type(x) in (tuple, list):
            return type(x)(map(self._parameter, x))
        if isinstance(x, core.ClosedJaxpr) and x.jaxpr is not x:
            return core.ClosedJaxpr(self._jaxpr(x.jaxpr), x.consts)
        if isinstance(x, core.Jaxpr):
            return self._jaxpr(x)
        return self.number(x) if symbols_of(x) else x

    def _jaxpr(self, jaxpr: core.Jaxpr) -> core.Jaxpr:
        return jaxpr.replace(
            constvars=[self._atom(v) for v in jaxpr.constvars],
            invars=[self._atom(v) for v in jaxpr.invars],
            outvars=[self._atom(v) for v in jaxpr.outvars],
            eqns=[self.equation(eqn) for eqn in jaxpr.eqns],
        )
