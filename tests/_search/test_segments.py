"""The program cut into segments, and its candidates as items."""

import numpy as np
from handmade import chain, results_of

from jaxswap._gpu.target import built_in_target
from jaxswap._graph.graph import Action
from jaxswap._request import search_of
from jaxswap._search.segments import actions_of
from jaxswap._sketch.sketch import entries_of

GRAPH = chain(6)
SEARCH = search_of(GRAPH, built_in_target("h100"))


def test_each_heavy_entry_begins_a_segment() -> None:
    entries = SEARCH.kept.entries
    at = SEARCH.proposals.segments.of_entries(entries_of(SEARCH.kept))
    heavy = [int(at[i]) for i, entry in enumerate(entries) if entry.is_heavy]
    assert heavy == list(range(SEARCH.proposals.segments.count))
    assert list(at) == sorted(at)


def test_recomputations_belong_to_what_they_are_made_for() -> None:
    actions = [Action.RECOMPUTE] * len(GRAPH.values)
    draft = SEARCH.arranger.arrange(actions, 0)
    at = SEARCH.proposals.segments.of_entries(entries_of(draft))
    behind = [i for i, e in enumerate(draft.entries) if e.is_backward]
    first = next(i for i in behind if draft.entries[i].is_heavy)
    assert draft.entries[first].is_recomputed
    own = next(i for i in behind if not draft.entries[i].is_recomputed)
    assert at[first] >= at[own]
    assert list(at) == sorted(at)


def test_items_lie_idle_from_their_last_use_to_the_backward_pass() -> None:
    tanh = results_of(GRAPH, "tanh")
    position = {v: i for i, v in enumerate(SEARCH.proposals.values)}
    gaps = [SEARCH.proposals.model.items[position[v]].gap for v in tanh[:4]]
    # Made and read at segments k and k + 1; the later made, the sooner it returns.
    assert [first for first, _ in gaps] == [2, 3, 4, 5]
    assert [last for _, last in gaps] == sorted((e for _, e in gaps), reverse=True)


def test_items_know_what_their_recomputation_reads() -> None:
    z, h = results_of(GRAPH, "dot")[2], results_of(GRAPH, "tanh")[2]
    position = {v: i for i, v in enumerate(SEARCH.proposals.values)}
    item = SEARCH.proposals.model.items[position[h]]
    assert item.is_needed
    assert [SEARCH.proposals.values[i] for i in item.roots] == [z]
    assert not SEARCH.proposals.model.items[position[z]].is_needed


def test_shares_are_rounded_to_actions() -> None:
    count = len(SEARCH.proposals.values)
    needed = [item.is_needed for item in SEARCH.proposals.model.items]
    leaves, recomputations, stays = np.zeros(count), np.zeros(count), np.zeros(count)
    first, second, third = [i for i in range(count) if needed[i]][:3]
    leaves[first], recomputations[second] = 0.9, 0.8
    actions = actions_of(
        SEARCH.candidates,
        SEARCH.proposals.values,
        leaves,
        recomputations,
        stays,
        needed,
    )
    assert actions[SEARCH.proposals.values[first]] is Action.OFFLOAD
    assert actions[SEARCH.proposals.values[second]] is Action.RECOMPUTE
    assert actions[SEARCH.proposals.values[third]] is Action.KEEP
    dropped = next(i for i in range(count) if not needed[i])
    assert actions[SEARCH.proposals.values[dropped]] is Action.RECOMPUTE
