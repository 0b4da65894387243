"""What operations of random programs are given, and the operations there are."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
T = TypeVar("T")
LENGTH = 3


class Leaves(Protocol):
    """Arrays that operations ask for; they become arguments of the program."""

    def weight(self, number: int, shape: tuple[int, ...]) -> Array: ...
    def integers(self, number: int, shape: tuple[int, ...], high: int) -> Array: ...
    def key(self, number: int) -> Array: ...


@dataclasses.dataclass
class Context:
    """What an operation knows besides its operands.

    Attributes:
        leaves: where weights come from.
        choice: a number that holds all smaller decisions.
        body: runs the operations inside this one on a list of values, and returns the
            last value.
    """

    leaves: Leaves
    choice: int
    body: Callable[[Sequence[Array]], Array]

    def pick(self, options: Sequence[T]) -> T:
        """Decide; choice 0 takes the first options."""
        self.choice, index = divmod(self.choice, len(options))
        return options[index]

    def weight(self, *shape: int) -> Array:
        """A weight; the same one for equal shapes, more often than not."""
        return self.leaves.weight(self.pick((0, 1)), shape)


Operation = Callable[[Context, Array, Array], Array | tuple[Array, ...]]
OPERATIONS: dict[str, Operation] = {}
WITH_BODY: set[str] = set()


def operation(function: Operation) -> Operation:
    """Add an operation to the table."""
    OPERATIONS[function.__name__] = function
    return function


def with_body(function: Operation) -> Operation:
    """Add an operation that holds others."""
    WITH_BODY.add(function.__name__)
    return operation(function)


# --- shapes and types -----------------------------------------------------------------


def fit(x: Array, like: Array) -> Array:
    """`x` in the shape and type of another array; entries repeated or left out."""
    if x.shape != like.shape:
        try:
            x = jnp.broadcast_to(x, like.shape)
        except ValueError:
            x = jnp.resize(x, like.shape)
    return x.astype(like.dtype)


def rows(x: Array) -> Array:
    """`x` with one axis at least."""
    return x.reshape(1) if x.ndim == 0 else x


def matrix(x: Array) -> Array:
    """`x` as a matrix; its last axis stays."""
    x = rows(x)
    return x.reshape(-1, x.shape[-1])


def single(x: Array) -> Array:
    """`x` in float32 at least, for what is not there for smaller types."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def small(x: Array) -> Array:
    """At most 128 entries of `x`."""
    while x.size > 128:
        axis = max(range(x.ndim), key=lambda i: x.shape[i])
        x = lax.slice_in_dim(x, 0, x.shape[axis] // 2, axis=axis)
    return x


def axis_of(c: Context, x: Array) -> int:
    return c.pick(range(x.ndim))
