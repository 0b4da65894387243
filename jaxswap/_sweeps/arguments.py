"""The axis to cut, named for each argument of a function -> that of its values."""

from __future__ import annotations

from collections.abc import Sequence

from jaxswap._sweeps.rule import sizes_of
from jaxswap._trace.program import Program


def axes_of_arguments(
    program: Program, owners: Sequence[int | None], axis: Sequence[int | None]
) -> dict[int, int]:
    """Return the dimension to slice of each operand for whose argument one is named.

    Args:
        program: The program.
        owners: For each operand, the positional argument that it belongs to.
        axis: For each positional argument, the dimension of its arrays; `None` if they
            are not cut, or if it follows from the others.

    Raises:
        ValueError: If there are fewer arguments, or if an array has fewer dimensions.
    """
    count = 1 + max((owner for owner in owners if owner is not None), default=-1)
    if len(axis) > count:
        raise ValueError(
            f"`axis` is {tuple(axis)}, for {len(axis)} arguments, but the function has "
            f"{count} with arrays."
        )
    found: dict[int, int] = {}
    for v, owner in zip(program.operands, owners, strict=True):
        dimension = axis[owner] if owner is not None and owner < len(axis) else None
        if dimension is None:
            continue
        rank = len(sizes_of(program.avals[v]))
        if dimension >= rank:
            raise ValueError(
                f"`axis` is {tuple(axis)}, but argument {owner} holds an array of "
                f"{rank} dimensions. Name dimensions from 0 on, and None for arguments "
                "that are not cut."
            )
        found[v] = dimension
    return found
