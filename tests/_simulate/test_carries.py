"""What a loop's body holds beside its temporaries, on bodies written by hand."""

import dataclasses

from handmade import GB, Builder, by_hand, rates

from jaxswap._graph.graph import Equation, Graph
from jaxswap._simulate.simulate import Simulator, iteration_of


def body(last: str) -> tuple[Graph, int]:
    """A body that carries one value: a product makes the new one.

    `last` says which operation reads the old value last. A second product reads the
    slice of a scanned array.
    """
    b = Builder()
    old, piece = b.argument(2 * GB), b.argument(GB)
    first = b.run("dot", [old], 4)
    if last == "before":
        new = b.run("dot", [first], 2 * GB)
    else:
        new = b.run("dot", [old], 2 * GB)
    b.run("dot", [piece], 4)
    if last == "after":
        b.run("dot", [old], 4)
    graph = b.graph([new])
    return dataclasses.replace(
        graph, carried=(old,), handed_on=(new,), sliced=(piece,), trip_count=4
    ), new


def inside_gigabytes(graph: Graph) -> float:
    return round(iteration_of(graph, rates()).device_bytes / GB, 3)


def test_new_value_takes_the_place_of_one_that_is_read_no_more() -> None:
    graph, _ = body("before")
    assert inside_gigabytes(graph) == 1  # The slice alone.


def test_new_value_needs_a_second_place_while_the_old_one_is_read() -> None:
    for last in ("with it", "after"):
        graph, _ = body(last)
        assert inside_gigabytes(graph) == 3  # It, and the slice.


def test_place_is_free_between_the_last_read_and_the_new_value() -> None:
    b = Builder()
    old = b.argument(2 * GB)
    first = b.run("dot", [old], 4)
    second = b.run("dot", [first], 2 * GB)
    third = b.run("dot", [second], 4)
    new = b.run("dot", [third], 2 * GB)
    graph = dataclasses.replace(b.graph([new]), carried=(old,), handed_on=(new,))
    assert inside_gigabytes(graph) == 0


def loop(*, is_read_later: bool) -> Graph:
    """A product, then an operation that its operand makes way for."""
    b = Builder()
    x = b.run("dot", [b.argument(GB)], GB)
    y = b.run("opaque", [x], GB)
    after: Equation = dataclasses.replace(b.equations[-1], overwritten=(x,))
    b.equations[-1] = after
    z = b.run("dot", [y, x] if is_read_later else [y], GB)
    return b.graph([z])


def test_updated_operand_makes_way_for_the_result() -> None:
    for is_read_later, most in ((False, 1), (True, 2)):
        graph = loop(is_read_later=is_read_later)
        timeline = Simulator(graph, rates()).play(by_hand([0, 1, 2], []))
        assert timeline.device_bytes - timeline.caller_bytes == most * GB


def test_what_an_inner_loop_stacks_is_copied_when_it_has_ended() -> None:
    b = Builder()
    new, stack = b.value(4), b.value(3 * GB)
    inner = Equation(0, "scan", (b.argument(4),), (new, stack), is_heavy=True)
    b.equations.append(inner)
    graph = dataclasses.replace(
        b.graph([new, stack]), carried=(b.arguments[0],), handed_on=(new,)
    )
    assert inside_gigabytes(graph) == 3
    product = dataclasses.replace(inner, primitive="dot")
    assert inside_gigabytes(dataclasses.replace(graph, equations=(product,))) == 0
