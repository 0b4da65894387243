"""In which order equations are issued, recomputations included."""

from handmade import MIB, Builder, chain, results_of

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.entries import (
    Entry,
    backward_entries,
    forward_entries,
    stored_values,
)

NEVER_STALE = 10**9


def primitives(graph: Graph, entries: tuple[Entry, ...]) -> list[str]:
    return [graph.equations[i].primitive for e in entries for i, _ in e.parts]


def test_recomputed_value_is_replaced_by_what_it_is_made_from() -> None:
    graph = chain(3)
    actions = [Action.RECOMPUTE] * len(graph.values)
    for v in results_of(graph, "dot"):
        actions[v] = Action.OFFLOAD
    stored = stored_values(graph, actions, graph.residuals())
    assert stored == tuple(results_of(graph, "dot"))


def test_nothing_is_stored_if_all_is_recomputed() -> None:
    graph = chain(3)
    actions = [Action.RECOMPUTE] * len(graph.values)
    assert stored_values(graph, actions, graph.residuals()) == ()


def test_value_with_a_side_effect_is_stored_and_not_recomputed() -> None:
    b = Builder()
    x = b.argument()
    drawn = b.run("print", [x], MIB, is_pure=False)
    g = b.run("mul", [b.cotangent(), drawn], MIB, is_backward=True)
    graph = b.graph([drawn], [g])
    actions = [Action.RECOMPUTE] * len(graph.values)
    assert stored_values(graph, actions, graph.residuals()) == (drawn,)


def test_forward_pass_leaves_out_what_only_the_backward_pass_wants() -> None:
    graph = chain(2)
    entries = forward_entries(graph, stored=())
    assert primitives(graph, entries) == ["dot", "tanh", "dot", "tanh", "sum"]


def test_forward_pass_makes_what_is_to_be_stored() -> None:
    graph = chain(2)
    slope = results_of(graph, "slope")[0]
    assert "slope" in primitives(graph, forward_entries(graph, stored=(slope,)))


def test_recomputations_stand_right_before_their_first_use() -> None:
    graph = chain(2)
    stored = results_of(graph, "dot")
    entries = backward_entries(graph, stored, NEVER_STALE, 0)
    assert (
        primitives(graph, entries)
        == [
            *("broadcast", "tanh", "slope", "mul"),
            *("tanh", "dot", "dot"),
            *("slope", "mul", "dot", "dot"),
        ][: len(entries)]
    )
    recomputed = [e.is_recomputed for e in entries]
    assert recomputed[1:4] == [True, True, False]


def test_each_value_is_recomputed_once_while_it_is_fresh() -> None:
    graph = chain(4)
    entries = backward_entries(graph, results_of(graph, "dot"), NEVER_STALE, 0)
    issued = primitives(graph, entries)
    assert issued.count("tanh") == 4
    assert issued.count("slope") == 4


def test_large_cheap_value_is_recomputed_again_after_a_long_gap() -> None:
    b = Builder()
    x = b.argument()
    kept = b.run("dot", [x, x], MIB)
    recomputed = b.run("tanh", [kept], MIB)
    g = b.run("mul", [b.cotangent(), recomputed], MIB, is_backward=True)
    for _ in range(5):
        g = b.run("dot", [g, x], MIB, is_backward=True)
    g = b.run("mul", [g, recomputed], MIB, is_backward=True)
    graph = b.graph([recomputed], [g])
    for stale_after, times in ((3, 2), (9, 1)):
        entries = backward_entries(graph, [kept], stale_after, large_bytes=MIB)
        assert primitives(graph, entries).count("tanh") == times
    entries = backward_entries(graph, [kept], 3, large_bytes=2 * MIB)
    assert primitives(graph, entries).count("tanh") == 1


def test_what_is_held_for_a_short_time_is_recomputed_from_what_is_stored() -> None:
    """Six layers from one stored value. Each is read once more, the last first."""
    b = Builder()
    x = b.argument()
    layers = [b.run("dot", [x, x], MIB)]
    for _ in range(5):
        layers.append(b.run("dot", [layers[-1], x], MIB))
    g = b.cotangent()
    for v in reversed(layers):
        g = b.run("slope", [g, v], MIB, is_backward=True)
        g = b.run("dot", [g, x], MIB, is_backward=True)
    graph = b.graph([layers[-1]], [g])
    recomputed = {}
    for hold_for in (0, 1, 2, 9):
        entries = backward_entries(graph, (), NEVER_STALE, MIB, hold_for)
        recomputed[hold_for] = sum(entry.is_recomputed for entry in entries)
    # All six once. Then 6 + 4 + 2 if one more is there, and so on.
    assert recomputed == {0: 6, 1: 12, 2: 9, 9: 6}
    small = backward_entries(graph, (), NEVER_STALE, 2 * MIB, hold_for=1)
    assert sum(entry.is_recomputed for entry in small) == 6


def test_views_go_with_their_reader() -> None:
    b = Builder()
    x, w = b.argument(), b.argument()
    turned = b.run("view", [w], MIB)
    other = b.run("tanh", [x], MIB)
    out = b.run("dot", [other, turned], MIB)
    graph = b.graph([out])
    entries = forward_entries(graph, stored=())
    assert [len(e.parts) for e in entries] == [1, 2]
    assert entries[1].reads == (w, other) or entries[1].reads == (other, w)


def test_long_chain_of_recomputations_needs_no_deep_recursion() -> None:
    graph = chain(3000, nbytes=MIB)
    entries = backward_entries(graph, (), NEVER_STALE, 0)
    assert primitives(graph, entries).count("tanh") == 3000
