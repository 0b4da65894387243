"""A loss and its arguments -> the training step that a plan is made for.

The step is `value_and_grad` of the loss, written out so that a draft can be compiled
without the transform around it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxswap._graph.graph import Graph
from jaxswap._graph.placement import Placement
from jaxswap._run.machine import run_backward, run_forward
from jaxswap._schedule.prune import without_zeros, zeros_from
from jaxswap._simulate.draft import Draft
from jaxswap._trace.function import FlatFunction, flatten_function
from jaxswap._trace.program import Program, has_tangent
from jaxswap._trace.shardings import is_explicit, placement_from, sharding_of


def step_of(program: Program, graph: Graph, draft: Draft) -> Callable[..., Any]:
    """Return the value and gradient of a program, as a draft has it computed.

    The first result's cotangent is one if it is a scalar, as in `jax.value_and_grad`;
    those of other results are zero. A first result that is no scalar gets a cotangent
    from the caller, as an operand more.
    """

    def step(*operands: Any) -> Any:
        count = len(program.operands)
        outputs, residuals = run_forward(
            program, graph, draft.schedule, operands[:count]
        )
        given: list[Any] = [None] * len(outputs)
        for i, v in enumerate(program.cotangents):
            if v is not None:
                is_given = len(operands) > count
                given[i] = operands[count] if is_given else jnp.ones_like(outputs[i])
                break
        pairs = zip(program.cotangents, given, strict=True)
        absent = [v for v, c in pairs if v is not None and c is None]
        zeros = zeros_from(graph, absent)
        steps = without_zeros(graph, draft.schedule.backward, zeros)
        return outputs, run_backward(program, graph, steps, residuals, given)

    return step


def types_of(program: Program) -> list[jax.ShapeDtypeStruct]:
    """Types of what `step_of` takes."""
    wanted = list(program.operands)
    first = next((v for v in program.cotangents if v is not None), None)
    if first is not None and program.avals[first].shape != ():
        wanted.append(first)
    return [_type_of(program, v) for v in wanted]


def _type_of(program: Program, v: int) -> jax.ShapeDtypeStruct:
    aval, placement = program.avals[v], program.placement
    if placement is None:
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    sharding = sharding_of(placement, program.specs[v])
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding)


def flatten_loss(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
) -> tuple[FlatFunction, list[bool], Placement | None]:
    """Trace `fn`; say which of its operands are differentiated and how they lie."""
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in wanted:
        if not -len(args) <= i < len(args):
            raise ValueError(
                f"`argnums` is {argnums!r}, but `fn` is given {len(args)} positional "
                "arguments."
            )
    types, named = jax.tree.map(_type, (args, dict(kwargs)))
    flat = flatten_function(fn, types, named, lambda leaf: isinstance(leaf, _STRUCT))
    leaves = jax.tree.leaves(flat.out_tree.unflatten(flat.out_avals))
    is_pair = has_aux and len(flat.out_tree.children()) == 2
    if has_aux and not is_pair:
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
    is_wanted = {i % len(args) for i in wanted}
    for i in sorted(is_wanted):
        for leaf in jax.tree.leaves(types[i]):
            if not isinstance(leaf, _STRUCT) or not has_tangent(leaf):
                kind = getattr(leaf, "dtype", type(leaf).__name__)
                raise TypeError(
                    f"`argnums` names argument {i}, which holds {kind}; only arrays "
                    "of floating point numbers can be differentiated."
                )
    perturbed = [False] * flat.closed_over_count
    for i, arg in enumerate(types):
        arrays = [x for x in jax.tree.leaves(arg) if isinstance(x, _STRUCT)]
        perturbed += [i in is_wanted] * len(arrays)
    perturbed += [False] * (len(flat.operands) - len(perturbed))
    leaves, described = map(jax.tree.leaves, ((args, dict(kwargs)), (types, named)))
    pairs = zip(leaves, described, strict=True)
    given = [leaf for leaf, type_ in pairs if isinstance(type_, _STRUCT)]
    arrays = [*flat.operands[: flat.closed_over_count], *given]
    shardings = [getattr(array, "sharding", None) for array in arrays]
    return flat, perturbed, placement_from(flat.operands, shardings)


_STRUCT = jax.ShapeDtypeStruct


def _type(leaf: Any) -> Any:
    """The type of an array, also of one that `jax.jit` would make of a number."""
    if isinstance(leaf, (_STRUCT, jax.Array)):
        weak_type = bool(getattr(leaf, "weak_type", False))
        sharding = leaf.sharding if is_explicit(leaf.sharding) else None
        return _STRUCT(leaf.shape, leaf.dtype, sharding=sharding, weak_type=weak_type)
    if isinstance(leaf, (np.ndarray, np.generic, bool, int, float, complex)):
        return jax.eval_shape(lambda x: x, leaf)
    return leaf
