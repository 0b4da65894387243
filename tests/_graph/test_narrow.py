"""What is smaller than what it is made of is stored in its place."""

import dataclasses

from handmade import MIB, Builder

from jaxswap._graph.graph import Graph
from jaxswap._graph.narrow import narrow_values


def found(graph: Graph) -> frozenset[int]:
    return narrow_values(graph, lambda eqn: eqn.primitive != "dot")


def product(build: Builder) -> int:
    return build.run("dot", [build.argument()], 4 * MIB)


def test_one_narrow_form_replaces_a_wide_result() -> None:
    build = Builder()
    wide = build.run("tanh", [product(build)], 4 * MIB)
    narrow = build.run("convert", [wide], MIB)
    widened = build.run("convert", [narrow], 4 * MIB)
    build.run("dot", [widened, build.cotangent()], MIB, is_backward=True)
    assert found(build.graph([])) == {narrow}


def test_what_is_needed_in_its_wide_form_too_is_stored_wide() -> None:
    build = Builder()
    wide = product(build)
    mask = build.run("gt", [wide], MIB)
    build.run("mul", [wide, mask, build.cotangent()], MIB, is_backward=True)
    assert not found(build.graph([]))


def test_forms_that_are_larger_together_are_not_stored() -> None:
    build = Builder()
    wide = product(build)
    forms = [build.run("convert", [wide], 2 * MIB) for _ in range(2)]
    build.run("mul", [*forms, build.cotangent()], MIB, is_backward=True)
    assert not found(build.graph([]))


def test_a_mask_of_two_results_replaces_both() -> None:
    build = Builder()
    mask = build.run("gt", [product(build), product(build)], MIB)
    build.run("select", [mask, build.cotangent()], MIB, is_backward=True)
    assert found(build.graph([])) == {mask}


def test_a_carry_is_replaced_if_nothing_else_needs_it() -> None:
    build = Builder()
    carry = build.argument(4 * MIB)
    narrow = build.run("convert", [carry], MIB)
    wide = build.run("dot", [carry], 4 * MIB)
    build.run("mul", [narrow, build.cotangent()], MIB, is_backward=True)
    body = dataclasses.replace(build.graph([]), carried=(carry,))
    assert found(body) == {narrow}
    build.run("mul", [wide, build.cotangent()], MIB, is_backward=True)
    body = dataclasses.replace(build.graph([]), carried=(carry,))
    assert not narrow_values(body, lambda eqn: True)
