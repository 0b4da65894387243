"""The best of all drafts that a search lays out."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxswap._graph.graph import Action
from jaxswap._search.front import Front
from jaxswap._search.limits import Limits
from jaxswap._search.trial import Laid

PATIENCES = (1.0, 0.3)
"""How willingly short gaps are spent on the host. See `absences`."""

HOLDS = (0, 1, 2, 4, 8, 16)
"""How long recomputed values are held. See `backward_entries`."""

LayOut = Callable[[np.ndarray, int], Sequence[Laid]]
"""Lays out actions, given as numbers, in one or several ways, and offers the drafts.
The second argument says how long recomputed values are held."""


class Best:
    """The best draft so far: the fastest that fits, or the smallest if none fits.

    Drafts with `refused` actions never fit, whatever the simulation says. All drafts
    that are offered are also offered to a `front`. `tried` holds actions that were
    tried as a change of another draft. They are not laid out again.
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
        self.tried: set[tuple[int, bytes]] = set()
        self._draft: Laid | None = None

    @property
    def draft(self) -> Laid:
        """The best draft. At least one must have been offered before."""
        assert self._draft is not None
        return self._draft

    @property
    def fits(self) -> bool:
        """Whether the best draft stays within both limits."""
        return not self._rank(self.draft)[0]

    def is_within(self, draft: Laid) -> bool:
        """Whether a draft stays within both limits."""
        return not self._rank(draft)[0]

    def offer(self, draft: Laid) -> None:
        """Take a draft if it is better than the best."""
        self.front.offer(draft)
        if self._draft is None or self._standing(draft) < self._standing(self._draft):
            self._draft = draft

    def cost_seconds(self, draft: Laid, seconds_per_byte: float) -> float:
        """Return the seconds of a draft, plus a price for each byte over the limit."""
        excess, seconds = self._rank(draft)
        return seconds + seconds_per_byte * excess

    def _standing(self, draft: Laid) -> tuple[bool, int, float]:
        """Return what drafts are compared by. No device memory pays for host memory."""
        return (
            self.limits.is_over_on_host(draft.timeline.host_bytes),
            *self._rank(draft),
        )

    def _rank(self, draft: Laid) -> tuple[int, float]:
        """Return the bytes over the limits, then the seconds."""
        timeline, counted = draft.timeline, self.limits.counted_bytes(draft)
        excess = max(0, counted - self.limits.device_bytes)
        if self.limits.host_bytes is not None:
            excess += max(0, timeline.host_bytes - self.limits.host_bytes)
        if self.refused and draft.actions in self.refused:
            excess += timeline.device_bytes
        return excess, timeline.seconds
