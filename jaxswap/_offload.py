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
    policy: Policy | Action | Callable[[Value], Action] | None = None,
) -> Callable[P, R]: ...


@overload
def offload(
    fn: None = None,
    *,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def offload(
    fn: Callable[..., Any] | None = None,
    *,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
) -> Callable[..., Any]:
    """Make a function whose backward pass needs a fraction of the device memory.

    The backward pass reads values of the forward pass, and they hold device memory
    from one to the other. Here each of them is kept on the device, swapped to pinned
    host memory, or computed again. Value and gradient stay the same. The copies are
    laid out between heavy operations (matrix products, convolutions), with barriers
    that make XLA start them early and finish them late enough to overlap.

    Use it like `jax.checkpoint`, but on the whole loss: the transform looks at all
    values of the function at once. It is of no use where activations are small beside
    parameters, nor on CPU, where host and device memory are the same.

    On GPUs before Hopper, XLA runs copies and computation one after the other unless
    told otherwise: pass `compiler_options=jaxswap.compiler_options()` to `jax.jit`.

    Args:
        fn: a function of arrays, pytrees of arrays and anything else; arrays that it
            closes over are differentiated like arguments. It is traced, so it must
            not branch on the value of an array. Reverse mode only.
        policy: what becomes of the values. `None`: swap large results of heavy
            operations, recompute what is cheap, keep what is small. A function of a
            `jaxswap.Value` that returns a `jaxswap.Action`, asked once for each
            forward value (a value that is to be recomputed is replaced by what it is
            computed from); a `jaxswap.Action` for all of them; or a policy object
            such as `jaxswap.LMS()`.

    Returns:
        A function with the signature of `fn`; without `fn`, a decorator. Without
        differentiation it is `fn`.

    Raises:
        TypeError: if `fn` is not callable or `policy` is none of the above.
        NotImplementedError: when called, if `fn` reads or writes a mutable array.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def loss(w, x):
        ...     return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)
        >>> w, x = jnp.eye(4), jnp.ones((2, 4))
        >>> grad = jax.jit(jax.grad(jaxswap.offload(loss)))
        >>> bool(jnp.array_equal(grad(w, x), jax.jit(jax.grad(loss))(w, x)))
        True
        >>> offload_large = lambda value: (
        ...     jaxswap.OFFLOAD if value.nbytes > 2**24 else jaxswap.KEEP
        ... )
        >>> grad = jax.jit(jax.grad(jaxswap.offload(loss, policy=offload_large)))

    References:
        Le et al. 2018, "TFLMS: Large Model Support in TensorFlow by Graph
        Rewriting"; Imai et al. 2018, "Fast and Accurate 3D Medical Image
        Segmentation with Data-swapping Method".
    """
    chosen = as_policy(policy)
    if fn is None:
        return functools.partial(offload, policy=chosen)
    if not callable(fn):
        raise TypeError(f"`fn` is {fn!r}; jaxswap.offload needs a function.")

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _call(fn, chosen, args, kwargs)

    return wrapped


def compiler_options() -> dict[str, bool]:
    """Return the options with which XLA overlaps copies on every GPU.

    XLA orders a program so that asynchronous copies run beside computation in its
    latency-hiding scheduler, which by itself it runs for Hopper GPUs and newer only.
    Without it each copy is waited for at once. The gradients are right either way.

    Returns:
        Options for `jax.jit(fn, compiler_options=...)` and `jaxswap.inspect`.

    Example:
        >>> import jax, jaxswap
        >>> jax.jit(lambda x: 2 * x, compiler_options=jaxswap.compiler_options())(1.0)
        Array(2., dtype=float32, weak_type=True)
    """
    return {"xla_gpu_enable_latency_hiding_scheduler": True}


def _call(
    fn: Callable[..., Any],
    policy: Policy,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Trace `fn` on its arrays and call the result with `policy` for its gradient."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def of_arrays(*arrays: Any) -> Any:
        merged = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            merged[i] = array
        new_args, new_kwargs = jax.tree.unflatten(structure, merged)
        return fn(*new_args, **new_kwargs)

    arrays = [leaves[i] for i in places]
    try:
        traced, out_shape = jax.make_jaxpr(of_arrays, return_shape=True)(*arrays)
    except jax.errors.ConcretizationTypeError as error:
        error.add_note(
            "jaxswap.offload traces the function, as jax.jit does: it cannot branch "
            "on the value of an array. Use jnp.where or jax.lax.cond."
        )
        raise
    if _compat.uses_references(traced):
        raise NotImplementedError(
            "jaxswap.offload cannot swap around mutable arrays (jax.new_ref): `fn` "
            "reads or writes one. Return the new value instead of writing it."
        )
    _, closed_over = _compat.open_jaxpr(traced)
    results = _differentiable(traced, policy)(*closed_over, *arrays)
    return jax.tree.unflatten(jax.tree.structure(out_shape), results)


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
            pairs = zip(program.cotangents, given, strict=True)
            absent = [v for v, c in pairs if v is not None and c is None]
            zeros = zeros_from(graph, absent)
            steps = without_zeros(graph, plan.backward, zeros)
            return run_backward(program, graph, steps, residuals, given)

        return outputs, jax.tree_util.Partial(pullback, residuals)

    def backward(pullback: Any, cotangents: Sequence[Any]) -> Any:
        return tuple(pullback(cotangents))

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call
