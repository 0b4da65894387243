"""A function -> its traces, one for each kind of arguments, made when first needed."""

import collections
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import jax

from jaxswap._trace.captured import captured
from jaxswap._trace.function import Arguments

T = TypeVar("T")

MOST_STATICS = 16
"""So many combinations of arguments that are no arrays are remembered."""


class ByTypes(Generic[T]):
    """Makes something of the types of arrays, once for each combination of types.

    JAX's own cache of traces decides whether types are new. It also compares what else
    a trace depends on: settings, meshes, names of axes.

    Args:
        make: Called while JAX traces, with tracers of these types.
    """

    def __init__(self, make: Callable[[Sequence[Any]], T]) -> None:
        made: list[T] = []

        def number(*arrays: Any) -> dict[int, None]:
            made.append(make(arrays))
            return {len(made) - 1: None}

        self._made = made
        self._number = jax.jit(number)

    def of(self, arrays: Sequence[Any]) -> T:
        """Return what was made of the types of these arrays."""
        (number,) = self._number.eval_shape(*arrays)
        return self._made[number]


class Known(Generic[T]):
    """Makes something of a function and its arguments, and makes it anew if it has to.

    That is if the types of the arrays are new, or what is no array, or if a variable
    has changed that the function captures. What a call changes by itself (it may count
    its calls) is no reason: that is its state before and after it was traced.

    Args:
        fn: The function.
        make: Called with arguments whose arrays are tracers or arrays.
        holds_tracer: Whether something that was made must not be kept.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        make: Callable[[Arguments], T],
        holds_tracer: Callable[[T], bool],
    ) -> None:
        self._fn = fn
        self._make = make
        self._holds_tracer = holds_tracer
        self._states: set[Hashable] = set()
        self._made: collections.OrderedDict[Hashable, ByTypes[T]] = (
            collections.OrderedDict()
        )

    def of(self, arguments: Arguments) -> T:
        """Return what was made of arguments of this kind."""
        state = captured(self._fn)
        static = captured(arguments.structure, arguments.static)
        if state is None or static is None:
            return self._make(arguments)
        if state not in self._states:
            self._states = {state}
            self._made.clear()
        by_types = self._made.setdefault(static, self._by_types(arguments))
        self._made.move_to_end(static)
        if len(self._made) > MOST_STATICS:
            self._made.popitem(last=False)
        try:
            return by_types.of(arguments.arrays)
        except _HoldsTracerError:
            return self._make(arguments)

    def _by_types(self, arguments: Arguments) -> ByTypes[T]:
        kind = arguments.with_arrays(())

        def make(arrays: Sequence[Any]) -> T:
            made = self._make(kind.with_arrays(arrays))
            if self._holds_tracer(made):
                raise _HoldsTracerError
            after = captured(self._fn)
            if after is not None:
                self._states.add(after)
            return made

        return ByTypes(make)


class _HoldsTracerError(Exception):
    """What was made holds a tracer of another trace, which it must not outlive."""
