"""Programs run by slabs and whole, side by side in one compiled program."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxswap import _compat
from jaxswap._slabs.slabs import Slabs
from jaxswap._sweeps.slabbed import Slabbed, Store, Swap, by_slabs
from jaxswap._trace.program import Program
from jaxswap._trace.tracing import trace


def traced(fn: Callable[..., Any], *args: jax.Array) -> Program:
    """Trace a scalar function and its gradient for all arguments that have one."""
    avals = jax.make_jaxpr(fn)(*args).out_avals
    wanted = [jnp.issubdtype(x.dtype, jnp.inexact) for x in args]
    return trace(lambda *xs: [fn(*xs)], args, wanted, avals)


def executed(program: Program, operands: Sequence[Any]) -> list[Any]:
    """Return results and gradients of a program, for cotangents of one."""
    env: dict[int, Any] = dict(program.constants)
    env.update(zip(program.operands, operands, strict=True))
    for v in program.cotangents:
        if v is not None:
            env[v] = jnp.ones(program.avals[v].shape, program.avals[v].dtype)

    def read(atom: Any) -> Any:
        return env[atom] if isinstance(atom, int) else atom.val

    for operation in program.operations:
        inputs = [read(atom) for atom in operation.inputs]
        results = _compat.bind_equation(operation.eqn, inputs)
        env.update(zip(operation.outputs, results, strict=True))
    return [
        read(atom)
        for atom in (*program.outputs, *program.gradients)
        if atom is not None
    ]


def check_by_slabs(
    fn: Callable[..., Any],
    args: Sequence[jax.Array],
    axes: Mapping[int, int] | None = None,
    *,
    count: int = 4,
    levels: int = 1,
    store: Store | None = None,
    swap: Swap | None = None,
    tolerance: float = 1e-5,
) -> Slabbed:
    """Expect that value and gradient by slabs are those of the whole.

    Args:
        fn: A function whose result is a scalar.
        args: Its arguments.
        axes: The sliced dimension of some arguments.
        count: How many slabs.
        levels: How many levels are computed by slabs.
        store: Which values the sweeps store.
        swap: Which of them lie in host memory.
        tolerance: The largest difference, as a share of the largest number.
    """
    program = traced(fn, *args)
    given = {program.operands[i]: d for i, d in (axes or {}).items()}
    slabs = Slabs(count=count, levels=levels)
    slabbed = by_slabs(program, slabs, given, store, swap)

    def both(*operands: Any) -> Any:
        return executed(program, operands), executed(slabbed.program, operands)

    for whole, found in zip(*jax.jit(both)(*args), strict=True):
        assert whole.dtype == found.dtype
        assert whole.shape == found.shape
        whole, found = np.asarray(whole, float), np.asarray(found, float)
        scale = max(1e-6, float(np.abs(whole).max(initial=0)))
        np.testing.assert_allclose(found / scale, whole / scale, atol=tolerance)
    return slabbed
