"""Candidates and a limit of memory -> the best draft that was found, and a bound.

The linear model proposes (see `proposals`), and the simulator decides. Then the drafts
are improved by a few actions at a time (see `descent`), and at random (see `wander`),
until the quota of drafts is spent. The second half of it is for drafts whose results
are written in place (see `_simulate.in_place`).
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxswap._schedule.decision import Policy
from jaxswap._search.best import HOLDS, Best
from jaxswap._search.candidates import Candidates
from jaxswap._search.descent import descend
from jaxswap._search.drafting import Drafting, Terms
from jaxswap._search.exact import Exact
from jaxswap._search.front import Front
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.proposals import Proposals
from jaxswap._search.quota import Quota
from jaxswap._search.relax import relax
from jaxswap._search.trial import Trial, draft_of
from jaxswap._search.wander import wander
from jaxswap._simulate.draft import Arranger, Draft

FAIR = 1.5
"""A draft that recomputes nothing more than once is a fair one up to here."""
EQUATIONS_PER_SECOND = 4_500_000
"""How many equations a usual processor lays out in a second. Seconds of a search stand
for that many. They are counted, not timed: plans do not depend on the machine."""
TRACED = 500
"""So many drafts are left out for each second: tracing a program takes about as long as
they would, whatever its size."""
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
ROUNDS = 3
"""What it does in this time. The first of as many rounds goes to drafts that hold what
is recomputed for a short time. Each other one improves the best drafts anew."""
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
        drafting = Drafting(arranger, candidates, policies, expects_gaps=expects_gaps)
        self.drafting = drafting
        self.kept, self.sketcher = drafting.kept, drafting.sketcher
        self.exact = Exact(arranger, candidates, self.sketcher)
        self.proposals = Proposals(arranger, candidates, self.kept, self.sketcher)
        self.is_cut_short = False

    @property
    def front(self) -> Front:
        """The drafts so far of which none is better in all respects."""
        return self.drafting.front

    def count(self) -> int:
        """Return how many drafts were laid out so far."""
        return self.drafting.count()

    def drafts(self, seconds: float, programs: int = 1) -> int:
        """Return how many drafts stand for so many seconds, shared by some programs."""
        equations = max(1, len(self.arranger.graph.equations))
        each = (EQUATIONS_PER_SECOND / equations - TRACED) / programs
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
        in_place = Terms(lessons)
        # The exact search sees all drafts: those with results in place, too.
        is_small = self.exact.is_small
        first = in_place if is_small else Terms(lessons, in_place=False)
        share = quota if is_small else quota.within(drafts / 2)
        bound, is_done = self._begin(limits, first, share)
        if not is_done:
            if self._best(limits, first).fits:
                self._improve_all(limits, first, share)
            if not is_small:
                self._begin_in_place(limits, in_place, quota)
            self._improve_all(limits, in_place, quota)
            is_easy = self.drafting.is_good(self._best(limits, in_place), HARD)
            if not (is_easy or is_small):
                self._go_on(limits, in_place, FURTHER * drafts)
        self.drafting.forget_sketches()
        bound = max(bound, self._bound(limits, lessons))
        return _found(self._best(limits, in_place), bound)

    def _begin(self, limits: Limits, terms: Terms, quota: Quota) -> tuple[float, bool]:
        """Search from the start. Return a bound, and whether nothing can be better."""
        drafts, lessons = quota.left, terms.lessons
        is_ample = self.drafting.is_ample
        is_mixed = limits.host_bytes != 0 and not self.exact.is_small
        swapless = _swapless(limits) if is_mixed else []
        if is_mixed:
            hard = (each for each in (limits, *swapless) if not is_ample(each, lessons))
            self.proposals.begin(hard, lessons)
        share = SHARES[0] if is_mixed else 0.8
        bound = self._search(limits, terms, quota.within(share * drafts))
        best = self._best(limits, terms)
        is_optimal = best.fits and self.exact.is_small
        is_optimal &= bound >= best.draft.timeline.seconds
        is_done = is_optimal or is_ample(limits, lessons)
        for one in () if is_done else swapless:
            part = quota.within(SHARES[1] * drafts / len(LOOSER))
            self._search(one, terms, part)
        self.proposals.end()
        return bound, is_done

    def _begin_in_place(self, limits: Limits, terms: Terms, quota: Quota) -> None:
        """Lay the best drafts out with results in place. If none fits, begin anew."""
        best = self._best(limits, terms)
        if best.fits:
            self.drafting.offer_best_again(best, terms)
        else:
            self._begin(limits, terms, quota)

    def _go_on(self, limits: Limits, terms: Terms, drafts: float) -> None:
        """Search for longer, in some rounds."""
        further = Quota.of(drafts, self.count, MOST_SECONDS)
        best = self._best(limits, terms)
        if best.fits:
            share = further.within(drafts / ROUNDS)
            self._wander(best, terms, share, ROUNDS, holds_briefly=True)
        for left in range(ROUNDS - 1, 0, -1):
            share = further.within(further.left / left)
            self._improve_all(limits, terms, share, turn=ROUNDS + left)

    def _improve_all(
        self, limits: Limits, terms: Terms, quota: Quota, turn: int = 0
    ) -> None:
        """Improve the best drafts so far. If none fits, make them smaller first."""
        best = self._aim(limits, terms)
        if not best.fits:
            self._improve(best, terms, quota.within(quota.left / 2), 1)
            best = self._aim(limits, terms)
        self._improve(best, terms, quota, turn if best.fits else 2)
        self.is_cut_short |= quota.is_late

    def lay_out_again(self, draft: Draft, limits: Limits, lessons: Lessons) -> Found:
        """Lay a draft out once more, with the values that became eager since then."""
        best = self.drafting.lay_out_again(draft, limits, lessons)
        return _found(best, self.kept.timeline.seconds)

    def forget(self) -> None:
        """Start from nothing: drafts like a policy's do not lead to the least memory.

        XLA does not keep to the waits of policies.
        """
        self.drafting.front = Front()

    def _best(self, limits: Limits, terms: Terms) -> Best:
        """Return the best of all drafts so far."""
        return self.drafting.best(limits, terms.lessons)

    def _bound(self, limits: Limits, lessons: Lessons) -> float:
        """Return a bound on the seconds of all drafts, by the linear model."""
        bound = min(known.timeline.seconds for known in self.drafting.known)
        is_ample = self.drafting.is_ample(limits, lessons)
        return bound if is_ample else bound + self.proposals.bound(limits)

    def _search(self, limits: Limits, terms: Terms, quota: Quota) -> float:
        """Search once, for a part of the drafts.

        Returns:
            A bound on the seconds of all drafts. 0 if the program is large: its bound
            takes long, and is not waited for.
        """
        drafts, lessons, drafting = quota.left, terms.lessons, self.drafting
        best = self._best(limits, terms)
        bound = self._bound(limits, lessons) if self.exact.is_small else 0.0
        if drafting.is_ample(limits, lessons):
            return bound
        lay_out = drafting.offering(best, terms)
        drafting.start(best, terms, HOLDS[0])
        relax(best, self.candidates, lay_out)
        self.proposals.offer(best, lessons, lay_out)
        for hold_for in HOLDS[1:]:
            if drafting.is_good(best, FAIR):
                break
            drafting.start(best, terms, hold_for)
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

    def _aim(self, limits: Limits, terms: Terms) -> Best:
        """Return the best of all drafts so far. If none fits, look for the smallest."""
        best = self._best(limits, terms)
        if best.fits or limits.aim is not Aim.FASTEST:
            return best
        least = dataclasses.replace(limits, device_bytes=0, aim=Aim.SMALLEST)
        return self._best(least, terms)

    def _improve(self, best: Best, terms: Terms, quota: Quota, turn: int) -> None:
        """Improve the best drafts by a few changes at a time, then by random ones."""
        self.drafting.offer_holds(best, terms)
        lay_out = self.drafting.offering(best, terms)
        share = quota.within(DESCENTS * quota.left)
        descend(best, self.arranger, self.candidates, lay_out, share)
        self._wander(best, terms, quota, turn)

    def _wander(
        self,
        best: Best,
        terms: Terms,
        quota: Quota,
        turn: int,
        *,
        holds_briefly: bool = False,
    ) -> None:
        """Improve the best drafts by random changes."""

        def lay_out(numbers: np.ndarray, patience: float, hold_for: int) -> Trial:
            return self.drafting.offer(best, terms, numbers, patience, hold_for)

        rates = self.arranger.simulator.rates
        wander(
            best,
            self.candidates,
            self.arranger.graph,
            lay_out,
            quota,
            1 / rates.swap_out_bytes_per_second,
            turn,
            holds_briefly=holds_briefly,
        )


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
