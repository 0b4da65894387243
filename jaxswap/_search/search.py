"""Candidates and a limit of memory -> the best draft that was found, and a bound.

The model proposes, the simulator disposes. A solution of the linear model is laid out
and simulated; where the simulation needs more memory than the model said, the model is
told so and solved again. What was laid out is then improved one action at a time, most
promising first, until nothing helps or time is up: from the draft that is fastest when
each byte over the limit costs about what its copy takes, then at higher prices.
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
from jaxswap._search.clock import Clock, Deadline, Instant
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
"""Forms of the model: the room that it leaves for buffers in flight, in sizes of the
largest item (its fluids need none: they land byte by byte where they are used), and
how many recomputations may depend on one another."""
GOOD = 1.15
"""A draft that takes so many times as long as keeping all is good enough to start."""
MODEL_SECONDS = 1.0
"""Time for one solution of the model."""
SEARCH_SECONDS = 6.0
"""Processor time for the search below one limit."""
SHARES = (0.5, 0.2, 0.3)
"""Of the time: to search, to search for drafts that swap nothing, to improve both.
Among both kinds at once the model finds the latter late, which slow links make best."""
LOOSER = (1.0, 1.1, 1.2)
"""Drafts that swap nothing are searched for below so many times the limit: what is
over it can be swapped."""
DEAR = 1.1
"""A plan that takes so many times as long as keeping all is worth a longer search."""
PERSISTENCE = 3
"""How often as much time is added, for as long as it helps."""
HELPS = 0.99
"""A search that made a plan so many times as long, or shorter, has helped."""
BAD = 1.5
"""A plan that takes so many times as long as keeping all is searched for to the end."""
NEAR = 0.05
"""Limits that differ by so little are not worth two of them."""


Seed = Callable[[Graph], Decision]
"""What a policy decides: drafts that the search has to beat."""


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a search came to.

    Attributes:
        draft: The best draft: the fastest that fits, else the smallest.
        bound_seconds: No draft is faster, as far as the model can tell.
        fits: Whether the draft fits.
        program: Which of several programs it is of; see `Programs`.
    """

    draft: Draft
    bound_seconds: float
    fits: bool
    program: int = 0


class Search:
    """Finds drafts of one program; goes on from those it laid out for other limits.

    Attributes:
        kept: The draft in which every candidate stays on the device.
        front: Of all drafts so far those of which none is better in every respect.
        clock: Tells how long a search has taken.
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
        self.clock: Clock = time.thread_time
        self._laid_out_eager: frozenset[int] = frozenset()
        self._persisted_bytes = 0
        self.started: dict[int, Draft] = {}
        self._starts = (
            *swaps_of_products(arranger.graph, candidates),
            *checkpoints(arranger.graph, candidates),
        )

    def find(
        self,
        limits: Limits,
        lessons: Lessons = NO_LESSONS,
        seconds: float = SEARCH_SECONDS,
    ) -> Found:
        """Search for the fastest draft that fits, else for the smallest.

        Args:
            limits: What the draft may use.
            lessons: What it has to keep to.
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
        """Lay some actions out once more, with what became eager since."""
        best = Best(limits)
        best.offer(
            self.arranger.arrange(actions, limits.device_bytes, eager=lessons.eager)
        )
        return _found(best, self.kept.timeline.seconds)

    def forget(self) -> None:
        """Begin anew: drafts near to policies' are no way to the least memory.

        XLA does not keep to policies' waits.
        """
        self.front = Front()

    def _best(self, limits: Limits, lessons: Lessons) -> Best:
        """The best of all that was laid out so far."""
        stale = lessons.grounded | (lessons.eager - self._laid_out_eager)
        self._laid_out_eager = lessons.eager
        self.front.drop(functools.partial(swaps_any, values=stale))
        best = Best(limits, lessons.refused, self.front)
        # XLA does not keep to policies' waits: they do not show the least memory.
        left_out = self.seeded if limits.aim is Aim.SMALLEST_OWN else ()
        for draft in (self.kept, self.arranger.all_kept, *self.front):
            if draft not in left_out and not swaps_any(draft, lessons.grounded):
                best.offer(draft)
        return best

    def _is_worth_more(self, best: Best) -> bool:
        """Whether a draft is dear, and none was searched for longer near this limit."""
        limit_bytes = best.limits.device_bytes
        is_near = abs(limit_bytes - self._persisted_bytes) <= NEAR * limit_bytes
        is_dear = best.draft.timeline.seconds > DEAR * self.kept.timeline.seconds
        if is_near or not best.fits or not is_dear:
            return False
        self._persisted_bytes = limit_bytes
        return True

    def _is_ample(self, best: Best) -> bool:
        """Whether the limits allow to keep all."""
        return best.is_within(self.kept) or best.is_within(self.arranger.all_kept)

    def _search(self, limits: Limits, *, lessons: Lessons, seconds: float) -> Found:
        """Search for a part of the time."""
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
        """Go on from the best drafts, a few actions at a time."""
        lay_out = functools.partial(self._lay_out, best=best, lessons=lessons)
        deadline = Deadline.after(seconds, self.clock)
        descend(best, self.arranger, self.candidates, lay_out, deadline)

    def _follow_seeds(self, deadline: Deadline | None = None) -> None:
        """Lay out what policies decide, as far as that was not done."""
        for seed in self.seeds[len(self.seeded) :]:
            if deadline is not None and deadline.is_over:
                break
            self.seeded.append(self.arranger.follow(seed(self.arranger.graph)))

    def _start(
        self, best: Best, lessons: Lessons, lay_out: LayOut, deadline: Deadline
    ) -> None:
        """Try the starting points; those that swap, until something good fits."""
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
        """Keep as many of the last values as fit; do with the others what is done.

        The last are read again first, when memory is fullest, so that of a deep
        program's like layers the first are those to recompute.
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
        """Let the model propose; return its bound on the seconds to be added.

        HiGHS knows wall time alone: beside other load it is given more.
        """
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
                    time_limit_seconds=min(MODEL_SECONDS, left) * slowdown,
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
        """Simulate some actions, short gaps taken willingly or not."""
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
