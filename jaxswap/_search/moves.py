"""Where a search starts, and the changes that it tries on a draft."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._search.candidates import Candidates
from jaxswap._search.trial import Trial
from jaxswap._sketch.program import CODES

REACHES = (2, 4, 8, 16, 32, 64)
"""Distances, in candidates, between the cuts of the starting points."""
MOST_FOR_PAIRS = 32
"""Up to this many candidates, two changes at once are tried if one does not help."""
TRIES = 60
"""How many changes are tried on one draft."""


def checkpoints(graph: Graph, candidates: Candidates) -> Iterator[list[Action]]:
    """Store what is alive at some cuts of the forward pass. Recompute the rest.

    This is the classic form of recomputation (Chen et al. 2016, "Training Deep Nets
    with Sublinear Memory Cost"), once with the stored values on the device and once
    with them on the host. Cuts are made where fewer bytes are alive than nearby.
    """
    seen: set[tuple[int, ...]] = set()
    alive = _alive(graph, candidates)
    levels = {v: sum(graph.values[u].nbytes for u in alive[v]) for v in alive}
    for reach in REACHES:
        stored = _alive_at_cuts(alive, levels, reach)
        if stored in seen or not stored:
            continue
        seen.add(stored)
        for action in (Action.KEEP, Action.OFFLOAD):
            actions = list(candidates.fixed)
            for v in candidates.forward:
                if v in candidates.recomputable:
                    actions[v] = Action.RECOMPUTE
            for v in stored:
                actions[v] = action
            yield actions


def swaps_of_products(graph: Graph, candidates: Candidates) -> Iterator[list[Action]]:
    """Swap what is costly to compute, recompute the rest: as `SwapHeavy` does.

    Done twice: idle values of the backward pass are kept, or swapped.
    """
    decided = SwapHeavy().decide(graph).actions
    for swapped in ((), candidates.backward):
        actions = list(candidates.fixed)
        for v in candidates.forward:
            is_possible = v in candidates.recomputable
            if decided[v] is not Action.RECOMPUTE or is_possible:
                actions[v] = decided[v]
        for v in swapped:
            actions[v] = Action.OFFLOAD
        yield actions


def _alive(graph: Graph, candidates: Candidates) -> dict[int, list[int]]:
    """Return the candidates that are alive when each is made, in that order."""
    made, last = _forward_lives(graph, candidates)
    order = sorted(made, key=lambda v: made[v])
    return {v: [u for u in order if made[u] <= made[v] < last[u]] for v in order}


def _alive_at_cuts(
    alive: Mapping[int, Sequence[int]], nbytes: Mapping[int, int], reach: int
) -> tuple[int, ...]:
    """Return candidates alive at cuts: no fewer bytes are alive within `reach`."""
    levels = list(nbytes.values())
    stored: set[int] = set()
    previous = -reach - 1
    for i, v in enumerate(alive):
        nearby = levels[max(0, i - reach) : i + reach + 1]
        if levels[i] == min(nearby) and i - previous > reach:
            previous = i
            stored.update(alive[v])
    return tuple(sorted(stored))


def _forward_lives(
    graph: Graph, candidates: Candidates
) -> tuple[dict[int, int], dict[int, int]]:
    """Return where the forward pass makes each candidate and where it last reads it."""
    decided = set(candidates.forward)
    executed = graph.ancestors(graph.outputs)
    made: dict[int, int] = {}
    last: dict[int, int] = {}
    roots: dict[int, frozenset[int]] = {}
    for eqn in graph.equations:
        if eqn.is_backward or eqn.index not in executed:
            continue
        above = frozenset().union(*(roots.get(v, frozenset()) for v in eqn.inputs))
        last.update(dict.fromkeys(above, eqn.index))
        for v in eqn.outputs:
            roots[v] = frozenset((v,)) if v in decided else above
            if v in decided:
                made[v] = last[v] = eqn.index
            elif not (eqn.is_cheap and not eqn.is_reduction):
                roots[v] = frozenset()
    return made, last


Change = dict[int, Action]
"""New actions of some values."""


def changed(numbers: np.ndarray, change: Change) -> np.ndarray:
    """Return the numbers of actions after a change."""
    found = numbers.copy()
    for v, action in change.items():
        found[v] = CODES[action]
    return found


def neighbours(
    graph: Graph, candidates: Candidates, trial: Trial, *, fits: bool
) -> Iterator[Change]:
    """Return changes of a draft's actions, the most promising first."""
    changes = (
        _to_save_time(candidates, trial)
        if fits
        else _to_save_memory(graph, candidates, trial)
    )
    first = list(itertools.islice(changes, TRIES))
    pairs: Iterable[Change] = ()
    if len(candidates.forward) <= MOST_FOR_PAIRS:
        every = _single_changes(graph, candidates, trial)
        pairs = (a | b for a, b in itertools.combinations(every, 2))
    for change in itertools.chain(first, pairs):
        if any(trial.action(v) is not action for v, action in change.items()):
            yield change


def _single_changes(graph: Graph, candidates: Candidates, trial: Trial) -> list[Change]:
    """Return every other action of every candidate, the largest candidates first."""
    decided = (*candidates.forward, *candidates.backward)
    return [
        {v: action}
        for v in sorted(decided, key=lambda v: -graph.values[v].nbytes)
        for action in Action
        if action is not trial.action(v)
        and (action is not Action.RECOMPUTE or v in candidates.recomputable)
    ]


def _to_save_memory(
    graph: Graph, candidates: Candidates, trial: Trial
) -> Iterator[Change]:
    """Return changes of what is alive at the peak, and cuts of long recomputations."""
    alive = set(np.flatnonzero(trial.timeline.is_alive).tolist())
    decided = {*candidates.forward, *candidates.backward}
    mine = sorted(alive & decided, key=lambda v: (-graph.values[v].nbytes, v))
    recomputed = [
        v
        for v in candidates.forward
        if v in alive and trial.action(v) is Action.RECOMPUTE
    ]
    for action in (Action.OFFLOAD, Action.KEEP):
        for pieces in (2, 3, 4, 6):
            step = len(recomputed) // pieces
            if step:
                yield dict.fromkeys(recomputed[step - 1 :: step], action)
    for v in mine:
        for action in (Action.OFFLOAD, Action.RECOMPUTE, Action.KEEP):
            if action is not Action.RECOMPUTE or v in candidates.recomputable:
                yield {v: action}


def _to_save_time(candidates: Candidates, trial: Trial) -> Iterator[Change]:
    """Return changes of what costs time, the most costly first."""
    cost = trial.timeline.cost_seconds
    dearest = [
        v
        for v in sorted({*candidates.forward, *candidates.backward})
        if cost[v] > 0 or trial.action(v) is Action.OFFLOAD
    ]
    dearest.sort(key=lambda v: -cost[v])
    yield from _groups(candidates, trial, dearest)
    for v in dearest:
        for action in Action:
            is_allowed = action is not Action.RECOMPUTE or v in candidates.recomputable
            if is_allowed and action is not trial.action(v):
                yield {v: action}


def _groups(
    candidates: Candidates, trial: Trial, dearest: list[int]
) -> Iterator[Change]:
    """Return one change for many values at once, for half as many each time."""
    for now, then in (
        (Action.OFFLOAD, Action.RECOMPUTE),
        (Action.OFFLOAD, Action.KEEP),
        (Action.RECOMPUTE, Action.KEEP),
        (Action.RECOMPUTE, Action.OFFLOAD),
    ):
        mine = [
            v
            for v in dearest
            if trial.action(v) is now
            and (then is not Action.RECOMPUTE or v in candidates.recomputable)
        ]
        count = len(mine) // 2
        while count > 1:
            yield dict.fromkeys(mine[:count], then)
            count //= 2
