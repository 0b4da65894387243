"""Candidates and a limit of memory -> the best draft that was found, and a bound.

The model proposes, the simulator disposes. A solution of the linear model is laid out
and simulated; where the simulation needs more memory than the model said, the model is
told so and solved again. What was laid out is then improved one action at a time, most
promising first, until nothing helps or time is up: from the draft that is fastest when
each byte over the limit costs about what its copy takes, then at higher prices.
"""

import contextlib
import dataclasses
import functools
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.policy import Decision
from jaxswap._search.candidates import Candidates
from jaxswap._search.descent import improve
from jaxswap._search.exact import Exact
from jaxswap._search.front import Front, swaps_any
from jaxswap._search.linear_model import Answer, bound_seconds, solve
from jaxswap._search.moves import PATIENCES, Best, checkpoints, swaps_of_products
from jaxswap._search.segments import Segments, actions_of, build_model, cut
from jaxswap._simulate.draft import Arranger, Draft

ROUNDS = 3
"""How often the model is corrected and solved again."""
VARIANTS = ((0.0, None), (1.0, None), (0.5, 4), (1.0, 4), (0.0, 2))
"""Forms of the model: the room that it leaves for buffers in flight, in sizes of the
largest item (its fluids need none: they land byte by byte where they are used), and
how many replays may depend on one another."""
GOOD = 1.15
"""A draft that takes so many times as long as keeping all is good enough to start."""
MODEL_SECONDS = 1.0
"""Time for one solution of the model."""
SEARCH_SECONDS = 6.0
"""Processor time for the search below one limit: other load must not spoil a plan."""
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
MOST_SLOWDOWN = 8.0
"""How much of other load is made up for where only wall time can be limited."""


Seed = Callable[[Graph], Decision]
"""What a policy decides: drafts that the search has to beat."""


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a search came to.

    Attributes:
        draft: The best draft: the fastest that fits, else the smallest.
        bound_seconds: No draft is faster, as far as the model can tell.
        fits: Whether the draft fits.
    """

    draft: Draft
    bound_seconds: float
    fits: bool


@dataclasses.dataclass(frozen=True)
class Instant:
    """A moment, by the clock on the wall and by this thread's processor time."""

    wall_seconds: float
    thread_seconds: float

    @classmethod
    def now(cls) -> "Instant":
        """This moment."""
        return cls(time.perf_counter(), time.thread_time())

    def slowdown(self) -> float:
        """How many times as long as its processor time this thread took since."""
        now = Instant.now()
        worked = max(now.thread_seconds - self.thread_seconds, 1e-3)
        slowdown = (now.wall_seconds - self.wall_seconds) / worked
        return min(MOST_SLOWDOWN, max(1.0, slowdown))


class Search:
    """Finds drafts of one program; keeps what it learns from limit to limit.

    Attributes:
        eager: Values whose copies back must be done early; see `place`.
        grounded: Values that may not leave the device.
        refused: Actions of drafts whose programs were seen not to fit.
    """

    def __init__(
        self, arranger: Arranger, candidates: Candidates, seeds: Iterable[Seed] = ()
    ) -> None:
        self.arranger = arranger
        self.candidates = candidates
        self.seeds = tuple(seeds)
        self.seeded: list[Draft] = []
        self.kept = arranger.arrange(candidates.fixed, 0)
        everything = [Action.KEEP] * len(arranger.graph.values)
        self.plain = arranger.draft(everything, ())
        self.segments: Segments = cut(self.kept)
        self.model, self.values = build_model(
            arranger, candidates, self.kept, self.segments
        )
        self.eager: frozenset[int] = frozenset()
        self.grounded: frozenset[int] = frozenset()
        self.refused: frozenset[tuple[Action, ...]] = frozenset()
        self.exact = Exact(arranger, candidates)
        self.front = Front()
        self._laid_out_eager = self.eager
        self._persisted_bytes = 0
        self.started: dict[int, Draft] = {}
        self._starts = (
            *swaps_of_products(arranger.graph, candidates),
            *checkpoints(arranger.graph, candidates),
        )

    def find(
        self,
        limit_bytes: int,
        host_limit_bytes: int | None = None,
        seconds: float = SEARCH_SECONDS,
        again: Draft | None = None,
    ) -> Found:
        """Search for the fastest draft that fits, else for the smallest.

        Args:
            limit_bytes: Device memory that the draft may use.
            host_limit_bytes: Pinned host memory that it may use; `None`: any amount.
            seconds: Time to search.
            again: Do not search, but lay this draft's actions out once more: with
                what has become `eager` since.
        """
        if again is not None:
            draft = self.arranger.arrange(again.actions, limit_bytes, eager=self.eager)
            best = Best(limit_bytes, host_limit_bytes)
            best.offer(draft)
            return _found(best, self.kept.timeline.seconds)
        with uncollected():
            if host_limit_bytes == 0 or self.exact.is_small:
                return self._search(limit_bytes, host_limit_bytes, seconds)
            found = self._search(limit_bytes, host_limit_bytes, SHARES[0] * seconds)
            if self._is_ample(Best(limit_bytes, host_limit_bytes, self.refused)):
                return found
            looser = [int(max(limit_bytes, f * limit_bytes)) for f in LOOSER]
            for swapless_bytes in dict.fromkeys(looser):
                self._search(swapless_bytes, 0, SHARES[1] * seconds / len(LOOSER))
            best = self._best(limit_bytes, host_limit_bytes)
            self._improve(best, time.thread_time() + SHARES[2] * seconds)
            for _ in range(PERSISTENCE if self._is_worth_more(best) else 0):
                before_seconds = best.draft.timeline.seconds
                self._improve(best, time.thread_time() + seconds)
                after_seconds = best.draft.timeline.seconds
                is_bad = after_seconds > BAD * self.kept.timeline.seconds
                if after_seconds > HELPS * before_seconds and not is_bad:
                    break
            return _found(best, found.bound_seconds)

    def forget(self) -> None:
        """Begin anew: drafts near to policies' are no way to the least memory.

        XLA does not keep to policies' waits. What was refused stays so.
        """
        self.front = Front()
        self.grounded = frozenset()

    def _best(self, limit_bytes: int, host_limit_bytes: int | None) -> Best:
        """The best of all that was laid out so far."""
        stale = self.grounded | (self.eager - self._laid_out_eager)
        self._laid_out_eager = self.eager
        self.front.drop(functools.partial(swaps_any, values=stale))
        best = Best(limit_bytes, host_limit_bytes, self.refused, self.front)
        # XLA does not keep to policies' waits: they do not show the least memory.
        seeded = self.seeded if limit_bytes <= 0 else ()
        for draft in (self.kept, self.plain, *self.front):
            if draft not in seeded and not swaps_any(draft, self.grounded):
                best.offer(draft)
        return best

    def _is_worth_more(self, best: Best) -> bool:
        """Whether a draft is dear, and none was searched for longer near this limit."""
        limit_bytes, dear_seconds = best.limit_bytes, DEAR * self.kept.timeline.seconds
        is_near = abs(limit_bytes - self._persisted_bytes) <= NEAR * limit_bytes
        if is_near or not best.fits or best.draft.timeline.seconds <= dear_seconds:
            return False
        self._persisted_bytes = limit_bytes
        return True

    def _is_ample(self, best: Best) -> bool:
        """Whether the limits allow to keep all."""
        return best.is_within(self.kept) or best.is_within(self.plain)

    def _search(
        self, limit_bytes: int, host_limit_bytes: int | None, seconds: float
    ) -> Found:
        """Search for a part of the time."""
        start = Instant.now()
        deadline = start.thread_seconds + seconds
        best = self._best(limit_bytes, host_limit_bytes)
        bound = min(self.kept.timeline.seconds, self.plain.timeline.seconds)
        if self._is_ample(best):
            for seed in self.seeds[len(self.seeded) :]:
                self.seeded.append(self.arranger.follow(seed(self.arranger.graph)))
            for draft in self.seeded:
                best.offer(draft)
            return _found(best, bound)
        self._start(best, deadline - 0.6 * seconds)
        self._relax(best, deadline - 0.4 * seconds)
        is_small = self.exact.is_small
        model_deadline = deadline - 0.5 * seconds if is_small else deadline
        bound += self._solve(best, model_deadline, start.slowdown())
        if is_small:
            lay_out = functools.partial(self._lay_out, best=best)
            bound = max(
                bound, self.exact.improve(best, lay_out, deadline, self.grounded)
            )
        if not best.fits or bound < best.draft.timeline.seconds:
            self._improve(best, deadline)
        return _found(best, bound)

    def _start(self, best: Best, deadline: float) -> None:
        """Try the starting points; those that swap, until something good fits."""
        for index, actions in enumerate(self._starts):
            if time.thread_time() > deadline:
                break
            if Action.OFFLOAD in actions:
                if best.host_limit_bytes != 0 and not self._is_good(best):
                    self._lay_out(actions, best)
            elif index not in self.started:
                self.started[index] = self.arranger.arrange(actions, 0)
        for seed in self.seeds[len(self.seeded) :]:
            if time.thread_time() > deadline:
                break
            self.seeded.append(self.arranger.follow(seed(self.arranger.graph)))
        seeded = self.seeded if best.limit_bytes > 0 else []  # As in `_best`.
        for draft in (*self.started.values(), *seeded):
            if not swaps_any(draft, self.grounded):
                best.offer(draft)

    def _relax(self, best: Best, deadline: float) -> None:
        """Keep as many of the last values as fit; do with the others what is done.

        The last are read again first, when memory is fullest, so that of a deep
        program's like layers the first are those to recompute.
        """
        if not best.fits:
            return
        decided = best.draft.actions
        values = self.candidates.forward
        few, enough = 0, len(values)
        while enough - few > 1 and time.thread_time() < deadline:
            count = (few + enough) // 2
            actions = list(self.candidates.fixed)
            for v in values[:count]:
                actions[v] = decided[v]
            draft = self._lay_out(actions, best)[0]
            few, enough = (few, count) if best.is_within(draft) else (count, enough)

    def _is_good(self, best: Best) -> bool:
        """Whether the best draft fits and costs little time."""
        limit = GOOD * self.kept.timeline.seconds
        return best.fits and best.draft.timeline.seconds <= limit

    def _solve(self, best: Best, deadline: float, slowdown: float) -> float:
        """Let the model propose; return its bound on the seconds to be added.

        HiGHS knows wall time alone: beside other load it is given more.
        """
        if not self.values:
            return 0.0
        bound = bound_seconds(self.model, best.limit_bytes)
        grounded = dataclasses.replace(
            self.model,
            items=tuple(
                dataclasses.replace(item, can_leave=v not in self.grounded)
                for item, v in zip(self.model.items, self.values, strict=True)
            ),
        )
        largest = max(item.nbytes for item in self.model.items)
        seen: set[tuple[Action, ...]] = set()
        for room, depth in VARIANTS:
            model = grounded
            for _ in range(ROUNDS):
                left = deadline - time.thread_time()
                if left <= 0:
                    return bound
                answer = solve(
                    model,
                    best.limit_bytes - int(room * largest),
                    host_limit_bytes=best.host_limit_bytes,
                    depth=depth,
                    time_limit_seconds=min(MODEL_SECONDS, left) * slowdown,
                )
                if answer is None:
                    break
                actions = self._actions(answer)
                if tuple(actions) in seen:
                    break
                seen.add(tuple(actions))
                draft = self._lay_out(actions, best)[0]
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
            answer.replays,
            answer.stays,
            needed,
        )

    def _lay_out(self, actions: Sequence[Action], best: Best) -> list[Draft]:
        """Simulate some actions, short gaps taken willingly or not."""
        if self.grounded:
            actions = [
                Action.KEEP if a is Action.OFFLOAD and v in self.grounded else a
                for v, a in enumerate(actions)
            ]
        made: list[Draft] = []
        for patience in PATIENCES:
            draft = self.arranger.arrange(
                actions, best.limit_bytes, patience=patience, eager=self.eager
            )
            best.offer(draft)
            made.append(draft)
            if Action.OFFLOAD not in actions or best.is_within(draft):
                break
        return made

    def _improve(self, best: Best, deadline: float) -> None:
        """Go on from the best drafts, a few actions at a time."""
        lay_out = functools.partial(self._lay_out, best=best)
        improve(best, self.arranger, self.candidates, lay_out, deadline)


def _found(best: Best, bound_seconds: float) -> Found:
    bound = min(bound_seconds, best.draft.timeline.seconds)
    return Found(best.draft, bound, best.fits)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Spare a search the collection of cyclic garbage: it makes none, but much else."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
