"""The optimum of a random program by brute force."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from random_programs import Case

from jaxswap._graph.graph import Action
from jaxswap._search.best import PATIENCES
from jaxswap._simulate.draft import Draft


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best of all layouts.

    Attributes:
        draft: the fastest that fits; `None` if none does.
        smallest_bytes: device memory of the smallest.
        count: how many layouts were simulated.
    """

    draft: Draft | None
    smallest_bytes: int
    count: int


def distinct_choices(case: Case) -> Iterator[tuple[list[Action], tuple[float, ...]]]:
    """One list of actions for each layout that differs from the others.

    All combinations of keep, offload and recompute of the forward candidates, and of
    keep and offload of the backward ones. Those that differ only in the offloading of
    what cannot leave, or in the recomputation of what nobody needs, are laid out alike
    and given once. With each come the patiences that matter to it: where all that
    leaves has one gap only, they make no difference.
    """
    candidates = case.candidates
    free = [v for v in candidates.forward if v in candidates.recomputable]
    seen: set[tuple[object, ...]] = set()
    for choice in itertools.product((False, True), repeat=len(free)):
        actions = list(candidates.fixed)
        for v, is_recomputed in zip(free, choice, strict=True):
            if is_recomputed:
                actions[v] = Action.RECOMPUTE
        order = case.arranger.arrange(actions, 0).order
        gaps = {
            v: len(order.gaps(v))
            for v in (*candidates.forward, *candidates.backward)
            if actions[v] is Action.KEEP and order.gaps(v)
        }
        parts = tuple(entry.parts for entry in order.entries)
        for leaving in itertools.product((False, True), repeat=len(gaps)):
            left = [v for v, leaves in zip(gaps, leaving, strict=True) if leaves]
            if (parts, *left) in seen:
                continue
            seen.add((parts, *left))
            chosen = list(actions)
            for v in left:
                chosen[v] = Action.OFFLOAD
            is_plain = all(gaps[v] == 1 for v in left)
            yield chosen, PATIENCES[:1] if is_plain else PATIENCES


def brute_force(
    case: Case, limits: Sequence[int], *, is_pruned: bool = False
) -> list[Optimum]:
    """Lay out every choice below each limit; the search has no part in it.

    Args:
        case: the program.
        limits: device memory for each of the results.
        is_pruned: leave out a layout below a limit if it needs more than that when it
            is laid out for no memory at all, or more time than the best when it is
            laid out for all the memory there is. Sound as long as a lower limit makes
            no layout larger or faster, which is nearly always so.
    """
    best: list[Draft | None] = [None] * len(limits)
    smallest = case.kept_bytes
    count = 0
    arrange = case.arranger.arrange
    for actions, patiences in distinct_choices(case):
        for patience in patiences:
            tight = arrange(actions, 0, patience=patience)
            least = tight.timeline.device_bytes
            smallest = min(smallest, least)
            count += 1
            fastest: float | None = None
            for at, limit in enumerate(limits):
                so_far = best[at]
                draft = tight
                if Action.OFFLOAD in actions:
                    if is_pruned and least > limit:
                        continue
                    if is_pruned and so_far is not None:
                        if fastest is None:
                            loose = arrange(actions, 1 << 60, patience=patience)
                            fastest = loose.timeline.seconds
                            count += 1
                        if fastest >= so_far.timeline.seconds:
                            continue
                    draft = arrange(actions, limit, patience=patience)
                    count += 1
                timeline = draft.timeline
                smallest = min(smallest, timeline.device_bytes)
                if timeline.device_bytes > limit:
                    continue
                if so_far is None or timeline.seconds < so_far.timeline.seconds:
                    best[at] = draft
    return [Optimum(draft, smallest, count) for draft in best]
