"""Types of arguments -> arrays, the same ones in every process."""

import math
from typing import Any

import jax
import jax.numpy as jnp


def draw(args: Any) -> Any:
    """Fill in what only has a type.

    Floating point numbers are normal. Those of the first argument, the parameters, are
    scaled by the number of inputs of their matrix or kernel, so that deep networks stay
    finite and their gradients steady. Integers, which are tokens or labels, are 0 to 9.
    """
    leaves, structure = jax.tree.flatten(args)
    parameter_count = len(jax.tree.leaves(args[0]))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    filled = [
        _array(key, leaf, is_scaled=number < parameter_count)
        for number, (key, leaf) in enumerate(zip(keys, leaves, strict=True))
    ]
    return jax.tree.unflatten(structure, filled)


def _array(key: jax.Array, leaf: jax.ShapeDtypeStruct, *, is_scaled: bool) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.integer):
        return jax.random.randint(key, leaf.shape, 0, 10, leaf.dtype)
    drawn = jax.random.normal(key, leaf.shape, leaf.dtype)
    if not is_scaled or len(leaf.shape) < 2:
        return drawn
    input_count = math.prod(leaf.shape[:-1])
    return drawn * jnp.asarray(input_count**-0.5, leaf.dtype)
