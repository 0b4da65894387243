"""Mutable arrays (`jax.new_ref`) in a traced function are refused.

Their reads and writes have an order, which a schedule would change. The references
that a kernel makes of its operands are its own, and no matter.
"""

from collections.abc import Iterable
from typing import Any

from jaxswap import _compat


def refuse_references_in(closed: Any) -> None:
    """Raise if a traced function makes, takes, reads or writes a mutable array.

    Args:
        closed: The traced function.

    Raises:
        NotImplementedError: If it does. The text says what to do.
    """
    if _compat.uses_references(closed):
        _refuse("`fn` reads or writes one. Return the new value instead of writing it.")


def refuse_references_among(avals: Iterable[Any]) -> None:
    """Raise if values of a function and its gradient are mutable arrays.

    Args:
        avals: The types of the values.

    Raises:
        NotImplementedError: If one is. The text says what to do.
    """
    if any(map(_compat.is_reference, avals)):
        _refuse(
            "a rule of a `jax.custom_vjp` or `jax.custom_jvp` in `fn` reads or writes "
            "one. Return the new value instead of writing it."
        )


def _refuse(where: str) -> None:
    raise NotImplementedError(
        f"jaxswap cannot swap around mutable arrays (jax.new_ref): {where}"
    )
