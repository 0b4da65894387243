"""A function of the zoo, and how one is added."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, arguments to call it with, and which of them have a gradient.

    Attributes:
        name: the function's name.
        fn: returns a float scalar or any tree of arrays; with `has_aux`, a pair.
        args: example arguments.
        argnums: the arguments to differentiate.
        has_aux: whether the second result has no gradient.
        rtol: largest error allowed, relative to the largest entry of each array.
    """

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: tuple[int, ...] = (0,)
    has_aux: bool = False
    rtol: float = 1e-5


CASES: list[Case] = []
_seeds = itertools.count()


def case(
    *args: Any,
    argnums: tuple[int, ...] = (0,),
    has_aux: bool = False,
    rtol: float = 1e-5,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the decorated function to `CASES`."""

    def add(fn: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(fn.__name__, fn, args, argnums, has_aux, rtol))
        return fn

    return add


def normal(*shape: int, scale: float = 1.0, dtype: Any = jnp.float32) -> Array:
    """Normal numbers, another draw at each call, the same every run."""
    draw = np.random.default_rng(next(_seeds)).normal(size=shape) * scale
    return jnp.asarray(draw, dtype)


def weight(*shape: int) -> Array:
    """Weights that keep the size of what they multiply; last axis is the output."""
    return normal(*shape, scale=float(np.prod(shape[:-1])) ** -0.5)


def integers(high: int, *shape: int) -> Array:
    draw = np.random.default_rng(next(_seeds)).integers(high, size=shape)
    return jnp.asarray(draw, jnp.int32)
