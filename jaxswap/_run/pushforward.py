"""A derivative that runs forward as plain JAX and backward as a machine does.

JAX asks for the derivative of a function once, as a linear function of tangents. In
forward mode (`jax.jvp`) it then calls that function; in reverse mode it transposes it.
No function of JAX has a transpose of its own and works under all transforms. So this
is a primitive: its rules for `jvp`, `vmap`, transposition and compilation are here.

Where `jax.jvp` calls the function itself, the mode is known before: see `is_pushed`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive, unmapped_aval
from jax.interpreters import ad, batching, mlir
from jax.interpreters import partial_eval as pe

from jaxswap._run.passes import Passes, pushed, without_tangent
from jaxswap._trace.tangents import has_tangent

Arrays = Sequence[Any]


Places = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """A linear function of tangents, at given operands, and its transpose.

    Attributes:
        push: Of operands and tangents: returns the tangents of the results.
        pull: Of operands, residuals and cotangents: returns the cotangents of the
            operands. `None` stands for zero.
    """

    push: Callable[[Arrays, Arrays], Arrays]
    pull: Callable[[Arrays, Arrays, Arrays], Arrays]


def is_pushed(operands: Arrays) -> bool:
    """Whether these operands carry tangents that only run forward.

    Then the machine's forward pass would be in vain: it stores values for a backward
    pass, and XLA cannot merge what lies behind its barriers with what tangents need.
    """
    pushed_ones = [x for x in operands if isinstance(x, ad.JVPTracer)]
    # JAX transposes what it computes of these. A derivative of the user's own, which
    # calls `jax.jvp`, is given such tangents.
    return bool(pushed_ones) and not any(
        isinstance(x.tangent, pe.JaxprTracer) for x in pushed_ones
    )


def derivative(passes: Passes, primals: Arrays, tangents: Arrays) -> Any:
    """Return flat results and their tangents: the rule of a `jax.custom_jvp`."""
    moving = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
    results, residuals = passes.forward(primals)
    moved = [i for i, x in enumerate(results) if has_tangent(x)]
    leaves, structure = jax.tree.flatten(residuals)
    # JAX remembers functions, so each call must give it the same one.
    key = (tuple(moving), tuple(moved), len(results), structure)
    if key not in passes.linear:
        passes.linear[key] = _linear(passes, *key)
    of_results = [without_tangent(x) for x in results]
    found = _pushforward.bind(
        *primals,
        *leaves,
        *(tangents[i] for i in moving),
        linear=passes.linear[key],
        lifetime=_lifetime(),
        counts=(len(primals), len(leaves)),
        types=tuple(of_results[i].aval for i in moved),
    )
    for i, tangent in zip(moved, found, strict=True):
        of_results[i] = tangent
    return results, of_results


def _linear(
    passes: Passes, moving: Places, moved: Places, count: int, structure: Any
) -> Linear:
    """Return the linear function of some operands. It must hold no array."""

    def push(operands: Arrays, tangents: Arrays) -> Arrays:
        of_operands = [without_tangent(x) for x in operands]
        for i, tangent in zip(moving, tangents, strict=True):
            of_operands[i] = tangent
        _, of_results = pushed(passes.call, tuple(operands), tuple(of_operands))
        return [of_results[i] for i in moved]

    def pull(operands: Arrays, leaves: Arrays, cotangents: Arrays) -> Arrays:
        given: list[Any] = [None] * count
        for i, cotangent in zip(moved, cotangents, strict=True):
            given[i] = cotangent
        residuals = jax.tree.unflatten(structure, leaves)
        gradients = passes.backward(operands, residuals, given)
        return [gradients[i] for i in moving]

    return Linear(push, pull)


_pushforward = Primitive("jaxswap_pushforward")
_pushforward.multiple_results = True


@functools.cache
def _empty() -> Any:
    return jax.make_jaxpr(lambda: ())().jaxpr


def _lifetime() -> Any:
    """Return an empty jaxpr, for one equation.

    JAX remembers the parameters of equations, and with them all that they hold. But it
    forgets an entry when a jaxpr among the parameters dies.
    """
    return _empty().replace()


def _split(args: Arrays, counts: tuple[int, int]) -> tuple[Arrays, Arrays, Arrays]:
    """Return operands, residuals and tangents."""
    first, last = counts[0], sum(counts)
    return tuple(args[:first]), tuple(args[first:last]), tuple(args[last:])


def _execute(
    *args: Any, linear: Linear, lifetime: Any, counts: tuple[int, int], types: Arrays
) -> Arrays:
    del lifetime, types
    operands, _, tangents = _split(args, counts)
    return linear.push(operands, tangents)


def _derivative(
    primals: Arrays,
    tangents: Arrays,
    *,
    linear: Linear,
    lifetime: Any,
    counts: tuple[int, int],
    types: Arrays,
) -> tuple[Arrays, Arrays]:
    del lifetime, types
    given, of_given = _split(primals, counts), _split(tangents, counts)
    return pushed(
        linear.push,
        (given[0], given[2]),
        (of_given[0], of_given[2]),
        lambda tangent: isinstance(tangent, ad.Zero),
    )


def _transpose(
    cotangents: Arrays,
    *args: Any,
    linear: Linear,
    lifetime: Any,
    counts: tuple[int, int],
    types: Arrays,
) -> Arrays:
    del lifetime, types
    operands, residuals, tangents = _split(args, counts)
    given = tuple(None if isinstance(c, ad.Zero) else c for c in cotangents)
    found = linear.pull(operands, residuals, given)
    unknown = [ad.is_undefined_primal(t) for t in tangents]
    wanted = [c if flag else None for c, flag in zip(found, unknown, strict=True)]
    return [*[None] * sum(counts), *wanted]


def _batch(
    axis: Any,
    args: Arrays,
    dims: Sequence[int | None],
    *,
    linear: Linear,
    lifetime: Any,
    counts: tuple[int, int],
    types: Arrays,
) -> tuple[Arrays, Arrays]:
    del lifetime
    of_operands, of_residuals, of_tangents = _split(dims, counts)

    def mapped(function: Callable[..., Any], *axes: Any) -> Callable[..., Any]:
        return jax.vmap(
            function,
            axes,
            axis_name=axis.name,
            axis_size=axis.size,
            spmd_axis_name=axis.spmd_name,
        )

    *known, tangents = _split(args, counts)
    # A tangent that is the same for all gets the sum of all cotangents by JAX's own
    # rule for this broadcast.
    spread = mapped(lambda *tangents: tangents, *of_tangents)(*tangents)
    batched = Linear(
        push=mapped(linear.push, of_operands, 0),
        pull=mapped(linear.pull, of_operands, of_residuals, 0),
    )
    results = _pushforward.bind(
        *known[0],
        *known[1],
        *spread,
        linear=batched,
        lifetime=_lifetime(),
        counts=counts,
        types=tuple(unmapped_aval(axis.size, 0, t) for t in types),
    )
    return results, [0] * len(results)


_pushforward.def_impl(_execute)
_pushforward.def_abstract_eval(lambda *_, types, **__: types)
ad.primitive_jvps[_pushforward] = _derivative
ad.primitive_transposes[_pushforward] = _transpose
batching.fancy_primitive_batchers[_pushforward] = _batch
mlir.register_lowering(_pushforward, mlir.lower_fun(_execute, multiple_results=True))
