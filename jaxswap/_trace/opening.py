"""A function whose loops, checkpoints and branches run in other ways than in JAX.

`jax.checkpoint` and `lax.cond` decide by themselves what their backward pass finds
stored. Here a `jax.checkpoint` is executed like other code, so each value in it can be
kept, swapped or recomputed. A branch runs or does not run, so its values cannot be
taken out of it. But it can store less.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._graph.graph import Inside
from jaxswap._trace.jaxpr import Bind, Interpreter

RunLoop = Callable[[JaxprEqn, Sequence[Any]], Sequence[Any]]
"""Executes (or traces) a `lax.scan` equation with its operands."""

_STORED_BY_BRANCHES = {
    Inside.OPEN_STORING_PRODUCTS: jax.checkpoint_policies.dots_saveable,
    Inside.OPEN_STORING_NOTHING: jax.checkpoint_policies.nothing_saveable,
}


class Opened(Interpreter):
    """Runs each `lax.scan` as it is told, checkpoints and branches as `inside` says.

    Calls of `jit` are looked into. Branches are not: XLA cannot copy to the host there.
    """

    def __init__(
        self,
        run_loop: RunLoop,
        inside: Inside,
        bind: Bind = _compat.bind_equation,
    ) -> None:
        super().__init__(bind)
        self.run_loop = run_loop
        self.inside = inside

    def execute(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Run a loop or branches, or execute an equation as it is."""
        if _compat.scan_of(eqn) is not None:
            with self.within(eqn):
                return self.run_loop(eqn, inputs)
        stored = _STORED_BY_BRANCHES.get(self.inside)
        if stored is not None and _is_branching(eqn):
            eqn = _storing(eqn, stored)
        return super().execute(eqn, inputs)

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Look into checkpoints, if they are open, and into calls of `jit`."""
        if self.inside is not Inside.AS_WRITTEN and _is_checkpoint(eqn):
            return _compat.checkpointed(eqn), inputs
        called = _compat.called_jaxpr(eqn)
        return (called, inputs) if called is not None and _may_differ(called) else None


def insides_of(jaxpr: Any) -> tuple[Inside, ...]:
    """Return the ways to plan for: `AS_WRITTEN` alone if there is nothing to open."""
    eqns = list(_eqns(jaxpr))
    is_open = any(map(_is_checkpoint, eqns))
    found = [Inside.OPEN if is_open else Inside.AS_WRITTEN]
    if any(map(_is_branching, eqns)):
        found += _STORED_BY_BRANCHES
    return tuple(found)


def is_as_written(jaxpr: Any, inside: Inside) -> bool:
    """Whether `Opened` runs the checkpoints and branches of a jaxpr as JAX does."""
    return inside is Inside.AS_WRITTEN or not any(
        _is_checkpoint(eqn) or (inside in _STORED_BY_BRANCHES and _is_branching(eqn))
        for eqn in _eqns(jaxpr)
    )


def _eqns(jaxpr: Any) -> Any:
    """Go through the equations that are looked into, those in loops included."""
    for eqn in jaxpr.eqns:
        yield eqn
        scan = _compat.scan_of(eqn)
        called = _compat.called_jaxpr(eqn) if scan is None else scan.jaxpr
        called = called or _compat.checkpointed(eqn)
        if called is not None:
            yield from _eqns(_compat.open_jaxpr(called)[0])


def _may_differ(called: Any) -> bool:
    """Whether a called jaxpr holds anything that may run in another way."""
    jaxpr, _ = _compat.open_jaxpr(called)
    return any(
        _compat.scan_of(eqn) is not None or _is_checkpoint(eqn) or _is_branching(eqn)
        for eqn in _eqns(jaxpr)
    )


def _is_checkpoint(eqn: JaxprEqn) -> bool:
    """Whether this is a `jax.checkpoint` that was not differentiated yet."""
    return _compat.checkpointed(eqn) is not None and not eqn.params["differentiated"]


def _is_branching(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name == "cond"


def _storing(eqn: JaxprEqn, stored: Callable[..., bool]) -> JaxprEqn:
    """Return a `cond` whose branches store for the backward pass only what is named."""

    def storing(branch: Any) -> Any:
        def run(*inputs: Any) -> Sequence[Any]:
            return Interpreter().run_closed(branch, inputs)

        types = [v.aval for v in _compat.open_jaxpr(branch)[0].invars]
        return jax.make_jaxpr(jax.checkpoint(run, policy=stored))(*types)

    branches = tuple(storing(branch) for branch in eqn.params["branches"])
    return eqn.replace(params={**eqn.params, "branches": branches})
