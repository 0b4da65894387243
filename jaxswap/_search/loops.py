"""Loops and limits -> what each iteration keeps, swaps and recomputes.

What becomes of a loop's values is decided for all iterations at once, and decides
which program there is to plan outside of the loop. So a few ways to run loops are
tried: each gives a program, which is searched like any other, and the fastest that fits
is taken.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.search import SEARCH_SECONDS, Found, Search


@dataclasses.dataclass(frozen=True)
class WayToRun:
    """One way to run loops.

    Attributes:
        carry: What becomes of what one iteration hands to the next.
        heavy: What becomes of results of heavy operations, of a share of them.
        share: The share, in bytes, those first that take longest to recompute for
            their size. All else is recomputed.
    """

    carry: Action
    heavy: Action
    share: float

    def decide(self, body: Graph) -> tuple[Action, ...]:
        """Return the action of each value of a loop's body."""
        actions = [Action.RECOMPUTE] * len(body.values)
        for v in body.carried:
            actions[v] = self.carry
        needed = _needed(body)
        flops = {
            v: eqn.flops
            for eqn in body.equations
            if eqn.is_heavy and not eqn.is_backward
            for v in eqn.outputs
            if body.values[v].nbytes and v in needed
        }
        nbytes = {v: body.values[v].nbytes for v in flops}
        left = self.share * sum(nbytes.values())
        for v in sorted(flops, key=lambda v: -flops[v] / nbytes[v]):
            left -= nbytes[v]
            if left < -nbytes[v] / 2:
                break
            actions[v] = self.heavy
        return tuple(actions)


def _needed(body: Graph) -> set[int]:
    """Forward values that the backward pass reads, or that make one that it reads."""
    needed = set(body.residuals())
    for eqn in reversed(body.equations):
        if not eqn.is_backward and not needed.isdisjoint(eqn.outputs):
            needed.update(eqn.inputs)
    return needed


def keep_all(body: Graph) -> tuple[Action, ...]:
    """Leave a loop to JAX."""
    return (Action.KEEP,) * len(body.values)


_SHARES = (1.0, 0.75, 0.5, 0.25)
WAYS: tuple[Callable[[Graph], tuple[Action, ...]], ...] = (
    keep_all,
    *(WayToRun(Action.KEEP, Action.KEEP, share).decide for share in _SHARES),
    *(WayToRun(Action.OFFLOAD, Action.KEEP, share).decide for share in _SHARES),
    *(WayToRun(Action.OFFLOAD, Action.OFFLOAD, share).decide for share in _SHARES),
    WayToRun(Action.KEEP, Action.RECOMPUTE, 0.0).decide,
    WayToRun(Action.OFFLOAD, Action.RECOMPUTE, 0.0).decide,
)
"""From what JAX does to what needs least memory."""


NOTHING: Mapping[int, Lessons] = {}
"""No lessons of any program."""


class Programs:
    """Searches the programs that the ways to run loops give; see `Search`.

    Attributes:
        searches: One for each program, the fastest first.
    """

    def __init__(self, searches: Sequence[Search]) -> None:
        self.searches = sorted(searches, key=lambda s: s.kept.timeline.seconds)

    def find(
        self,
        limits: Limits,
        lessons: Mapping[int, Lessons] = NOTHING,
        seconds: float = SEARCH_SECONDS,
    ) -> Found:
        """Find the best draft of any program.

        Programs that take longer with everything kept than the best draft so far are
        not searched.

        Args:
            limits: What the draft may use.
            lessons: What is known of each program, by its position in `searches`.
            seconds: Time to search, all programs together.

        Returns:
            The best draft, with the program that it is of. The bound is that of all
            programs.
        """
        best: Found | None = None
        bounds: list[float] = []
        share = seconds / len(self.searches)
        for at, search in enumerate(self.searches):
            is_hopeless = (
                best is not None
                and best.fits
                and search.kept.timeline.seconds >= best.draft.timeline.seconds
            )
            if is_hopeless:
                break
            found = search.find(limits, lessons.get(at, NO_LESSONS), share)
            bounds.append(found.bound_seconds)
            if best is None or _rank(found) < _rank(best):
                best = dataclasses.replace(found, program=at)
        assert best is not None
        bound = min(*bounds, best.draft.timeline.seconds)
        return dataclasses.replace(best, bound_seconds=bound)

    def lay_out_again(
        self, found: Found, limits: Limits, lessons: Mapping[int, Lessons]
    ) -> Found:
        """Lay the actions of a draft out once more, with what was learnt since."""
        search = self.searches[found.program]
        again = search.lay_out_again(
            found.draft.actions, limits, lessons.get(found.program, NO_LESSONS)
        )
        return dataclasses.replace(again, program=found.program)

    def forget(self) -> None:
        """Have all searches begin anew."""
        for search in self.searches:
            search.forget()


def _rank(found: Found) -> tuple[bool, float]:
    timeline = found.draft.timeline
    if found.fits:
        return (False, timeline.seconds)
    return (True, float(timeline.device_bytes))
