"""`jaxswap.offload` for Flax linen. It is used in the places of `nn.remat`."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack, overload

import flax.linen as nn
import jax
from flax.core import lift
from flax.core.scope import CollectionFilter, PRNGSequenceFilter
from flax.linen import transforms

import jaxswap
from jaxswap.extend import OffloadOptions

# A module class, `functools.partial` of one, or a function of a module.
Target = TypeVar("Target", bound=Callable[..., Any])
# An action, a function of a `jaxswap.Value`, or an object such as `jaxswap.LMS()`.
Policy = Any


class _Options(OffloadOptions, total=False):
    variables: CollectionFilter
    rngs: PRNGSequenceFilter
    static_argnums: int | Sequence[int]
    methods: Sequence[str] | None


@overload
def offload(module: Target, /, **options: Unpack[_Options]) -> Target: ...


@overload
def offload(
    module: None = None, /, **options: Unpack[_Options]
) -> Callable[[Target], Target]: ...


def offload(
    module: Any = None,
    /,
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
    variables: CollectionFilter = True,
    rngs: PRNGSequenceFilter = True,
    static_argnums: int | Sequence[int] = (),
    methods: Sequence[str] | None = None,
    **unknown: Any,
) -> Any:
    """Lifted version of `jaxswap.offload`, for a module, in the place of `nn.remat`.

    What the backward pass needs of the module's values is kept on the device, swapped
    to host memory, or recomputed. Everything else stays as it was: parameters and their
    names, random numbers, mutable collections, values and gradients. So weights can be
    exchanged with the plain module. (`nn.remat(Block)` names its instances
    `CheckpointBlock_0`. To continue with such weights, give the instances that name.)

    The arguments of a module stay on the device, and only its own computation can hide
    its copies. So the transform works best around the whole loss, as
    `jaxswap.offload(loss)`, which needs no lifting. Use this one if modules need
    different policies, and around several heavy layers rather than one.

    Args:
        module: A module class, `functools.partial` of one, or a function whose first
            argument is a module, such as a method in a class body.
        policy: As for `jaxswap.offload`. So are the next four.
        plan: A plan made for the same function of the same variables.
        budget: Bytes for value and gradient of this module alone.
        reserve: The part of the budget that something else needs.
        host_budget: Pinned host memory that the plan may use on each device.
        target: The GPU to plan for.
        slabs: Whether the finest values are computed slab by slab, as for
            `jaxswap.offload`.
        compress: The type to which real numbers are rounded when they leave, as for
            `jaxswap.offload`. Gradients are then no longer those of the plain module.
        pieces: Into how many pieces large values may be cut, as for `jaxswap.offload`.
        variables: The variable collections that are lifted. The module sees no other.
        rngs: The random number sequences that are lifted.
        static_argnums: Arguments that hold no arrays, counted with `self` as 0. For
            calls written for `nn.remat`. It is not needed: whatever is no array is
            passed on as it is, keyword arguments too.
        methods: Names of the methods to lift. `None`: `__call__`. Only for
            classes.
        **unknown: Refused. For those of `nn.remat` the error says why.

    Returns:
        A module class (or a `functools.partial` of one, or a function) that takes the
        same arguments. Without `module`, a decorator.

    Raises:
        TypeError: If `module`, `static_argnums` or `methods` is none of the above.
            When called, if the first argument of a function is no module, or if a
            static argument holds an array.
        ValueError, jaxswap.BudgetError, NotImplementedError: As `jaxswap.offload`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap.linen
        >>> import flax.linen as nn
        >>> class Block(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train):
        ...         x = nn.Dense(4)(nn.tanh(nn.Dense(8)(x)))
        ...         return nn.Dropout(0.5, deterministic=not train)(x)
        >>> block = jaxswap.linen.offload(Block, policy=jaxswap.RECOMPUTE)()
        >>> x = jnp.ones((2, 4))
        >>> weights = block.init(jax.random.key(0), x, train=False)
        >>> def loss(block, weights):
        ...     return jnp.sum(block.apply(weights, x, train=False) ** 2)
        >>> gradient = jax.grad(loss, argnums=1)(block, weights)
        >>> plain = jax.grad(loss, argnums=1)(Block(), weights)
        >>> errors = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), gradient, plain)
        >>> bool(max(jax.tree.leaves(errors)) < 1e-5)
        True

    References:
        `flax.linen.remat`, which it replaces.
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
    transform = _scope_transform(swap, variables, rngs, _places(static_argnums))
    decorate = functools.partial(_lifted, transform=transform, methods=_names(methods))
    return decorate if module is None else decorate(module)


def _places(static_argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Return the static arguments as a tuple, counted from the one after `self`."""
    one = isinstance(static_argnums, int)
    places = (static_argnums,) if one else tuple(static_argnums)
    if not all(isinstance(i, int) and i > 0 for i in places):
        raise TypeError(
            f"`static_argnums` is {static_argnums!r}; it must be a positive number or "
            "several: `self`, the module, is argument 0."
        )
    return tuple(i - 1 for i in places)


def _names(methods: Sequence[str] | None) -> list[str] | None:
    if methods is None:
        return None
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise TypeError(
            f"`methods` is {methods!r}; it must be a list of names. For methods with "
            "different policies, wrap the class once for each."
        )
    return list(methods)


def _lifted(
    module: Any, *, transform: Callable[..., Any], methods: list[str] | None
) -> Any:
    """Apply a transform of functions of a scope to a module class or a function."""
    if isinstance(module, nn.Module) or not callable(module):
        raise TypeError(
            f"{module!r} is no module class and no function of a module, and "
            "jaxswap.linen.offload needs one: wrap the class, then make the instance."
        )
    if inspect.isfunction(module) and methods is not None:
        raise TypeError(
            f"`methods` is {methods!r}, but {module!r} is a function and has none. "
            "Leave `methods` out, or wrap the class."
        )
    lifted: Any = transforms.lift_transform(transform, module, methods=methods)
    if not inspect.isfunction(lifted):
        return lifted

    @functools.wraps(lifted)
    def of_module(*args: Any, **kwargs: Any) -> Any:
        if not args or not isinstance(args[0], nn.Module):
            raise TypeError(
                f"the first argument of {module!r} is no module; for a function "
                "of weights and arrays use jaxswap.offload."
            )
        return lifted(*args, **kwargs)

    return of_module


def _scope_transform(
    swap: Callable[..., Any],
    variables: CollectionFilter,
    rngs: PRNGSequenceFilter,
    static: tuple[int, ...],
) -> Callable[..., Any]:
    """Return a transform of functions of a scope: the result swaps."""

    def transform(function: Callable[..., Any]) -> Callable[..., Any]:
        def packed(
            to_scope: Any,
            from_scope: Any,
            variables: Any,
            rngs: Any,
            /,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            def of_arrays(
                variables: Any, rngs: Any, /, *args: Any, **kwargs: Any
            ) -> Any:
                scope = to_scope(variables, rngs)
                results = function(scope, *args, **kwargs)
                return results, from_scope(scope)

            _check_static(args, static)
            return swap(of_arrays)(variables, rngs, *args, **kwargs)

        return lift.pack(
            packed, (variables,), (variables,), (rngs,), "offload", enable_kwargs=True
        )

    # Flax puts this name before the class's name, which is part of parameters' names.
    transform.__name__ = ""
    return transform


def _check_static(args: tuple[Any, ...], static: tuple[int, ...]) -> None:
    for i in static:
        leaves = jax.tree.leaves(args[i : i + 1])
        if any(isinstance(leaf, jax.Array) for leaf in leaves):
            raise TypeError(
                f"argument {i + 1} is in `static_argnums`, but it holds an array, and "
                "arrays are traced."
            )
