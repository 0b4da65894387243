"""The arguments that are not traced, as callers of `jax.checkpoint` name them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Static:
    """Arguments that hold no arrays.

    Attributes:
        numbers: Positions among the positional arguments; below 0 from the end.
        names: Keyword arguments.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, argnums: int | Sequence[int], argnames: str | Sequence[str]
    ) -> "Static":
        """Read `static_argnums` and `static_argnames`.

        Raises:
            TypeError: If they are no numbers and no names.
        """
        numbers, names = _several(argnums, int), _several(argnames, str)
        if numbers is None:
            raise TypeError(
                f"`static_argnums` is {argnums!r}; it must be a number or several."
            )
        if names is None:
            raise TypeError(
                f"`static_argnames` is {argnames!r}; it must be a name or several."
            )
        return cls(numbers, names)

    def check(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        is_array: Callable[[Any], bool],
    ) -> None:
        """Check that the static ones among the arguments hold no array.

        Raises:
            ValueError: If one of the numbers is that of no argument.
            TypeError: If one holds an array.
        """
        for i in self.numbers:
            if not -len(args) <= i < len(args):
                raise ValueError(
                    f"`static_argnums` holds {i}, but the function is given "
                    f"{len(args)} positional arguments."
                )
            _check(args[i], f"argument {i} is in `static_argnums`", is_array)
        for name in self.names:
            if name in kwargs:
                _check(kwargs[name], f"`{name}` is in `static_argnames`", is_array)


NOTHING_STATIC = Static((), ())


def _check(argument: Any, what: str, is_array: Callable[[Any], bool]) -> None:
    if any(map(is_array, jax.tree.leaves(argument))):
        raise TypeError(f"{what}, but it holds an array, and arrays are traced.")


def _several(given: Any, kind: type) -> tuple[Any, ...] | None:
    """Return one or several values of a type as a tuple. `None` if they are not."""
    found = (given,) if isinstance(given, kind | str) else given
    is_right = isinstance(found, Sequence) and all(isinstance(x, kind) for x in found)
    return tuple(found) if is_right else None
