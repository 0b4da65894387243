"""Candidates and a limit of memory -> the best draft that was found, and a bound.

The linear model proposes, and the simulator decides. Each solution of the model is laid
out and simulated. If the simulation needs more memory than the model said, the model is
corrected and solved again. Then the drafts are improved by a few actions at a time, the
most promising changes first, until nothing helps or the time is over (see `descent`).
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.decision import Decision
from jaxswap._search.best import PATIENCES, Best, LayOut
from jaxswap._search.candidates import Candidates
from jaxswap._search.clock import Deadline, Instant
from jaxswap._search.descent import descend
from jaxswap._search.exact import Exact
from jaxswap._search.front import Front, swaps_any
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.linear_model import Answer, bound_seconds, solve
from jaxswap._search.moves import checkpoints, swaps_of_products
from jaxswap._search.segments import Segments, actions_of, build_model, cut
from jaxswap._simulate.draft import Arranger, Draft

ROUNDS = 3
"""How often the model is corrected and solved again."""
VARIANTS = ((0.0, None), (1.0, None), (0.5, 4), (1.0, 4), (0.0, 2))
"""Forms of the model. The first number is the room left for buffers that are being
copied, in sizes of the largest item. The model itself needs none: in it, bytes land one
by one as they are used. The second is how many recomputations may depend on one another
in a row."""
GOOD = 1.15
"""A draft is a good start if it is at most this many times as slow as keeping all."""
MODEL_SECONDS = 1.0
"""The most time for one solution of the model."""
SEARCH_SECONDS = 6.0
"""Processor time for the search below one limit."""
SHARES = (0.5, 0.2, 0.3)
"""Shares of the time: for a search, for a search without swaps, for improvements of
both. Plans without swaps are the best on slow links, but a mixed search finds them
late."""
LOOSER = (1.0, 1.1, 1.2)
"""The search without swaps is made for this many times the limit. What is over the
limit can then be swapped."""
DEAR = 1.1
"""A plan is worth a longer search if it is this many times as slow as keeping all."""
PERSISTENCE = 3
"""How often the time of a search is extended, while it helps."""
HELPS = 0.99
"""A search has helped if its plan takes at most this many times as long as before."""
BAD = 1.5
"""A search goes on to its end while its plan is this many times as slow as that."""
NEAR = 0.05
"""Of limits that differ by less than this share, only one gets a longer search."""


Seed = Callable[[Graph], Decision]
"""The decision of a policy. The search has to find a better draft than that."""


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

    Attributes:
        kept: The draft in which every candidate stays on the device.
        front: The drafts so far of which none is better in all respects.
    """

    def __init__(
        self, arranger: Arranger, candidates: Candidates, seeds: Iterable[Seed] = ()
    ) -> None:
        self.arranger = arranger
        self.candidates = candidates
        self.seeds = tuple(seeds)
        self.seeded: list[Draft] = []
        self.kept = arranger.arrange(candidates.fixed, 0)
        self.segments: Segments = cut(self.kept)
        self.model, self.values = build_model(
            arranger, candidates, self.kept, self.segments
        )
        self.exact = Exact(arranger, candidates)
        self.front = Front()
        self._laid_out_eager: frozenset[int] = frozenset()
        self._persisted_bytes = 0
        self.started: dict[int, Draft] = {}
        self._starts = (
            *swaps_of_products(arranger.graph, candidates),
            *checkpoints(arranger.graph, candidates),
        )

    def clock(self) -> float:
        """Return the seconds of work so far: the processor time of this thread.

        So other load on the machine does not make plans worse.
        """
        return time.thread_time()

    def model_limit(self, left_seconds: float, slowdown: float) -> dict[str, float]:
        """Return the end of one solution of the model, as an option of SciPy's `milp`.

        HiGHS can only limit wall time. If the machine has other load, it gets more.

        Args:
            left_seconds: Processor time that is left of the search.
            slowdown: How many times its processor time the search has taken so far.
        """
        return {"time_limit": min(MODEL_SECONDS, left_seconds) * slowdown}

    def find(
        self,
        limits: Limits,
        lessons: Lessons = NO_LESSONS,
        seconds: float = SEARCH_SECONDS,
    ) -> Found:
        """Search for the fastest draft that fits. If none fits, find the smallest.

        Args:
            limits: How much memory the draft may use.
            lessons: What the draft has to respect.
            seconds: Time to search.
        """
        search = functools.partial(self._search, lessons=lessons)
        if limits.host_bytes == 0 or self.exact.is_small:
            return search(limits, seconds=seconds)
        found = search(limits, seconds=SHARES[0] * seconds)
        if self._is_ample(Best(limits, lessons.refused)):
            return found
        device_bytes = limits.device_bytes
        looser = [int(max(device_bytes, f * device_bytes)) for f in LOOSER]
        for swapless_bytes in dict.fromkeys(looser):
            swapless = dataclasses.replace(
                limits, device_bytes=swapless_bytes, host_bytes=0
            )
            search(swapless, seconds=SHARES[1] * seconds / len(LOOSER))
        best = self._best(limits, lessons)
        self._descend(best, lessons, SHARES[2] * seconds)
        for _ in range(PERSISTENCE if self._is_worth_more(best) else 0):
            before_seconds = best.draft.timeline.seconds
            self._descend(best, lessons, seconds)
            after_seconds = best.draft.timeline.seconds
            is_bad = after_seconds > BAD * self.kept.timeline.seconds
            if after_seconds > HELPS * before_seconds and not is_bad:
                break
        return _found(best, found.bound_seconds)

    def lay_out_again(
        self, actions: Sequence[Action], limits: Limits, lessons: Lessons
    ) -> Found:
        """Lay actions out once more, with the values that became eager since then."""
        best = Best(limits)
        best.offer(
            self.arranger.arrange(actions, limits.device_bytes, eager=lessons.eager)
        )
        return _found(best, self.kept.timeline.seconds)

    def forget(self) -> None:
        """Start from nothing: drafts like a policy's do not lead to the least memory.

        XLA does not keep to the waits of policies.
        """
        self.front = Front()

    def _best(self, limits: Limits, lessons: Lessons) -> Best:
        """Return the best of all drafts so far."""
        stale = lessons.grounded | (lessons.eager - self._laid_out_eager)
        self._laid_out_eager = lessons.eager
        self.front.drop(functools.partial(swaps_any, values=stale))
        best = Best(limits, lessons.refused, self.front)
        # XLA does not keep to the waits of policies, so their memory is not reliable.
        left_out = self.seeded if limits.aim is Aim.SMALLEST_OWN else ()
        for draft in (self.kept, self.arranger.all_kept, *self.front):
            if draft not in left_out and not swaps_any(draft, lessons.grounded):
                best.offer(draft)
        return best

    def _is_worth_more(self, best: Best) -> bool:
        """Whether the draft is slow, and no limit near this one had a longer search."""
        limit_bytes = best.limits.device_bytes
        is_near = abs(limit_bytes - self._persisted_bytes) <= NEAR * limit_bytes
        is_dear = best.draft.timeline.seconds > DEAR * self.kept.timeline.seconds
        if is_near or not best.fits or not is_dear:
            return False
        self._persisted_bytes = limit_bytes
        return True

    def _is_ample(self, best: Best) -> bool:
        """Whether the limits allow everything to be kept."""
        return best.is_within(self.kept) or best.is_within(self.arranger.all_kept)

    def _search(self, limits: Limits, *, lessons: Lessons, seconds: float) -> Found:
        """Search once, for a part of the time."""
        start = Instant.now()
        deadline = Deadline.after(seconds, self.clock)
        best = self._best(limits, lessons)
        all_kept = self.arranger.all_kept
        bound = min(self.kept.timeline.seconds, all_kept.timeline.seconds)
        if self._is_ample(best):
            self._follow_seeds()
            for draft in self.seeded:
                best.offer(draft)
            return _found(best, bound)
        lay_out = functools.partial(self._lay_out, best=best, lessons=lessons)
        self._start(best, lessons, lay_out, deadline.earlier(0.6 * seconds))
        self._relax(best, lay_out, deadline.earlier(0.4 * seconds))
        is_small = self.exact.is_small
        until = deadline.earlier(0.5 * seconds) if is_small else deadline
        bound += self._solve(best, lessons, lay_out, until, start.slowdown())
        if is_small:
            exact = self.exact.solve(best, lay_out, deadline, lessons.grounded)
            bound = max(bound, exact)
        if not best.fits or bound < best.draft.timeline.seconds:
            descend(best, self.arranger, self.candidates, lay_out, deadline)
        return _found(best, bound)

    def _descend(self, best: Best, lessons: Lessons, seconds: float) -> None:
        """Improve the best drafts by changing a few actions at a time."""
        lay_out = functools.partial(self._lay_out, best=best, lessons=lessons)
        deadline = Deadline.after(seconds, self.clock)
        descend(best, self.arranger, self.candidates, lay_out, deadline)

    def _follow_seeds(self, deadline: Deadline | None = None) -> None:
        """Lay out the decisions of policies, if that was not done before."""
        for seed in self.seeds[len(self.seeded) :]:
            if deadline is not None and deadline.is_over:
                break
            self.seeded.append(self.arranger.follow(seed(self.arranger.graph)))

    def _start(
        self, best: Best, lessons: Lessons, lay_out: LayOut, deadline: Deadline
    ) -> None:
        """Try the starting points. Those that swap are tried until a good one fits."""
        for index, actions in enumerate(self._starts):
            if deadline.is_over:
                break
            if Action.OFFLOAD in actions:
                if best.limits.host_bytes != 0 and not self._is_good(best):
                    lay_out(actions)
            elif index not in self.started:
                self.started[index] = self.arranger.arrange(actions, 0)
        self._follow_seeds(deadline)
        is_own = best.limits.aim is Aim.SMALLEST_OWN  # As in `_best`.
        for draft in (*self.started.values(), *(() if is_own else self.seeded)):
            if not swaps_any(draft, lessons.grounded):
                best.offer(draft)

    def _relax(self, best: Best, lay_out: LayOut, deadline: Deadline) -> None:
        """Keep as many of the last values as fit. The others keep their actions.

        The backward pass reads the last values first, when memory is fullest. So in a
        deep program of equal layers, the first layers are the ones to recompute.
        """
        if not best.fits:
            return
        decided = best.draft.actions
        values = self.candidates.forward
        few, enough = 0, len(values)
        while enough - few > 1 and not deadline.is_over:
            count = (few + enough) // 2
            actions = list(self.candidates.fixed)
            for v in values[:count]:
                actions[v] = decided[v]
            draft = lay_out(actions)[0]
            few, enough = (few, count) if best.is_within(draft) else (count, enough)

    def _is_good(self, best: Best) -> bool:
        """Whether the best draft fits and costs little time."""
        limit = GOOD * self.kept.timeline.seconds
        return best.fits and best.draft.timeline.seconds <= limit

    def _solve(
        self,
        best: Best,
        lessons: Lessons,
        lay_out: LayOut,
        deadline: Deadline,
        slowdown: float,
    ) -> float:
        """Let the model propose drafts. Return its bound on the seconds to be added."""
        if not self.values:
            return 0.0
        limit_bytes = best.limits.device_bytes
        bound = bound_seconds(self.model, limit_bytes)
        grounded = dataclasses.replace(
            self.model,
            items=tuple(
                dataclasses.replace(item, can_leave=v not in lessons.grounded)
                for item, v in zip(self.model.items, self.values, strict=True)
            ),
        )
        largest = max(item.nbytes for item in self.model.items)
        seen: set[tuple[Action, ...]] = set()
        for room, depth in VARIANTS:
            model = grounded
            for _ in range(ROUNDS):
                left = deadline.left_seconds
                if left <= 0:
                    return bound
                answer = solve(
                    model,
                    limit_bytes - int(room * largest),
                    host_limit_bytes=best.limits.host_bytes,
                    depth=depth,
                    until=self.model_limit(left, slowdown),
                )
                if answer is None:
                    break
                actions = self._actions(answer)
                if tuple(actions) in seen:
                    break
                seen.add(tuple(actions))
                draft = lay_out(actions)[0]
                excess = self.segments.peaks(draft) - answer.device_bytes
                excess = np.maximum(excess - room * largest, 0)
                model = dataclasses.replace(
                    model, device_bytes=model.device_bytes + excess
                )
                if not excess.any() or answer.excess_bytes >= 1:
                    break
        return bound

    def _actions(self, answer: Answer) -> list[Action]:
        needed = [item.is_needed for item in self.model.items]
        return actions_of(
            self.candidates,
            self.values,
            answer.leaves,
            answer.recomputations,
            answer.stays,
            needed,
        )

    def _lay_out(
        self, actions: Sequence[Action], *, best: Best, lessons: Lessons
    ) -> list[Draft]:
        """Simulate some actions, with more and with fewer short gaps taken."""
        if lessons.grounded:
            actions = [
                Action.KEEP if a is Action.OFFLOAD and v in lessons.grounded else a
                for v, a in enumerate(actions)
            ]
        made: list[Draft] = []
        for patience in PATIENCES:
            draft = self.arranger.arrange(
                actions,
                best.limits.device_bytes,
                patience=patience,
                eager=lessons.eager,
            )
            best.offer(draft)
            made.append(draft)
            if Action.OFFLOAD not in actions or best.is_within(draft):
                break
        return made


def _found(best: Best, bound_seconds: float) -> Found:
    bound = min(bound_seconds, best.draft.timeline.seconds)
    return Found(best.draft, bound, best.fits)
