"""The best of all drafts that a search lays out."""

from collections.abc import Callable, Sequence

from jaxswap._graph.graph import Action
from jaxswap._search.front import Front
from jaxswap._search.limits import Limits
from jaxswap._simulate.draft import Draft

PATIENCES = (1.0, 0.3)
"""How willingly short gaps are spent on the host; see `absences`."""

LayOut = Callable[[Sequence[Action]], Sequence[Draft]]
"""Lays actions out, in one or several ways, and offers the drafts to a `Best`."""


class Best:
    """The best draft so far: the fastest that fits, else the smallest.

    Drafts with `refused` actions never fit, whatever the simulation says. All that is
    offered is offered to a `front` too. What was `tried` a step away from another
    draft is not laid out again.
    """

    def __init__(
        self,
        limits: Limits,
        refused: frozenset[tuple[Action, ...]] = frozenset(),
        front: Front | None = None,
    ) -> None:
        self.limits = limits
        self.refused = refused
        self.front = front or Front()
        self.tried: set[tuple[Action, ...]] = set()
        self._draft: Draft | None = None

    @property
    def draft(self) -> Draft:
        """The best draft; something was offered before."""
        assert self._draft is not None
        return self._draft

    @property
    def fits(self) -> bool:
        """Whether it stays within both limits."""
        return not self._rank(self.draft)[0]

    def is_within(self, draft: Draft) -> bool:
        """Whether a draft stays within both limits."""
        return not self._rank(draft)[0]

    def offer(self, draft: Draft) -> None:
        """Take a draft if it is better than the best."""
        self.front.offer(draft)
        if self._draft is None or self._rank(draft) < self._rank(self._draft):
            self._draft = draft

    def cost_seconds(self, draft: Draft, seconds_per_byte: float) -> float:
        """Seconds of a draft, with a price for what does not fit."""
        excess, seconds = self._rank(draft)
        return seconds + seconds_per_byte * excess

    def _rank(self, draft: Draft) -> tuple[int, float]:
        """What does not fit, in bytes, then seconds."""
        timeline = draft.timeline
        excess = max(0, timeline.device_bytes - self.limits.device_bytes)
        if self.limits.host_bytes is not None:
            excess += max(0, timeline.host_bytes - self.limits.host_bytes)
        if draft.actions in self.refused:
            excess += timeline.device_bytes
        return excess, timeline.seconds
