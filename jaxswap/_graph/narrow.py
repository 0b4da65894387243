"""Graph -> the narrow values that are worth storing in place of wide ones."""

from collections.abc import Callable

from jaxswap._graph.graph import Equation, Graph


def narrow_values(
    graph: Graph, is_recomputed: Callable[[Equation], bool]
) -> frozenset[int]:
    """Return values to store because they are smaller than what they are made of.

    A result may be needed by the backward pass only in another form: as 8-bit numbers,
    as a mask, as indices. If all forms together are smaller, they are stored and the
    result is not.

    Args:
        graph: The traced program.
        is_recomputed: Whether the backward pass may execute a forward equation again.
    """
    sizes = [value.nbytes for value in graph.values]
    read = set(graph.residuals())
    forward = [e for e in graph.equations if not (e.is_backward or e.is_join)]
    forms: dict[int, list[int]] = {}  # What the backward pass may make of a value.
    least: dict[int, int] = {}  # Bytes to store so that a value is not needed.
    starts: list[int] = list(graph.carried)
    for eqn in reversed(forward):
        for v in eqn.outputs:
            _weigh(v, sizes, read, forms, least)
        if not is_recomputed(eqn):
            starts.extend(eqn.outputs)
            continue
        needed = [v for v in eqn.outputs if v in least]
        for v in set(eqn.inputs):
            forms.setdefault(v, []).extend(needed)
    for v in graph.carried:
        _weigh(v, sizes, read, forms, least)
    found: set[int] = set()
    pending = [v for v in starts if v in least and least[v] < sizes[v]]
    while pending:
        v = pending.pop()
        if least[v] == sizes[v]:
            found.add(v)
        else:
            pending.extend(forms[v])
    return frozenset(found)


def _weigh(
    v: int,
    sizes: list[int],
    read: set[int],
    forms: dict[int, list[int]],
    least: dict[int, int],
) -> None:
    """Note how many bytes stand for a value, if the backward pass needs it at all."""
    if v in read:
        least[v] = sizes[v]
    elif forms.get(v):
        least[v] = min(sizes[v], sum(least[form] for form in forms[v]))
