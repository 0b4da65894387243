"""`jaxswap.offload` for Flax nnx. It is used in the places of `nnx.remat`."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, overload

import jax
from flax import nnx

import jaxswap
from jaxswap.extend import OffloadOptions

P = ParamSpec("P")
R = TypeVar("R")
# An action, a function of a `jaxswap.Value`, or an object such as `jaxswap.LMS()`.
Policy = Any

# Names the two nnx contexts in which modules are split and merged.
_CONTEXT = "jaxswap.nnx.offload"


class _Options(OffloadOptions, total=False):
    static_argnums: int | Sequence[int]


@overload
def offload(f: Callable[P, R], **options: Unpack[_Options]) -> Callable[P, R]: ...


@overload
def offload(
    f: None = None, **options: Unpack[_Options]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def offload(
    f: Callable[..., Any] | None = None,
    *,
    policy: Policy = None,
    plan: jaxswap.Plan | None = None,
    budget: int | str | None = None,
    reserve: int | str = 0,
    host_budget: int | str | None = None,
    target: str | jaxswap.Target | None = None,
    slabs: jaxswap.Slabs | str | None = "auto",
    compress: str | None = None,
    pieces: int | None = None,
    static_argnums: int | Sequence[int] = (),
    **unknown: Any,
) -> Callable[..., Any]:
    """Lifted version of `jaxswap.offload`, for functions of nnx modules.

    Modules may be anywhere among the arguments and results, and may share variables.
    What the function writes to them (running averages, counters of random numbers, new
    variables) is written to the caller's modules. Value, gradient and state are those
    of the plain function.

    It works best around the whole loss, inside `nnx.value_and_grad`: the arguments of
    the function stay on the device, and only its own computation can hide its copies.

    Args:
        f: A function of modules, pytrees of arrays and anything else. Or a method, in
            the class body or of an instance. Modules that it writes to must be
            arguments: nnx does not allow writing to captured ones.
        policy: As for `jaxswap.offload`. So are the next four.
        plan: A plan made for the same function of the same state.
        budget: Bytes for value and gradient of this function.
        reserve: The part of the budget that something else needs.
        host_budget: Pinned host memory that the plan may use on each device.
        target: The GPU to plan for.
        slabs: Whether the finest values are computed slab by slab, as for
            `jaxswap.offload`.
        compress: The type to which real numbers are rounded when they leave, as for
            `jaxswap.offload`. Gradients are then no longer those of the plain function.
        pieces: Into how many pieces large values may be cut, as for `jaxswap.offload`.
        static_argnums: Arguments that hold no arrays. For calls written for
            `nnx.remat`. It is not needed: whatever is no array is passed on as it is.
        **unknown: Refused. For those of `nnx.remat` the error says why.

    Returns:
        A function with the signature of `f`. Without `f`, a decorator.

    Raises:
        TypeError: If `f` is not callable or `static_argnums` is none of the above.
            When called, if a static argument holds an array or a module.
        ValueError, jaxswap.BudgetError: As `jaxswap.offload`.
        NotImplementedError: When called, if a variable is a mutable array.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap.nnx
        >>> from flax import nnx
        >>> class Model(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.dense = nnx.Linear(4, 4, rngs=rngs)
        ...         self.norm = nnx.BatchNorm(4, rngs=rngs)
        ...     def __call__(self, x):
        ...         return jnp.tanh(self.norm(self.dense(x)))
        >>> def loss(model, x):
        ...     return jnp.sum(model(x) ** 2)
        >>> x, plain, model = jnp.eye(4), Model(nnx.Rngs(0)), Model(nnx.Rngs(0))
        >>> expected = nnx.grad(loss)(plain, x)
        >>> gradient = nnx.grad(jaxswap.nnx.offload(loss))(model, x)
        >>> errors = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), gradient, expected)
        >>> bool(max(jax.tree.leaves(errors)) < 1e-5)
        True
        >>> bool(jnp.allclose(model.norm.mean[...], plain.norm.mean[...]))
        True

    References:
        `flax.nnx.remat`, which it replaces.
    """
    # Called without a function, it still checks its arguments at once.
    options: Any = unknown  # It refuses them, and says why.
    swap = jaxswap.offload(
        policy=policy,
        plan=plan,
        budget=budget,
        reserve=reserve,
        host_budget=host_budget,
        target=target,
        slabs=slabs,
        compress=compress,
        pieces=pieces,
        **options,
    )
    decorate = functools.partial(_lifted, swap=swap, static=_places(static_argnums))
    return decorate if f is None else decorate(f)


def _places(static_argnums: int | Sequence[int]) -> tuple[int, ...]:
    one = isinstance(static_argnums, int)
    places = (static_argnums,) if one else tuple(static_argnums)
    if not all(isinstance(i, int) and i >= 0 for i in places):
        raise TypeError(
            f"`static_argnums` is {static_argnums!r}; it must be a number or several, "
            "none negative."
        )
    return places


def _lifted(
    f: Any, *, swap: Callable[..., Any], static: tuple[int, ...]
) -> Callable[..., Any]:
    """Split modules into arrays before a function of arrays, and merge them after."""
    if not callable(f):
        raise TypeError(f"`f` is {f!r}; jaxswap.nnx.offload needs a function.")
    method = f.__call__ if isinstance(f, nnx.Module) else f
    if inspect.ismethod(method) and isinstance(method.__self__, nnx.Module):
        # The module becomes an argument, because only then nnx allows writing to it.
        function = _lifted(
            method.__func__, swap=swap, static=tuple(i + 1 for i in static)
        )
        return functools.partial(function, method.__self__)

    def of_arrays(*args: Any, **kwargs: Any) -> Any:
        given = nnx.from_tree((args, kwargs), ctxtag=_CONTEXT, is_inner=True)
        results = f(*given[0], **given[1])
        return nnx.to_tree((_modules(given), results), ctxtag=_CONTEXT)

    @functools.wraps(f)
    @nnx.update_context(_CONTEXT)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _check_static(args, static)
        args, kwargs = nnx.to_tree((args, kwargs), ctxtag=_CONTEXT)
        changed = swap(of_arrays)(*args, **kwargs)
        _, results = nnx.from_tree(changed, ctxtag=_CONTEXT, is_inner=False)
        return results

    return wrapped


def _is_module(x: Any) -> bool:
    return isinstance(x, nnx.Variable) or nnx.graph.is_graph_node(x)


def _modules(tree: Any) -> Any:
    """Remove what cannot be written to: arrays, and whatever is no module."""
    return jax.tree.map(
        lambda x: x if _is_module(x) else None, tree, is_leaf=_is_module
    )


def _check_static(args: tuple[Any, ...], static: tuple[int, ...]) -> None:
    for i in static:
        leaves = jax.tree.leaves(args[i : i + 1], is_leaf=_is_module)
        if any(_is_module(leaf) or isinstance(leaf, jax.Array) for leaf in leaves):
            raise TypeError(
                f"argument {i} is in `static_argnums`, but it holds an array or a "
                "module, and those are traced."
            )
