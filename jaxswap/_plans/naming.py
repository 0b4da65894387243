"""A part of a label, an index or a value -> the values of a plan that it means."""

from collections.abc import Iterable, Sequence

from jaxswap._base.units import format_bytes
from jaxswap._graph.graph import Graph, Loop, Value


def named_values(
    graph: Graph, loops: Sequence[Loop], large_bytes: int, value: int | str | Value
) -> list[int]:
    """Return the indices of the values that a user means.

    Args:
        graph: The program.
        loops: All of its loops.
        large_bytes: The smallest size of a value that is decided on by itself.
        value: A value, its index, or a part of its label.

    Raises:
        ValueError: If there is no such value that the plan decides on. The text says
            if it lies in a loop.
    """
    found = _meant(_large(graph, large_bytes), value)
    if found:
        return [v.index for v in found]
    # An index alone says nothing: those of each loop are counted from zero.
    bodies = () if isinstance(value, int) else (loop.graph for loop in loops)
    if any(_meant(_large(body, 1), value) for body in bodies):
        raise ValueError(
            f"`value` is {value!r}, which lies in a loop. What a loop stores is part "
            "of the traced program, which an edited plan still has to fit. Plan anew "
            "with a policy, which is asked about the values in loops, too: "
            "jaxswap.plan(..., policy=...)."
        )
    raise ValueError(
        f"`value` is {value!r}, which is no value that the plan decides on. These are "
        f"forward values of at least {format_bytes(large_bytes)}, listed by "
        "print(plan)."
    )


def _large(graph: Graph, large_bytes: int) -> list[Value]:
    """Return the forward values of at least this size."""
    return [
        graph.values[v]
        for eqn in graph.equations
        if not eqn.is_backward
        for v in eqn.outputs
        if graph.values[v].nbytes >= large_bytes
    ]


def _meant(values: Iterable[Value], value: int | str | Value) -> list[Value]:
    """Return those of some values that a user means."""
    if isinstance(value, str):
        return [v for v in values if value in v.label]
    if isinstance(value, Value):
        # A value of a loop's body has the index of another one outside of it.
        return [v for v in values if v.index == value.index and _is_alike(v, value)]
    return [v for v in values if v.index == value]


def _is_alike(one: Value, other: Value) -> bool:
    """Whether two values may be the same one, traced twice."""
    return (one.shape, one.dtype) == (other.shape, other.dtype)
