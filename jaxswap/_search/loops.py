"""Loops and limits -> what each iteration keeps, swaps and recomputes.

The actions of a loop's values hold for all its iterations. They decide which program is
left to plan outside of the loop. So a few ways to run the loops are tried. Each gives a
program, which is searched like any other. The fastest draft that fits is taken.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from jaxswap._graph.graph import Action, Graph, Segment, alike
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.search import SEARCH_SECONDS, Found, Search
from jaxswap._simulate.draft import Draft


@dataclasses.dataclass(frozen=True)
class WayToRun:
    """One way to run loops.

    Attributes:
        carry: The action of what one iteration hands to the next.
        heavy: The action of a share of the results of heavy operations.
        share: This share, in bytes. It takes the results that are most costly to
            recompute for their size. Everything else is recomputed.
    """

    carry: Action
    heavy: Action
    share: float

    def decide(self, body: Graph) -> tuple[Segment, ...]:
        """Return one segment: the actions are the same in each iteration."""
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
        return alike(body, actions)


def _needed(body: Graph) -> set[int]:
    """Return the forward values that the backward pass reads, directly or not."""
    needed = set(body.residuals())
    for eqn in reversed(body.equations):
        if not eqn.is_backward and not needed.isdisjoint(eqn.outputs):
            needed.update(eqn.inputs)
    return needed


def keep_all(body: Graph) -> tuple[Segment, ...]:
    """Keep every value, as plain JAX does with a loop."""
    return alike(body, [Action.KEEP] * len(body.values))


_SHARES = (1.0, 0.75, 0.5, 0.25)
WAYS: tuple[Callable[[Graph], tuple[Segment, ...]], ...] = (
    keep_all,
    *(WayToRun(Action.KEEP, Action.KEEP, share).decide for share in _SHARES),
    *(WayToRun(Action.OFFLOAD, Action.KEEP, share).decide for share in _SHARES),
    *(WayToRun(Action.OFFLOAD, Action.OFFLOAD, share).decide for share in _SHARES),
    WayToRun(Action.KEEP, Action.RECOMPUTE, 0.0).decide,
    WayToRun(Action.OFFLOAD, Action.RECOMPUTE, 0.0).decide,
)
"""From what plain JAX does to what needs least memory."""


NOTHING: Mapping[int, Lessons] = {}
"""No lessons about any program."""


class Programs:
    """Searches the programs that the ways to run loops give. See `Search`.

    Attributes:
        searches: One search for each program, the fastest program first.
        plain: The function as JAX runs it, with everything kept.
    """

    def __init__(self, searches: Sequence[Search], plain: Draft | None = None) -> None:
        self.searches = sorted(searches, key=lambda s: s.kept.timeline.seconds)
        self.plain = searches[0].kept if plain is None else plain

    def find(
        self,
        limits: Limits,
        lessons: Mapping[int, Lessons] = NOTHING,
        seconds: float = SEARCH_SECONDS,
    ) -> Found:
        """Find the best draft of all programs.

        A program is not searched if it is slower than the best draft so far even with
        everything kept.

        Args:
            limits: How much memory the draft may use.
            lessons: What is known of each program, by its position in `searches`.
            seconds: How much to search, for all programs together.

        Returns:
            The best draft, with its program. The bound holds for all programs.
        """
        best: Found | None = None
        bounds: list[float] = []
        for at, search in enumerate(self.searches):
            is_hopeless = (
                best is not None
                and best.fits
                and search.kept.timeline.seconds >= best.draft.timeline.seconds
            )
            if is_hopeless:
                break
            known = lessons.get(at, NO_LESSONS)
            found = search.find(limits, known, seconds, len(self.searches))
            bounds.append(found.bound_seconds)
            if best is None or _rank(found, limits) < _rank(best, limits):
                best = dataclasses.replace(found, program=at)
        assert best is not None
        bound = min(*bounds, best.draft.timeline.seconds)
        return dataclasses.replace(best, bound_seconds=bound)

    def lay_out_again(
        self, found: Found, limits: Limits, lessons: Mapping[int, Lessons]
    ) -> Found:
        """Lay the actions of a draft out once more, with what was learnt since then."""
        search = self.searches[found.program]
        again = search.lay_out_again(
            found.draft.actions, limits, lessons.get(found.program, NO_LESSONS)
        )
        return dataclasses.replace(again, program=found.program)

    @property
    def is_cut_short(self) -> bool:
        """Whether a search took so long that it was stopped by the clock."""
        return any(search.is_cut_short for search in self.searches)

    def forget(self) -> None:
        """Let all searches start from nothing."""
        for search in self.searches:
            search.forget()


def _rank(found: Found, limits: Limits) -> tuple[bool, bool, float]:
    """Prefer what fits and is fast, then what is small. Host memory is no way out."""
    timeline = found.draft.timeline
    if found.fits:
        return (False, False, timeline.seconds)
    is_over = limits.is_over_on_host(timeline.host_bytes)
    return (True, is_over, float(timeline.device_bytes))
