"""A loss and its arguments -> the `Source` of its training step's programs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxswap._run.source import Source
from jaxswap._trace.function import Arguments, FlatFunction, flatten_function
from jaxswap._trace.shardings import is_explicit, placement_from
from jaxswap._trace.tangents import has_tangent

_STRUCT = jax.ShapeDtypeStruct


def loss_source(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
) -> Source:
    """Trace a loss on the types of its arguments. Nothing is executed.

    Args:
        fn: The loss.
        args: Its positional arguments: arrays, types, or pytrees of them.
        kwargs: Its keyword arguments.
        argnums: Which positional arguments are differentiated.
        has_aux: Whether `fn` returns a pair of the loss and something else.

    Raises:
        ValueError: If `argnums` names an argument that does not exist.
        TypeError: If `fn` does not return a real scalar, or if an argument to be
            differentiated holds anything but floating point numbers.
    """
    wanted = checked_argnums(argnums, len(args))
    types, named = jax.tree.map(_type, (args, dict(kwargs)))
    arguments = Arguments.of(types, named, _is_type)
    flat, closed_over = flatten_function(fn, arguments)
    _check_result(flat, has_aux)
    _check_differentiable(types, wanted)
    shardings = _shardings(closed_over, args, kwargs)
    placement = placement_from(flat.types, shardings)
    return Source(flat, _perturbed(flat, types, wanted), placement)


def checked_argnums(argnums: int | Sequence[int], count: int) -> set[int]:
    """Return the positions of the positional arguments that `argnums` means.

    Raises:
        ValueError: If `count` arguments do not include them.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for number in numbers:
        if not -count <= number < count:
            raise ValueError(
                f"`argnums` is {argnums!r}, but `fn` is given {count} positional "
                "arguments."
            )
    return {number % count for number in numbers}


def _check_result(flat: FlatFunction, has_aux: bool) -> None:
    """Refuse a result that is no real scalar, or with `has_aux` no pair."""
    leaves = jax.tree.leaves(flat.out_tree.unflatten(flat.out_avals))
    if has_aux and len(flat.out_tree.children()) != 2:
        raise TypeError("`has_aux` is set, but `fn` does not return a pair.")
    if not leaves or leaves[0].shape != () or (len(leaves) > 1 and not has_aux):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise TypeError(
            f"`fn` must return a scalar to be differentiated; it returns {shapes}."
        )
    if not jnp.issubdtype(leaves[0].dtype, np.floating):
        raise TypeError(
            f"`fn` must return a real number to be differentiated; it returns "
            f"{leaves[0].dtype}."
        )


def _check_differentiable(types: tuple[Any, ...], wanted: set[int]) -> None:
    """Refuse to differentiate anything but floating point numbers."""
    for i in sorted(wanted):
        for leaf in jax.tree.leaves(types[i]):
            if not _is_type(leaf) or not has_tangent(leaf):
                kind = getattr(leaf, "dtype", type(leaf).__name__)
                raise TypeError(
                    f"`argnums` names argument {i}, which holds {kind}; only arrays "
                    "of floating point numbers can be differentiated."
                )


def _perturbed(
    flat: FlatFunction, types: tuple[Any, ...], wanted: set[int]
) -> list[bool]:
    """Return for each operand whether it is differentiated. Captured ones are not."""
    found = [False] * flat.closed_over_count
    for i, arg in enumerate(types):
        arrays = [leaf for leaf in jax.tree.leaves(arg) if _is_type(leaf)]
        found += [i in wanted] * len(arrays)
    return found + [False] * (len(flat.types) - len(found))


def _shardings(
    closed_over: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Any]:
    """Return the sharding of each operand, or None if it has none."""
    leaves = jax.tree.leaves((args, dict(kwargs)))
    given = [leaf for leaf in leaves if _is_type(_type(leaf))]
    arrays = [*closed_over, *given]
    return [getattr(array, "sharding", None) for array in arrays]


def _is_type(leaf: Any) -> bool:
    return isinstance(leaf, _STRUCT)


def _type(leaf: Any) -> Any:
    """Return the type of an array, or of the array that `jax.jit` makes of a number."""
    if isinstance(leaf, (_STRUCT, jax.Array)):
        weak_type = bool(getattr(leaf, "weak_type", False))
        sharding = leaf.sharding if is_explicit(leaf.sharding) else None
        return _STRUCT(leaf.shape, leaf.dtype, sharding=sharding, weak_type=weak_type)
    if isinstance(leaf, (np.ndarray, np.generic, bool, int, float, complex)):
        return jax.eval_shape(lambda x: x, leaf)
    return leaf
