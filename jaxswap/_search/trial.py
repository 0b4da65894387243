"""Actions that were tried: what their draft takes, and the draft if it is asked for."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from jaxswap._graph.graph import Action
from jaxswap._schedule.instructions import Swap
from jaxswap._simulate.draft import Draft
from jaxswap._sketch.program import ACTIONS
from jaxswap._sketch.sketch import Sketch, actions_of_codes, codes, sketch_of


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Actions, what their draft takes, and how to lay it out.

    Attributes:
        numbers: The number of each value's action.
        timeline: What the draft takes.
        make: Lays it out.
        patience: How willingly short gaps are spent on the host. See `absences`.
        hold_for: How long recomputed values are held. See `backward_entries`.
        is_followed: Whether the draft is that of a policy. See `followed`.
    """

    numbers: np.ndarray
    timeline: Sketch
    make: Callable[[], Draft]
    patience: float = 1.0
    hold_for: int = 0
    is_followed: bool = False

    @functools.cached_property
    def draft(self) -> Draft:
        """The draft itself."""
        return self.make()

    @functools.cached_property
    def actions(self) -> tuple[Action, ...]:
        """One action for each value."""
        return actions_of_codes(self.numbers)

    @property
    def fragmented_bytes(self) -> int:
        """What XLA is expected to leave free between buffers."""
        return self.timeline.fragmented_bytes

    def action(self, v: int) -> Action:
        """Return the action of a value."""
        return ACTIONS[self.numbers[v]]

    @property
    def swaps(self) -> tuple[Swap, ...]:
        """The swaps of the draft."""
        return self.draft.swaps


Laid = Draft | Trial
"""Something that can be compared by what it takes."""


def trial_of(laid: Laid, *, expects_gaps: bool = True) -> Trial:
    """Return the trial of what may be a draft, with or without gaps between buffers."""
    if isinstance(laid, Trial):
        return laid
    numbers, timeline = codes(laid.actions), sketch_of(laid, expects_gaps=expects_gaps)
    return Trial(numbers, timeline, lambda: laid, hold_for=laid.hold_for)


def draft_of(laid: Laid) -> Draft:
    """Return the draft of what may be a trial."""
    return laid.draft if isinstance(laid, Trial) else laid
