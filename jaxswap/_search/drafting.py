"""Actions -> drafts of one program, laid out and offered to the best one so far.

What to lay out, and how much of it, is decided in `search`.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxswap._graph.graph import Action
from jaxswap._schedule.decision import Policy
from jaxswap._search.best import HOLDS, PATIENCES, Best, LayOut
from jaxswap._search.candidates import Candidates
from jaxswap._search.followed import Followed
from jaxswap._search.front import Front, swaps_any
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.moves import checkpoints, swaps_of_products
from jaxswap._search.sketches import SketchMemory
from jaxswap._search.trial import Laid, Trial, trial_of
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch.program import CODES
from jaxswap._sketch.sketch import Sketcher, codes

GOOD = 1.15
"""A draft is a good start if it is at most this many times as slow as keeping all."""
AGAIN = 20
"""How many drafts are laid out again with results written in place."""


@dataclasses.dataclass(frozen=True)
class Terms:
    """What drafts are laid out under, beside a limit of memory.

    Attributes:
        lessons: What they have to respect.
        in_place: Whether results may be written in place. See `_simulate.in_place`.
    """

    lessons: Lessons = NO_LESSONS
    in_place: bool = True


class Drafting:
    """Lays out drafts of one program, and remembers them for other limits.

    Args:
        arranger: Lays drafts out.
        candidates: The values that are decided on.
        policies: Their drafts take part.
        expects_gaps: Whether gaps between buffers are of interest.

    Attributes:
        kept: The draft in which every candidate stays on the device.
        front: The drafts so far of which none is better in all respects.
    """

    def __init__(
        self,
        arranger: Arranger,
        candidates: Candidates,
        policies: Iterable[Policy] = (),
        *,
        expects_gaps: bool = True,
    ) -> None:
        self.arranger = arranger
        self.kept = arranger.draft(candidates.fixed, ())
        self.front = Front()
        self.sketcher = Sketcher(arranger, expects_gaps=expects_gaps)
        self._sketches = SketchMemory(self.sketcher)
        self._followed = Followed(arranger, self._sketches, policies)
        self._laid_out_eager: frozenset[int] = frozenset()
        self._started: dict[tuple[int, int, bool], Trial] = {}
        self._starts = (
            *swaps_of_products(arranger.graph, candidates),
            *checkpoints(arranger.graph, candidates),
        )

    def count(self) -> int:
        """Return how many drafts were laid out so far, as sketches.

        Without a C compiler a sketch is made of several drafts. It counts once even so:
        a plan does not depend on the machine that makes it.
        """
        return self._sketches.count

    def forget_sketches(self) -> None:
        """Let go of what would fill the memory. The front stays."""
        self._sketches.forget()

    @functools.cached_property
    def known(self) -> tuple[Trial, ...]:
        """What is laid out before any search: everything kept."""
        drafts = (self.kept, self.arranger.all_kept)
        return tuple(map(self._trial_of, drafts))

    def best(self, limits: Limits, lessons: Lessons) -> Best:
        """Return the best of all drafts so far."""
        stale = lessons.grounded | (lessons.eager - self._laid_out_eager)
        self._laid_out_eager = lessons.eager
        self.front.drop(functools.partial(swaps_any, values=stale))
        best = Best(limits, lessons.refused, self.front)
        for draft in (*self.known, *self.front):
            if limits.may_take(draft) and not swaps_any(draft, lessons.grounded):
                best.offer(draft)
        return best

    def is_ample(self, limits: Limits, lessons: Lessons) -> bool:
        """Whether the limits allow everything to be kept."""
        best = Best(limits, lessons.refused)
        return any(map(best.is_within, self.known))

    def is_good(self, best: Best, times: float = GOOD) -> bool:
        """Whether the best draft fits and costs little time."""
        limit = times * self.kept.timeline.seconds
        return best.fits and best.draft.timeline.seconds <= limit

    def start(self, best: Best, terms: Terms, hold_for: int) -> None:
        """Try the starting points. Those that swap are tried until a good one fits."""
        lay_out = self.offering(best, terms)
        for index, actions in enumerate(self._starts):
            numbers = codes(actions)
            if Action.OFFLOAD in actions:
                if best.limits.host_bytes != 0 and not self.is_good(best):
                    lay_out(numbers, hold_for)
                continue
            at = index, hold_for, terms.in_place
            if at not in self._started:  # Nothing is swapped, so no limit matters.
                self._started[at] = self._trial(numbers, 0, terms, hold_for=hold_for)
        for draft in (*self._started.values(), *self._followed.drafts(best.limits)):
            if not swaps_any(draft, terms.lessons.grounded):
                best.offer(draft)

    def offering(self, best: Best, terms: Terms) -> LayOut:
        """Return what sketches some actions, with more and fewer short gaps taken."""

        def lay_out(numbers: np.ndarray, hold_for: int) -> list[Trial]:
            made: list[Trial] = []
            for patience in PATIENCES:
                trial = self.offer(best, terms, numbers, patience, hold_for)
                made.append(trial)
                is_swapped = (trial.numbers == CODES[Action.OFFLOAD]).any()
                if not is_swapped or best.is_within(trial):
                    break
            return made

        return lay_out

    def offer(
        self,
        best: Best,
        terms: Terms,
        numbers: np.ndarray,
        patience: float,
        hold_for: int,
    ) -> Trial:
        """Sketch some actions once, and offer the result."""
        limit_bytes = best.limits.device_bytes
        trial = self._trial(numbers, limit_bytes, terms, patience, hold_for)
        best.offer(trial)
        return trial

    def offer_best_again(self, best: Best, terms: Terms) -> None:
        """Sketch the best drafts so far, on other terms."""
        price = 1 / self.arranger.simulator.rates.swap_out_bytes_per_second
        cost = functools.partial(best.cost_seconds, seconds_per_byte=price)
        lay_out = self.offering(best, terms)
        for laid in sorted(best.front, key=cost)[:AGAIN]:
            trial = self._trial_of(laid)
            lay_out(trial.numbers, trial.hold_for)

    def offer_holds(self, best: Best, terms: Terms) -> None:
        """Sketch the best draft with what is recomputed held for each time.

        Few changes of actions at a time seldom get there: they were chosen for the time
        for which values were held so far.
        """
        lay_out, trial = self.offering(best, terms), self._trial_of(best.draft)
        for hold_for in HOLDS:
            lay_out(trial.numbers, hold_for)

    def lay_out_again(self, draft: Draft, limits: Limits, lessons: Lessons) -> Best:
        """Lay a draft out once more, with the values that became eager since then."""
        options: dict[str, Any] = {"eager": lessons.eager, "hold_for": draft.hold_for}
        best = Best(limits)
        again = self.sketcher.draft(
            codes(draft.actions), limits.device_bytes, **options
        )
        best.offer(self._trial_of(again))
        return best

    def _trial(
        self,
        numbers: np.ndarray,
        limit_bytes: int,
        terms: Terms,
        patience: float = PATIENCES[0],
        hold_for: int = 0,
    ) -> Trial:
        """Sketch some actions once."""
        numbers = terms.lessons.allowed(numbers)
        options: dict[str, Any] = {"patience": patience, "eager": terms.lessons.eager}
        options |= {"hold_for": hold_for, "in_place": terms.in_place}
        sketch = self._sketches.sketch(numbers, limit_bytes, **options)

        def make() -> Draft:
            return self.sketcher.draft(numbers, limit_bytes, **options)

        return Trial(numbers, sketch, make, patience, hold_for)

    def _trial_of(self, laid: Laid) -> Trial:
        return trial_of(laid, expects_gaps=self.sketcher.expects_gaps)
