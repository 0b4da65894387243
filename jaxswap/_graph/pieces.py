"""Values that can be stored in pieces, each of which is kept or swapped by itself.

Where the copy of a whole value takes longer than what could hide it, a part of it may
still fit: some pieces leave, and the others stay. Each piece is cut off by an equation
of its own. Another one joins them where the backward pass reads the value.

So a graph whose values can be stored in pieces makes such a value by two equations. The
forward pass executes the first. Where the value is recomputed, the second makes it, of
the pieces. It is not the planner's way to recompute from what lies before.
"""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Pieces:
    """How one value is cut.

    Attributes:
        value: The value.
        axis: Along which axis.
        count: Into how many pieces of the same size.
    """

    value: int
    axis: int
    count: int


def axis_of(shape: Sequence[int], count: int) -> int | None:
    """Return the first axis that can be cut into so many pieces. `None`: there is none.

    Example:
        >>> from jaxswap._graph.pieces import axis_of
        >>> axis_of((1, 192, 16), 4), axis_of((8, 3), 2), axis_of((5,), 2)
        (1, 0, None)
    """
    return next((a for a, size in enumerate(shape) if size and size % count == 0), None)


def checked_pieces(pieces: object) -> int:
    """Return what was given as `pieces=`. 1 stands for whole values.

    Raises:
        ValueError: If it is no such number.
    """
    if pieces is None:
        return 1
    if isinstance(pieces, bool) or not isinstance(pieces, int) or pieces < 1:
        raise ValueError(
            f"`pieces` is {pieces!r}; it must be the number of pieces in which values "
            "may be stored, such as 4, or None."
        )
    return pieces
