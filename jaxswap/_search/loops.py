"""Loops and a budget -> what each iteration keeps, swaps and computes again.

What becomes of a loop's values is decided for all iterations at once, and decides
which program there is to plan outside of the loop. So a few ways to run loops, the
rungs of a ladder, are tried: each gives a program, which is searched like any other,
and the fastest that fits is taken.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.search import SEARCH_SECONDS, Found, Search
from jaxswap._simulate.draft import Draft


@dataclasses.dataclass(frozen=True)
class Rung:
    """One way to run loops.

    Attributes:
        carry: What becomes of what one iteration hands to the next.
        heavy: What becomes of results of heavy operations, of a share of them.
        share: The share, in bytes, those first that take longest to compute again for
            their size. All else is computed again.
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
RUNGS: tuple[Callable[[Graph], tuple[Action, ...]], ...] = (
    keep_all,
    *(Rung(Action.KEEP, Action.KEEP, share).decide for share in _SHARES),
    *(Rung(Action.OFFLOAD, Action.KEEP, share).decide for share in _SHARES),
    *(Rung(Action.OFFLOAD, Action.OFFLOAD, share).decide for share in _SHARES),
    Rung(Action.KEEP, Action.RECOMPUTE, 0.0).decide,
    Rung(Action.OFFLOAD, Action.RECOMPUTE, 0.0).decide,
)
"""The ladder: from what JAX does to what needs least memory."""


class Finder(Protocol):
    """What finds drafts: a search, or several."""

    @property
    def eager(self) -> frozenset[int]:
        """Values whose copies back must be done early."""
        ...

    @eager.setter
    def eager(self, values: frozenset[int]) -> None:
        """Note more of them."""
        ...

    @property
    def grounded(self) -> frozenset[int]:
        """Values that may not leave the device."""
        ...

    @grounded.setter
    def grounded(self, values: frozenset[int]) -> None:
        """Note more of them."""
        ...

    @property
    def refused(self) -> frozenset[tuple[Action, ...]]:
        """Actions of drafts whose programs were seen not to fit."""
        ...

    @refused.setter
    def refused(self, actions: frozenset[tuple[Action, ...]]) -> None:
        """Note more of them."""
        ...

    def find(
        self,
        limit_bytes: int,
        host_limit_bytes: int | None = None,
        seconds: float = SEARCH_SECONDS,
        again: Draft | None = None,
    ) -> Found:
        """See `Search.find`."""
        ...

    def forget(self) -> None:
        """See `Search.forget`."""
        ...


class Ladder:
    """Searches the programs that the rungs give; see `Search`.

    Attributes:
        searches: One for each program.
        current: The one that found the last draft.
    """

    def __init__(self, searches: Sequence[Search]) -> None:
        self.searches = sorted(searches, key=lambda s: s.kept.timeline.seconds)
        self.current = self.searches[0]

    @property
    def eager(self) -> frozenset[int]:
        """As in `Search`, of the last draft's program."""
        return self.current.eager

    @eager.setter
    def eager(self, values: frozenset[int]) -> None:
        """Note more of them."""
        self.current.eager = values

    @property
    def grounded(self) -> frozenset[int]:
        """As in `Search`, of the last draft's program."""
        return self.current.grounded

    @grounded.setter
    def grounded(self, values: frozenset[int]) -> None:
        """Note more of them."""
        self.current.grounded = values

    @property
    def refused(self) -> frozenset[tuple[Action, ...]]:
        """As in `Search`, of the last draft's program."""
        return self.current.refused

    @refused.setter
    def refused(self, actions: frozenset[tuple[Action, ...]]) -> None:
        """Note more of them."""
        self.current.refused = actions

    def find(
        self,
        limit_bytes: int,
        host_limit_bytes: int | None = None,
        seconds: float = SEARCH_SECONDS,
        again: Draft | None = None,
    ) -> Found:
        """Find the fastest draft of any program that fits, else the smallest.

        Programs that take longer with everything kept than the best draft so far are
        not searched. The bound is that of all programs.
        """
        if again is not None:
            return self.current.find(limit_bytes, host_limit_bytes, seconds, again)
        best: Found | None = None
        bound = self.searches[0].kept.timeline.seconds
        share = seconds / len(self.searches)
        for search in self.searches:
            is_hopeless = (
                best is not None
                and best.fits
                and search.kept.timeline.seconds >= best.draft.timeline.seconds
            )
            if is_hopeless:
                break
            found = search.find(limit_bytes, host_limit_bytes, share)
            if best is None or _rank(found) < _rank(best):
                best, self.current = found, search
        assert best is not None
        bound = min(bound, best.draft.timeline.seconds)
        return Found(best.draft, bound, best.fits)

    def forget(self) -> None:
        """Have all searches begin anew."""
        for search in self.searches:
            search.forget()


def _rank(found: Found) -> tuple[bool, float]:
    timeline = found.draft.timeline
    if found.fits:
        return (False, timeline.seconds)
    return (True, float(timeline.device_bytes))
