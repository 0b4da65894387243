"""How an array is cut into equal parts, so that a result can take an operand's place.

XLA writes a result over an operand that nothing reads any more, but not over what a
convolution or a matrix product has made, and not over what has passed a barrier. What a
loop carries is always written in place. So such a result is computed in a loop over two
parts, or a few: each part of it is written over the same part of the operand.
"""

from collections.abc import Sequence

COUNTS = (2, 3, 5, 7)
"""How many parts there may be. A loop of one iteration is none for XLA."""


def cut_of(shape: Sequence[int]) -> tuple[int, int] | None:
    """Return along which axis an array is cut, and into how many parts.

    The first axis that can be divided, so that parts are whole pieces of memory. `None`
    if there is none.

    Example:
        >>> from jaxswap._graph.parts import cut_of
        >>> cut_of((1, 192, 192, 192, 16)), cut_of((11, 9)), cut_of((1, 11))
        ((1, 2), (1, 3), None)
    """
    for axis, size in enumerate(shape):
        count = next((c for c in COUNTS if size > 0 and size % c == 0), None)
        if count is not None:
            return axis, count
    return None
