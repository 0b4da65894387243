"""Candidates and a limit of memory -> the best draft that was found, and a bound.

The linear model proposes (see `proposals`), and the simulator decides. Then the drafts
are improved by a few actions at a time (see `descent`), and at random (see `wander`),
until the quota of drafts is spent. The second half of it is for drafts whose results
are written in place (see `_simulate.in_place`).
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
from jaxswap._search.descent import descend
from jaxswap._search.exact import Exact
from jaxswap._search.followed import Followed
from jaxswap._search.front import Front, swaps_any
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.moves import checkpoints, swaps_of_products
from jaxswap._search.proposals import Proposals
from jaxswap._search.quota import Quota
from jaxswap._search.relax import relax
from jaxswap._search.sketches import SketchMemory
from jaxswap._search.trial import Laid, Trial, draft_of, trial_of
from jaxswap._search.wander import wander
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch.program import CODES
from jaxswap._sketch.sketch import NO_LIMIT, Sketcher, actions_of_codes, codes

GOOD = 1.15
"""A draft is a good start if it is at most this many times as slow as keeping all."""
FAIR = 1.5
"""A draft that recomputes nothing more than once is a fair one up to here."""
EQUATIONS_PER_SECOND = 3_000_000
"""How many equations a usual processor lays out in a second. Seconds of a search stand
for that many. They are counted, not timed: plans do not depend on the machine."""
FEWEST, MOST = 100, 1000
"""The fewest and the most drafts that stand for a second."""
SEARCH_SECONDS = 3.0
"""Seconds for the search below one limit."""
EXACT_DRAFTS = 20
"""How many times as many drafts a solution to the end may take: it seldom does."""
MOST_SECONDS = 120.0
"""A search ends after this time, whatever it has done. A safety net: where it is hit,
the plan depends on the machine."""
SHARES = (0.25, 0.15)
"""Shares of the drafts: for a search, for a search without swaps. What is left improves
the drafts of both. Plans without swaps are the best on slow links, but a mixed search
finds them late."""
DESCENTS = 1 / 3
"""Share of the improvements that change few actions at a time, not at random."""
HARD, FURTHER = 1.2, 2
"""Where the best draft takes so many times the seconds of keeping all, the search goes
on for so many times as many drafts."""
AGAIN = 20
"""How many drafts are laid out again with results written in place."""
LOOSER = (1.0, 1.1, 1.2)
"""The search without swaps is made for this many times the limit. What is over the
limit can then be swapped."""


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """The result of a search.

    Attributes:
        draft: The fastest draft that fits. If none fits, the smallest.
        bound_seconds: No draft is faster, by the planner's model.
        fits: Whether the draft fits.
        program: The number of the program that it belongs to. See `Programs`.
    """

    draft: Draft
    bound_seconds: float
    fits: bool
    program: int = 0


class Search:
    """Finds drafts of one program, and remembers them for searches with other limits.

    Args:
        arranger: Lays drafts out.
        candidates: The values that are decided on.
        policies: Their drafts take part.
        expects_gaps: Whether gaps between buffers are of interest: where programs are
            compiled.

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
        self.candidates = candidates
        self.kept = arranger.draft(candidates.fixed, ())
        self.front = Front()
        self.sketcher = Sketcher(arranger, expects_gaps=expects_gaps)
        self.exact = Exact(arranger, candidates, self.sketcher)
        self.sketches = SketchMemory(self.sketcher)
        self.followed = Followed(arranger, self.sketches, policies)
        self.proposals = Proposals(arranger, candidates, self.kept, self.sketcher)
        self.is_cut_short = False
        self._in_place = False
        self._laid_out_eager: frozenset[int] = frozenset()
        self.started: dict[tuple[int, int, int], Laid] = {}
        self._starts = (
            *swaps_of_products(arranger.graph, candidates),
            *checkpoints(arranger.graph, candidates),
        )

    def count(self) -> int:
        """Return how many drafts were laid out so far."""
        return self.sketches.count + self.arranger.draft_count

    def drafts(self, seconds: float, programs: int = 1) -> int:
        """Return how many drafts stand for so many seconds, shared by some programs."""
        equations = max(1, len(self.arranger.graph.equations))
        each = EQUATIONS_PER_SECOND / equations / programs
        return int(seconds * min(max(each, FEWEST), MOST))

    def find(
        self,
        limits: Limits,
        lessons: Lessons = NO_LESSONS,
        seconds: float = SEARCH_SECONDS,
        programs: int = 1,
    ) -> Found:
        """Search for the fastest draft that fits. If none fits, find the smallest.

        Args:
            limits: How much memory the draft may use.
            lessons: What the draft has to respect.
            seconds: How much to search. They stand for a number of drafts.
            programs: How many programs are searched in these seconds.
        """
        drafts = self.drafts(seconds, programs)
        quota = Quota.of(drafts, self.count, MOST_SECONDS)
        # The exact search sees all drafts: those with results in place, too.
        self._in_place = self.exact.is_small
        share = quota if self._in_place else quota.within(drafts / 2)
        bound, is_done = self._begin(limits, lessons, share)
        if not is_done:
            self._go_on(limits, lessons, share, quota)
            is_easy = self._is_good(self._best(limits, lessons), HARD)
            if not (is_easy or self.exact.is_small):
                further = Quota.of(FURTHER * drafts, self.count, MOST_SECONDS)
                self._improve_all(limits, lessons, further)
        self.sketches.forget()
        return _found(self._best(limits, lessons), bound)

    def _begin(
        self, limits: Limits, lessons: Lessons, quota: Quota
    ) -> tuple[float, bool]:
        """Search from the start. Return a bound, and whether nothing can be better."""
        drafts = quota.left
        is_mixed = limits.host_bytes != 0 and not self.exact.is_small
        swapless = _swapless(limits) if is_mixed else []
        if is_mixed:
            hard = (o for o in (limits, *swapless) if not self._is_ample(o, lessons))
            self.proposals.begin(hard, lessons)
        share = SHARES[0] if is_mixed else 0.8
        bound = self._search(limits, lessons, quota.within(share * drafts))
        best = self._best(limits, lessons)
        is_optimal = best.fits and self.exact.is_small
        is_optimal &= bound >= best.draft.timeline.seconds
        is_done = is_optimal or self._is_ample(limits, lessons)
        for one in () if is_done else swapless:
            part = quota.within(SHARES[1] * drafts / len(LOOSER))
            self._search(one, lessons, part)
        self.proposals.end()
        return bound, is_done

    def _go_on(
        self, limits: Limits, lessons: Lessons, share: Quota, quota: Quota
    ) -> None:
        """Improve drafts for a share of a quota, then those with results in place."""
        best = self._best(limits, lessons)
        if best.fits:
            self._improve_all(limits, lessons, share)
        if not self._in_place:
            self._in_place = True
            if best.fits:
                self._lay_out_best_again(self._best(limits, lessons), lessons)
            else:
                self._begin(limits, lessons, quota)
        self._improve_all(limits, lessons, quota)

    def _lay_out_best_again(self, best: Best, lessons: Lessons) -> None:
        price = 1 / self.arranger.simulator.rates.swap_out_bytes_per_second
        cost = functools.partial(best.cost_seconds, seconds_per_byte=price)
        for laid in sorted(best.front, key=cost)[:AGAIN]:
            trial = trial_of(laid)
            self._lay_out(trial.numbers, trial.hold_for, best=best, lessons=lessons)

    def _improve_all(self, limits: Limits, lessons: Lessons, quota: Quota) -> None:
        """Improve the best drafts so far. If none fits, make them smaller first."""
        best = self._aim(limits, lessons)
        if not best.fits:
            self._improve(best, lessons, quota.within(quota.left / 2), 1)
            best = self._aim(limits, lessons)
        self._improve(best, lessons, quota, 0 if best.fits else 2)
        self.is_cut_short |= quota.is_late

    def lay_out_again(self, draft: Draft, limits: Limits, lessons: Lessons) -> Found:
        """Lay a draft out once more, with the values that became eager since then."""
        options: dict[str, Any] = {"eager": lessons.eager, "hold_for": draft.hold_for}
        best = Best(limits)
        again = self.arranger.arrange(draft.actions, limits.device_bytes, **options)
        best.offer(trial_of(again, expects_gaps=self.sketcher.expects_gaps))
        return _found(best, self.kept.timeline.seconds)

    def forget(self) -> None:
        """Start from nothing: drafts like a policy's do not lead to the least memory.

        XLA does not keep to the waits of policies.
        """
        self.front = Front()

    @functools.cached_property
    def _known(self) -> tuple[Trial, ...]:
        """What is laid out before any search: everything kept."""
        drafts = (self.kept, self.arranger.all_kept)
        return tuple(
            trial_of(draft, expects_gaps=self.sketcher.expects_gaps) for draft in drafts
        )

    def _best(self, limits: Limits, lessons: Lessons) -> Best:
        """Return the best of all drafts so far."""
        stale = lessons.grounded | (lessons.eager - self._laid_out_eager)
        self._laid_out_eager = lessons.eager
        self.front.drop(functools.partial(swaps_any, values=stale))
        best = Best(limits, lessons.refused, self.front)
        # XLA does not keep to the waits of policies, so their memory is not reliable.
        left_out = self.followed if limits.aim is Aim.SMALLEST_OWN else ()
        for draft in (*self._known, *self.front):
            if draft not in left_out and not swaps_any(draft, lessons.grounded):
                best.offer(draft)
        return best

    def _is_ample(self, limits: Limits, lessons: Lessons) -> bool:
        """Whether the limits allow everything to be kept."""
        best = Best(limits, lessons.refused)
        return any(map(best.is_within, self._known))

    def _search(self, limits: Limits, lessons: Lessons, quota: Quota) -> float:
        """Search once, for a part of the drafts. Return a bound on the seconds."""
        drafts = quota.left
        best = self._best(limits, lessons)
        all_kept = self.arranger.all_kept
        bound = min(self.kept.timeline.seconds, all_kept.timeline.seconds)
        if self._is_ample(limits, lessons):
            return bound
        lay_out = functools.partial(self._lay_out, best=best, lessons=lessons)
        self._start(best, lessons, lay_out, HOLDS[0])
        relax(best, self.candidates, lay_out)
        bound += self.proposals.offer(best, lessons, lay_out)
        for hold_for in HOLDS[1:]:
            if self._is_good(best, FAIR):
                break
            self._start(best, lessons, lay_out, hold_for)
        if self.exact.is_small:
            exact = self.exact.solve(
                best,
                lay_out,
                quota.within(drafts * EXACT_DRAFTS),
                lessons.grounded,
            )
            bound = max(bound, exact)
        if not best.fits or bound < best.draft.timeline.seconds:
            descend(best, self.arranger, self.candidates, lay_out, quota)
        return bound

    def _aim(self, limits: Limits, lessons: Lessons) -> Best:
        """Return the best of all drafts so far. If none fits, look for the smallest."""
        best = self._best(limits, lessons)
        if best.fits or limits.aim is not Aim.FASTEST:
            return best
        least = dataclasses.replace(limits, device_bytes=0, aim=Aim.SMALLEST)
        return self._best(least, lessons)

    def _improve(self, best: Best, lessons: Lessons, quota: Quota, turn: int) -> None:
        """Improve the best drafts by a few changes at a time, then by random ones."""
        lay_out = functools.partial(self._lay_out, best=best, lessons=lessons)
        share = quota.within(DESCENTS * quota.left)
        descend(best, self.arranger, self.candidates, lay_out, share)
        self._wander(best, lessons, quota, turn)

    def _wander(self, best: Best, lessons: Lessons, quota: Quota, turn: int) -> None:
        """Improve the best drafts by random changes."""

        def lay_out(numbers: np.ndarray, patience: float, hold_for: int) -> Trial:
            limit_bytes = best.limits.device_bytes
            trial = self._trial(numbers, limit_bytes, lessons, patience, hold_for)
            best.offer(trial)
            return trial

        rates = self.arranger.simulator.rates
        wander(
            best,
            self.candidates,
            self.arranger.graph,
            lay_out,
            quota,
            1 / rates.swap_out_bytes_per_second,
            turn,
        )

    def _start(
        self, best: Best, lessons: Lessons, lay_out: LayOut, hold_for: int
    ) -> None:
        """Try the starting points. Those that swap are tried until a good one fits."""
        for index, actions in enumerate(self._starts):
            numbers = codes(actions)
            if Action.OFFLOAD in actions:
                if best.limits.host_bytes != 0 and not self._is_good(best):
                    lay_out(numbers, hold_for)
                continue
            for limit_bytes in (0, NO_LIMIT):
                at = index, hold_for, limit_bytes
                if at not in self.started:
                    trial = self._trial(
                        numbers, limit_bytes, lessons, hold_for=hold_for
                    )
                    self.started[at] = trial
        is_own = best.limits.aim is Aim.SMALLEST_OWN  # As in `_best`.
        followed = () if is_own else self.followed.drafts(best.limits.device_bytes)
        for draft in (*self.started.values(), *followed):
            if not swaps_any(draft, lessons.grounded):
                best.offer(draft)

    def _is_good(self, best: Best, times: float = GOOD) -> bool:
        """Whether the best draft fits and costs little time."""
        limit = times * self.kept.timeline.seconds
        return best.fits and best.draft.timeline.seconds <= limit

    def _lay_out(
        self, numbers: np.ndarray, hold_for: int = 0, *, best: Best, lessons: Lessons
    ) -> list[Trial]:
        """Sketch some actions, with more and with fewer short gaps taken."""
        made: list[Trial] = []
        for patience in PATIENCES:
            limit_bytes = best.limits.device_bytes
            trial = self._trial(numbers, limit_bytes, lessons, patience, hold_for)
            best.offer(trial)
            made.append(trial)
            is_swapped = (trial.numbers == CODES[Action.OFFLOAD]).any()
            if not is_swapped or best.is_within(trial):
                break
        return made

    def _trial(
        self,
        numbers: np.ndarray,
        limit_bytes: int,
        lessons: Lessons,
        patience: float = PATIENCES[0],
        hold_for: int = 0,
    ) -> Trial:
        """Sketch some actions once."""
        numbers = lessons.allowed(numbers)
        options: dict[str, Any] = {"patience": patience, "eager": lessons.eager}
        options |= {"hold_for": hold_for, "in_place": self._in_place}
        sketch = self.sketches.sketch(numbers, limit_bytes, **options)

        def make() -> Draft:
            return self.arranger.arrange(
                actions_of_codes(numbers), limit_bytes, **options
            )

        return Trial(numbers, sketch, make, patience, hold_for)


def _swapless(limits: Limits) -> list[Limits]:
    """Return the limits of searches without swaps."""
    nbytes = limits.device_bytes
    looser = dict.fromkeys(int(max(nbytes, times * nbytes)) for times in LOOSER)
    return [
        dataclasses.replace(limits, device_bytes=each, host_bytes=0) for each in looser
    ]


def _found(best: Best, bound_seconds: float) -> Found:
    bound = min(bound_seconds, best.draft.timeline.seconds)
    return Found(draft_of(best.draft), bound, best.fits)
