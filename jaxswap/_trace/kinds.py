"""Equations that differ only in the arrays that they read are of one kind.

JAX traces the derivative of a called program once, and that of a bare equation each
time. A network has many equations, and few kinds of them. So those of one kind are
executed as calls of one program. JAX inlines such calls: what is traced stays the same.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import JaxprEqn, Literal, jaxprs_in_params
from jax.sharding import AxisType

from jaxswap import _compat


def kind_of(eqn: JaxprEqn) -> Hashable | None:
    """Return what two equations share if they compute the same of the same arrays.

    `None` if that cannot be told: the equation has an effect, holds a program of its
    own, or has parameters that cannot be compared.
    """
    if eqn.effects or any(True for _ in jaxprs_in_params(eqn.params)):
        return None
    inputs = tuple(map(_kind_of_input, eqn.invars))
    params = tuple((name, _comparable(x)) for name, x in eqn.params.items())
    kind = (eqn.primitive, inputs, params, eqn.ctx)
    try:
        hash(kind)
    except TypeError:
        return None
    return kind


def _kind_of_input(atom: Any) -> Hashable:
    if isinstance(atom, Literal):
        return _kind_of_type(atom.aval), np.asarray(atom.val).tobytes()
    return _kind_of_type(atom.aval)


def _kind_of_type(aval: Any) -> Hashable:
    """Return what of a type matters: of a mesh, axes that are not left to XLA.

    Arguments and results may name different devices, or a mesh and none. See
    `_compat.is_idle`.
    """
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    if mesh is None or any(kind is not AxisType.Auto for kind in mesh.axis_types):
        return aval
    return aval.shape, aval.dtype, aval.weak_type, _compat.is_on_host(aval)


def _comparable(parameter: Any) -> Any:
    """Return a parameter, so that 0.0 does not equal -0.0."""
    return repr(parameter) if isinstance(parameter, float) else parameter


class Kinds:
    """Executes (or traces) equations, those of one kind as calls of one program."""

    def __init__(self) -> None:
        # `None` for a kind of which there was one equation: a call would not pay.
        self._calls: dict[Hashable, JaxprEqn | None] = {}

    def bind(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation, as `_compat.bind_equation` does."""
        is_traced = any(isinstance(x, Tracer) for x in inputs)
        kind = kind_of(eqn) if is_traced else None
        if kind is None or kind not in self._calls:
            if kind is not None:
                self._calls[kind] = None
            return _compat.bind_equation(eqn, inputs)
        call = self._calls[kind]
        if call is None:
            call = self._calls[kind] = _call_of(eqn)
        pairs = zip(eqn.invars, inputs, strict=True)
        given = [x for atom, x in pairs if not isinstance(atom, Literal)]
        with _compat.at_equation(eqn):
            return call.primitive.bind(*given, **call.params)


def _call_of(eqn: JaxprEqn) -> JaxprEqn:
    """Return a call of a program of one equation, to be inlined, with its literals."""
    bare = _compat.without_source(eqn)

    def program(*given: Any) -> Sequence[Any]:
        rest = iter(given)
        inputs = [
            atom.val if isinstance(atom, Literal) else next(rest) for atom in eqn.invars
        ]
        return _compat.bind_equation(bare, inputs)

    types = [atom.aval for atom in eqn.invars if not isinstance(atom, Literal)]
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(jax.jit(program))(*types))
    (call,) = jaxpr.eqns
    return _compat.inlined(call)
