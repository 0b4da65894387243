"""The linear model -> drafts to begin with, and a bound on the seconds of all drafts.

Each solution of the model is rounded, laid out and simulated. If the simulation needs
more memory than the model said, the model is corrected and solved again.
"""

import dataclasses
import functools
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jaxswap._graph.graph import Action
from jaxswap._search.best import Best, LayOut
from jaxswap._search.candidates import Candidates
from jaxswap._search.lessons import Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.linear_model import bound_seconds, solve
from jaxswap._search.model import Answer, Model
from jaxswap._search.segments import actions_of, build_model, cut
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch.sketch import Sketcher, codes, entries_of

MOST_ITEMS = 48
"""A model with more items is large: its solution takes a few tenths of a second."""
ROUNDS = (3, 2)
"""How often a small and a large model are corrected and solved again."""
VARIANTS = ((0.0, None), (1.0, None), (1.0, 4), (0.0, 2))
"""Forms of the model. The first number is the room left for buffers that are being
copied, in sizes of the largest item. The model itself needs none: in it, bytes land one
by one as they are used. The second is how many recomputations may depend on one another
in a row. Of a large model, only the first is solved."""
CHAIN = 4
"""Forms with this limit of a row are solved in integers, at the root of the solver's
tree. In fractions the limit would mean little."""


Question = tuple[Limits, frozenset[int]]
"""Limits, and values that do not leave."""


class Proposals:
    """Proposes drafts of one program.

    Attributes:
        model: The model of the program.
        values: The value of each of its items.
    """

    def __init__(
        self,
        arranger: Arranger,
        candidates: Candidates,
        kept: Draft,
        sketcher: Sketcher,
    ) -> None:
        self.candidates = candidates
        self.sketcher = sketcher
        self._kept = kept
        self.segments = cut(kept)
        self.model, self.values = build_model(arranger, candidates, kept, self.segments)
        self._begun: dict[Question, Future[Answer | None]] = {}
        self._bounds: dict[int, Future[float]] = {}

    def begin(self, limits: Iterable[Limits], lessons: Lessons) -> None:
        """Solve the model below some limits, in a thread of its own.

        The solver needs no Python, and neither do sketches: they run side by side.
        Bounds take longest, and no draft waits for them. So they come last.
        """
        if not self.values:
            return
        _ = self.least  # Drafts are counted, so none is laid out beside others.
        limits = tuple(limits)
        pool = ThreadPoolExecutor(1)
        for one in limits:
            key = one, lessons.grounded
            if key not in self._begun:
                self._begun[key] = pool.submit(self._first, one, lessons)
        for one in limits:
            if one.host_bytes != 0 and one.device_bytes not in self._bounds:
                bound = pool.submit(bound_seconds, self.least, one.device_bytes)
                self._bounds[one.device_bytes] = bound
        pool.shutdown(wait=False)

    def end(self) -> None:
        """Drop what was begun and is not needed. Keep what is known."""
        self._begun = {k: f for k, f in self._begun.items() if not f.cancel()}

    def bound(self, limits: Limits) -> float:
        """Return the least seconds that are added to those of the program."""
        if not self.values or limits.host_bytes == 0:
            return 0.0
        begun = self._bounds.get(limits.device_bytes)
        return (
            begun.result() if begun else bound_seconds(self.least, limits.device_bytes)
        )

    def _first(self, limits: Limits, lessons: Lessons) -> Answer | None:
        """Solve the first form of the model."""
        no_room, depth = VARIANTS[0]
        return self._solved(self._grounded(lessons), limits, no_room, depth)

    def _solved(
        self, model: Model, limits: Limits, room_bytes: float, depth: int | None
    ) -> Answer | None:
        """Solve one form of the model."""
        return solve(
            model,
            limits.device_bytes - int(room_bytes),
            host_limit_bytes=limits.host_bytes,
            depth=depth,
            most_nodes=1,
            relative_gap=0.05,
            is_relaxed=depth != CHAIN or limits.host_bytes == 0,
        )

    def offer(self, best: Best, lessons: Lessons, lay_out: LayOut) -> None:
        """Lay out proposals."""
        if not self.values:
            return
        limits = best.limits
        is_swapless = limits.host_bytes == 0
        begun = self._begun.get((limits, lessons.grounded))
        first = begun.result() if begun else self._first(limits, lessons)
        grounded = self._grounded(lessons)
        is_large = len(self.values) > MOST_ITEMS
        rounds = 1 if is_large and is_swapless else ROUNDS[is_large]
        seen: set[bytes] = set()
        for room, depth in VARIANTS[:1] if is_large else VARIANTS:
            model = grounded
            room_bytes = room * max(item.nbytes for item in model.items)
            is_begun = (room, depth) == VARIANTS[0]
            for _ in range(rounds):
                answer = (
                    first
                    if is_begun and model is grounded
                    else self._solved(model, limits, room_bytes, depth)
                )
                numbers = None if answer is None else codes(self._actions(answer))
                if answer is None or numbers is None or numbers.tobytes() in seen:
                    break
                seen.add(numbers.tobytes())
                excess = self._needed(numbers, best, lessons) - answer.device_bytes
                lay_out(numbers, 0)
                excess = np.maximum(excess - room_bytes, 0)
                model = dataclasses.replace(
                    model, device_bytes=model.device_bytes + excess
                )
                if not excess.any() or answer.excess_bytes >= 1:
                    break

    @functools.cached_property
    def least(self) -> Model:
        """The model, with as little memory as if all results were written in place."""
        # Nothing stays below a limit of 0, so results are written in place.
        self.sketcher.sketch(codes(self._kept.actions), 0)
        entries = (entries_of(self._kept), self.sketcher.last_entries())
        peaks = list(map(self.segments.peaks, entries))
        saved = np.maximum(peaks[0] - peaks[1], 0)
        return dataclasses.replace(
            self.model, device_bytes=self.model.device_bytes - saved
        )

    def _needed(self, numbers: np.ndarray, best: Best, lessons: Lessons) -> np.ndarray:
        """Return the most memory that actions need in each segment."""
        numbers, limit_bytes = lessons.allowed(numbers), best.limits.device_bytes
        self.sketcher.sketch(numbers, limit_bytes, eager=lessons.eager)
        return self.segments.peaks(self.sketcher.last_entries())

    def _grounded(self, lessons: Lessons) -> Model:
        """Return the model in which some values do not leave."""
        pairs = zip(self.model.items, self.values, strict=True)
        items = tuple(
            dataclasses.replace(item, can_leave=v not in lessons.grounded)
            for item, v in pairs
        )
        return dataclasses.replace(self.model, items=items)

    def _actions(self, answer: Answer) -> list[Action]:
        """Round a solution to actions."""
        needed = [item.is_needed for item in self.model.items]
        return actions_of(
            self.candidates,
            self.values,
            answer.leaves,
            answer.recomputations,
            answer.stays,
            needed,
        )
