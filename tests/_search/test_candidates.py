"""Which values a plan decides on, and what becomes of the others."""

import pytest
from handmade import GB, Builder, products

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.candidates import Candidates, find_candidates
from jaxswap._simulate.kernels import Fusion

KEEP, RECOMPUTE = Action.KEEP, Action.RECOMPUTE


def candidates_of(graph: Graph) -> Candidates:
    """Large is what has a GB."""
    return find_candidates(graph, Fusion(graph), GB)


def test_large_buffers_of_the_forward_pass_are_candidates_in_order() -> None:
    graph = products(4)
    found = candidates_of(graph)
    assert found.forward == (1, 2, 3, 4)
    assert found.recomputable == {1, 2, 3, 4}
    assert found.fixed == (KEEP,) * len(graph.values)


def test_large_value_that_fuses_is_made_again_by_its_readers() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    fused = b.run("tanh", [made], GB)
    total = b.run("sum", [fused], 4)
    found = candidates_of(b.graph([total]))
    assert found.forward == (made,)
    assert found.fixed[fused] is RECOMPUTE
    assert found.fixed[total] is KEEP


def test_cheap_value_that_a_product_reads_is_a_candidate() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    operand = b.run("tanh", [made], GB)
    product = b.run("dot", [operand], GB)
    found = candidates_of(b.graph([product]))
    assert found.forward == (made, operand, product)
    assert found.fixed[operand] is KEEP


def test_small_values_stay() -> None:
    b = Builder()
    small = b.run("dot", [b.argument(GB)], GB - 1)
    large = b.run("dot", [small], GB)
    scale = b.run("tanh", [b.run("sum", [large], GB // 2)], GB // 2)
    result = b.run("mul", [large, scale], GB)
    found = candidates_of(b.graph([result]))
    assert found.forward == (large, result)
    assert [found.fixed[v] for v in (small, scale)] == [KEEP, KEEP]


@pytest.mark.parametrize("nbytes", [4, GB])
def test_view_is_no_candidate_and_looked_at_again(nbytes: int) -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    view = b.run("view", [made], nbytes)
    product = b.run("dot", [view], GB)
    found = candidates_of(b.graph([product]))
    assert found.forward == (made, product)
    assert found.fixed[view] is RECOMPUTE


def test_result_of_an_optimization_barrier_is_left_as_it_is() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    held = b.run("optimization_barrier", [made], GB)
    product = b.run("dot", [held], GB)
    found = candidates_of(b.graph([product]))
    assert found.forward == (made, product)
    assert found.fixed[held] is KEEP


@pytest.mark.parametrize(
    ("nbytes", "action"), [(GB // 64, RECOMPUTE), (GB // 64 - 1, KEEP)]
)
def test_weight_in_another_type_is_cast_again_unless_it_is_tiny(
    nbytes: int, action: Action
) -> None:
    b = Builder()
    weight = b.argument(2 * nbytes)
    cast = b.run("convert", [weight], nbytes)
    scaled = b.run("mul", [cast, cast], nbytes)
    made = b.run("dot", [b.argument(GB), scaled], GB)
    found = candidates_of(b.graph([made]))
    assert found.forward == (made,)
    assert [found.fixed[v] for v in (cast, scaled)] == [action, action]


@pytest.mark.parametrize("share", [0.004, 0.006])
def test_casts_are_decided_on_where_making_them_again_takes_long(share: float) -> None:
    b = Builder()
    x = b.argument(GB)
    cast = b.run("convert", [b.argument(GB)], GB // 2)
    made = b.run("dot", [x, cast], GB)
    other = b.run("convert", [b.argument(GB)], GB // 2)
    fused = b.run("convert", [b.argument(GB)], GB // 2)
    result = b.run("dot", [b.run("add", [made, fused], GB), other], GB)
    graph = b.graph([result])
    makers = graph.producers()
    seconds_of = {makers[v].index: share / 2 for v in (cast, other)}
    seconds_of[makers[made].index] = 1 - share
    found = find_candidates(graph, Fusion(graph), GB, seconds_of)
    is_long = share > 1 / 200
    casts = {cast, other} if is_long else set()
    assert found.fixed[fused] is RECOMPUTE
    assert {cast, other} & {*found.forward} == casts
    expected = KEEP if is_long else RECOMPUTE
    assert [found.fixed[v] for v in (cast, other)] == [expected, expected]
    assert {cast, other} & found.recomputable == casts
    assert [*found.forward] == sorted(found.forward)


def test_cast_of_what_a_candidate_is_needed_for_stays() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    mean = b.run("sum", [made], GB // 2)
    cast = b.run("convert", [mean], GB // 4)
    product = b.run("dot", [cast], GB)
    found = candidates_of(b.graph([product]))
    assert [found.fixed[v] for v in (mean, cast)] == [KEEP, KEEP]


def test_large_cast_that_a_product_reads_is_a_candidate() -> None:
    b = Builder()
    cast = b.run("convert", [b.argument(2 * GB)], GB)
    product = b.run("dot", [cast], GB)
    assert candidates_of(b.graph([product])).forward == (cast, product)


def test_small_value_for_the_backward_pass_alone_is_made_there() -> None:
    b = Builder()
    x = b.argument(GB)
    made = b.run("dot", [x], GB)
    step = b.argument(4)
    deferred = b.run("mul", [step], 4)  # nobody but the backward pass reads it
    mean = b.run("sum", [made], 4)
    of_large = b.run("mul", [mean], 4)  # would need the product again
    used = b.run("mul", [step], 4)  # the forward pass makes it anyway
    result = b.run("dot", [made, used], GB)
    backward = [b.cotangent(), deferred, of_large, used]
    gradient = b.run("dot", backward, GB, is_backward=True)
    found = candidates_of(b.graph([result], [gradient]))
    expected = [RECOMPUTE, KEEP, KEEP, KEEP]
    assert [found.fixed[v] for v in (deferred, mean, of_large, used)] == expected


def test_value_made_with_a_side_effect_is_never_computed_twice() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB, is_pure=False)
    cheap = b.run("tanh", [made], GB, is_pure=False)
    small = b.run("tanh", [b.arguments[0]], GB // 2, is_pure=False)
    total = b.run("sum", [b.run("mul", [cheap, small], GB)], 4)
    product = b.run("dot", [made], GB)
    found = candidates_of(b.graph([total, product]))
    assert found.forward == (made, cheap, product)
    assert found.recomputable == {product}
    assert found.fixed[small] is KEEP


def test_large_buffers_of_the_backward_pass_are_listed() -> None:
    b = Builder()
    made = b.run("dot", [b.argument(GB)], GB)
    g = b.run("dot", [b.cotangent(), made], GB, is_backward=True)
    fused = b.run("mul", [g, made], GB, is_backward=True)
    small = b.run("sum", [fused], GB - 1, is_backward=True)
    view = b.run("view", [g], GB, is_backward=True)
    operand = b.run("tanh", [g], GB, is_backward=True)
    gradient = b.run("dot", [view, operand], GB, is_backward=True)
    graph = b.graph([made], [gradient, small])
    found = candidates_of(graph)
    assert found.forward == (made,)
    assert found.backward == (g, operand, gradient)
    assert {found.fixed[v] for v in (g, fused, small, view, operand)} == {KEEP}
