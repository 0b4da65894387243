"""Questions that policies and the scheduler ask of a graph."""

from handmade import Builder, chain, results_of

from jaxswap._graph.graph import Value


def test_residuals_are_what_the_backward_pass_reads_of_the_forward_pass() -> None:
    graph = chain(3)
    read = set(graph.residuals())
    assert read >= set(results_of(graph, "slope"))
    assert read >= set(results_of(graph, "tanh")[:-1])
    assert not read & set(results_of(graph, "dot"))
    assert not read & set(results_of(graph, "mul", is_backward=True))


def test_forward_value_that_is_a_gradient_counts_as_residual() -> None:
    b = Builder()
    x = b.argument()
    zero = b.run("zeros", [], 4)
    graph = b.graph([x], [zero])
    assert graph.residuals() == (zero,)


def test_ancestors_are_what_a_value_is_made_from() -> None:
    graph = chain(2)
    first = results_of(graph, "tanh")[0]
    made = {graph.equations[i].primitive for i in graph.ancestors((first,))}
    assert made == {"dot", "tanh"}
    assert len(graph.ancestors((first,))) == 2


def test_label_prefers_the_name_and_ends_with_the_line() -> None:
    value = Value(0, 4, (1,), None, "dot_general", "/a/b/model.py:7:3 (f)", None, "M/c")
    assert value.label == "M/c/dot_general model.py:7:3"
    named = Value(0, 4, (1,), None, "dot_general", "model.py:7", "query", "M/c")
    assert named.label == "query model.py:7"
