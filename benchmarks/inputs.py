"""Types of arguments -> arrays, the same ones in every process."""

from typing import Any

import jax
import jax.numpy as jnp


def draw(args: Any) -> Any:
    """Fill in what only has a type.

    Floating point numbers are normal, those of matrices and kernels scaled by the
    number of inputs, so that deep networks stay finite and their gradients steady;
    integers, which are tokens or labels, are 0 to 9.
    """
    leaves, structure = jax.tree.flatten(args)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    filled = [_array(key, leaf) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, filled)


def _array(key: jax.Array, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.integer):
        return jax.random.randint(key, leaf.shape, 0, 10, leaf.dtype)
    fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 1
    scale = jnp.asarray(fan_in**-0.5, leaf.dtype)
    return jax.random.normal(key, leaf.shape, leaf.dtype) * scale
