"""The transform: `offload(fn)`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, overload

import jax
from jax.custom_derivatives import SymbolicZero

from jaxswap import _compat
from jaxswap._graph import Action, Value
from jaxswap._policy import Policy, as_policy
from jaxswap._prune import without_zeros, zeros_from
from jaxswap._rewrite import Residuals, run_backward, run_forward
from jaxswap._schedule import schedule
from jaxswap._trace import evaluate, trace
from jaxswap._values import graph_of

P = ParamSpec("P")
R = TypeVar("R")


@overload
def offload(
    fn: Callable[P, R],
    *,
    policy: Policy | Callable[[Value], Action] | None = None,
) -> Callable[P, R]: ...


@overload
def offload(
    fn: None = None,
    *,
    policy: Policy | Callable[[Value], Action] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def offload(
    fn: Callable[..., Any] | None = None,
    *,
    policy: Policy | Callable[[Value], Action] | None = None,
) -> Callable[..., Any]:
    """Make a function whose backward pass needs a fraction of the device memory."""
    chosen = as_policy(policy)
    if fn is None:
        return functools.partial(offload, policy=chosen)
    if not callable(fn):
        raise TypeError(f"`fn` is {fn!r}; jaxswap.offload needs a function.")

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

        def of_arrays(*arrays: Any) -> Any:
            merged = list(leaves)
            for i, array in zip(places, arrays, strict=True):
                merged[i] = array
            new_args, new_kwargs = jax.tree.unflatten(structure, merged)
            return fn(*new_args, **new_kwargs)

        traced, out_shape = jax.make_jaxpr(of_arrays, return_shape=True)(
            *(leaves[i] for i in places)
        )
        _, closed_over = _compat.open_jaxpr(traced)
        results = _differentiable(traced, chosen)(
            *closed_over, *(leaves[i] for i in places)
        )
        return jax.tree.unflatten(jax.tree.structure(out_shape), results)

    return wrapped


def _differentiable(traced: Any, policy: Policy) -> Callable[..., Sequence[Any]]:
    """Turn a traced function into one whose gradient follows `policy`.

    The result takes the values that the function closed over, then its arguments.
    """
    jaxpr, _ = _compat.open_jaxpr(traced)
    variables = (*jaxpr.constvars, *jaxpr.invars)
    out_avals = [atom.aval for atom in jaxpr.outvars]

    def function(*operands: Any) -> Sequence[Any]:
        return evaluate(jaxpr, dict(zip(variables, operands, strict=True)))

    @jax.custom_vjp
    def call(*operands: Any) -> Sequence[Any]:
        return function(*operands)

    def forward(*primals: Any) -> Any:
        operands = [p.value for p in primals]
        perturbed = [p.perturbed for p in primals]
        program = trace(function, operands, perturbed, out_avals)
        graph = graph_of(program)
        decision = policy.decide(graph)
        plan = schedule(graph, decision.actions, decision.timing)
        outputs, residuals = run_forward(program, graph, plan, operands)

        def pullback(residuals: Residuals, cotangents: Sequence[Any]) -> Any:
            given = [None if isinstance(c, SymbolicZero) else c for c in cotangents]
            absent = zip(program.cotangents, given, strict=True)
            zeros = zeros_from(graph, [v for v, c in absent if v is not None and c is None])
            steps = without_zeros(graph, plan.backward, zeros)
            return run_backward(program, graph, steps, residuals, given)

        return outputs, jax.tree_util.Partial(pullback, residuals)

    def backward(pullback: Any, cotangents: Sequence[Any]) -> Any:
        return tuple(pullback(cotangents))

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call
