"""Which values of a plan a label, an index or a value means."""

import dataclasses
from typing import Any

import pytest
from handmade import MIB, chain, results_of
from handmade_plans import body

from jaxswap._graph.graph import Action, Graph, Loop, Segment
from jaxswap._plans.naming import named_values

GRAPH = chain(4)
TANH = results_of(GRAPH, "tanh")


def inside() -> Graph:
    """A loop's body whose values have a scope of their own, and another shape."""
    given = body()
    values = [dataclasses.replace(v, scope="inside", shape=(7,)) for v in given.values]
    return dataclasses.replace(given, values=tuple(values))


BODY = inside()
LOOPS = (Loop(BODY, (Segment(3, (Action.KEEP,) * len(BODY.values)),)),)
LOOPED = BODY.values[results_of(BODY, "tanh")[0]]


def named(value: Any) -> list[int]:
    return named_values(GRAPH, LOOPS, MIB, value)


def test_values_outside_of_loops_are_found() -> None:
    assert named("tanh") == list(TANH)
    assert named(TANH[1]) == named(GRAPH.values[TANH[1]]) == [TANH[1]]


@pytest.mark.parametrize("value", ["inside", LOOPED], ids=["label", "value"])
def test_of_a_value_in_a_loop_it_is_said_what_to_do(value: Any) -> None:
    with pytest.raises(ValueError, match=r"lies in a loop.* Plan anew with a policy"):
        named(value)


@pytest.mark.parametrize("value", ["outside", 10**6, GRAPH.arguments[0], None])
def test_what_is_nowhere_is_told_from_that(value: Any) -> None:
    with pytest.raises(ValueError, match=r"no value that the plan decides on.*1.00 M"):
        named(value)
