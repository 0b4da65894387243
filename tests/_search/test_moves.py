"""Where the search starts, and the steps that it tries."""

import dataclasses
import itertools

from handmade import MIB, chain, results_of

from jaxswap._gpu.target import built_in_target
from jaxswap._graph.graph import Action
from jaxswap._request import search_of
from jaxswap._search.best import Best
from jaxswap._search.limits import Limits
from jaxswap._search.moves import Change, checkpoints, neighbours, swaps_of_products
from jaxswap._search.trial import trial_of
from jaxswap._simulate.draft import Draft

GRAPH = chain(12)
SEARCH = search_of(GRAPH, built_in_target("h100"))
CANDIDATES = SEARCH.candidates


def steps_from(draft: Draft, *, fits: bool) -> list[Change]:
    return list(neighbours(GRAPH, CANDIDATES, trial_of(draft), fits=fits))


def stored(actions: list[Action], action: Action) -> list[int]:
    return [v for v in CANDIDATES.forward if actions[v] is action]


def test_checkpoints_lie_evenly_on_a_chain() -> None:
    for actions in checkpoints(GRAPH, CANDIDATES):
        kept = stored(actions, Action.KEEP) or stored(actions, Action.OFFLOAD)
        places = [CANDIDATES.forward.index(v) for v in kept]
        gaps = {b - a for a, b in itertools.pairwise(places)}
        assert len(gaps) <= 1
        assert all(
            actions[v] is Action.RECOMPUTE for v in CANDIDATES.forward if v not in kept
        )


def test_checkpoints_come_on_the_device_and_on_the_host() -> None:
    starts = list(checkpoints(GRAPH, CANDIDATES))
    assert len(starts) >= 4
    assert [bool(stored(a, Action.OFFLOAD)) for a in starts[:2]] == [False, True]
    assert stored(starts[0], Action.KEEP) == stored(starts[1], Action.OFFLOAD)


def test_products_are_swapped_and_the_rest_computed_again() -> None:
    first, second = swaps_of_products(GRAPH, CANDIDATES)
    assert stored(first, Action.OFFLOAD) == results_of(GRAPH, "dot")
    assert all(second[v] is Action.OFFLOAD for v in CANDIDATES.backward)


def test_faster_wins_among_what_fits_and_smaller_among_what_does_not() -> None:
    kept = SEARCH.kept
    small = SEARCH.arranger.arrange(next(iter(swaps_of_products(GRAPH, CANDIDATES))), 0)
    wide, narrow = Best(Limits(kept.timeline.device_bytes)), Best(Limits(0))
    for best in (wide, narrow):
        best.offer(kept)
        best.offer(small)
    assert wide.fits
    assert wide.draft is kept
    assert not narrow.fits
    assert narrow.draft is small


def test_bytes_over_the_limit_have_a_price() -> None:
    kept = SEARCH.kept
    nbytes, seconds = kept.timeline.device_bytes, kept.timeline.seconds
    assert Best(Limits(nbytes)).cost_seconds(kept, 1.0) == seconds
    assert Best(Limits(nbytes - 3)).cost_seconds(kept, 0.5) == seconds + 1.5


def test_refused_actions_never_fit() -> None:
    kept = SEARCH.kept
    small = SEARCH.arranger.arrange(next(iter(swaps_of_products(GRAPH, CANDIDATES))), 0)
    best = Best(Limits(kept.timeline.device_bytes), refused=frozenset({kept.actions}))
    best.offer(kept)
    assert not best.fits
    best.offer(small)
    assert best.fits
    assert best.draft is small


def test_host_memory_over_its_limit_does_not_fit() -> None:
    small = SEARCH.arranger.arrange(next(iter(swaps_of_products(GRAPH, CANDIDATES))), 0)
    assert small.timeline.host_bytes > 128 * MIB
    best = Best(Limits(small.timeline.device_bytes, 128 * MIB))
    best.offer(small)
    assert not best.fits
    assert Best(Limits(small.timeline.device_bytes)).is_within(small)


def test_steps_to_save_memory_begin_with_what_is_alive_at_the_peak() -> None:
    at = int(SEARCH.kept.timeline.device_bytes_at.argmax())
    steps = SEARCH.kept.timeline.steps
    alive = {steps.values[b] for b in SEARCH.kept.timeline.alive(at)}
    change = steps_from(SEARCH.kept, fits=False)[0]
    assert change
    assert set(change) <= alive


def test_steps_to_save_time_undo_recomputations() -> None:
    actions = list(CANDIDATES.fixed)
    tanh = results_of(GRAPH, "tanh")[3]
    dot = results_of(GRAPH, "dot")[3]
    actions[tanh] = actions[dot] = Action.RECOMPUTE
    draft = SEARCH.arranger.arrange(actions, 1 << 60)
    steps = steps_from(draft, fits=True)
    assert any(step.get(tanh) is Action.KEEP for step in steps)
    assert any(step.get(dot) is Action.KEEP for step in steps)
    both = [s for s in steps if tanh in s and s[tanh] is s.get(dot)]
    assert {step[tanh] for step in both} == {Action.KEEP, Action.OFFLOAD}


def test_impure_values_are_never_recomputed() -> None:
    none = dataclasses.replace(CANDIDATES, recomputable=frozenset())
    for actions in checkpoints(GRAPH, none):
        assert not [v for v in none.forward if actions[v] is Action.RECOMPUTE]
    for step in neighbours(GRAPH, none, trial_of(SEARCH.kept), fits=False):
        assert Action.RECOMPUTE not in step.values()
