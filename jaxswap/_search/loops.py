"""Programs that run loops in several ways -> the best draft of all of them.

How the iterations of a loop run decides which program is left to plan outside of the
loop. So some mixtures of ways are tried. Each gives a program, which is searched like
any other. The fastest draft that fits is taken.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from jaxswap._graph.graph import DecideLoop, Graph, Loop
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.mixtures import Mixture, Mixtures
from jaxswap._search.pieces import InPieces
from jaxswap._search.search import SEARCH_SECONDS, Found, Search
from jaxswap._simulate.draft import Draft

NOTHING: Mapping[int, Lessons] = {}
"""No lessons about any program."""
ROUNDS = 4
"""How often a mixture is corrected by what its program needs."""
SLOW = 1.5
"""Spare programs are searched, too, where the others need so many times the seconds of
the function as JAX runs it."""
GAIN = 0.9
"""A spare program is taken only if it needs at most this share of the seconds."""
GAIN_BY_PIECES = 0.995
"""The same, for programs in which values are stored in pieces."""
SAVED = 0.002
"""A draft may be faster than with everything kept by this share: what is recomputed
beside its use is not read."""
ESTIMATES = 32
"""Between how many steps from the least to the most bytes mixtures are estimated."""
SLACK = (0.5, 1.0)
"""Shares of what is large outside of loops, which a plan may do without. Loops are
given so much more than the limit leaves for them."""


class MixedPrograms:
    """Makes the programs in which loops run in mixtures of ways.

    Args:
        base: The program whose loops are mixed. It says how the loops inside of these
            loops run.
        inner: The same, as a decision.
        make: Traces the program with other decisions, and returns its search.
        level: In how many others the loops lie that are mixed. These others keep what
            an iteration leaves.
    """

    def __init__(
        self,
        base: Search,
        inner: DecideLoop,
        make: Callable[[DecideLoop], Search],
        level: int = 0,
    ) -> None:
        self._base = base
        self._inner = inner
        self._make = make
        self._level = level
        self._made: dict[object, Search] = {}
        self._mixtures: dict[bool, Mixtures] = {}

    def searches(self, limits: Limits) -> Iterator[Search]:
        """Return the programs to search below a limit."""
        for may_swap in self._swapping(limits):
            yield from self._near(limits, self._mixtures_of(may_swap))

    def promise(self, limits: Limits) -> tuple[bool, float]:
        """Estimate the best of these programs below a limit. Less is better.

        Returns:
            Whether all of them exceed the limit. The seconds of the fastest that does
            not, or else the bytes of the smallest.
        """
        kept = self._base.kept.timeline
        costs = [
            mixtures.cost(share / ESTIMATES * mixtures.most_bytes)
            for mixtures in map(self._mixtures_of, self._swapping(limits))
            for share in range(ESTIMATES + 1)
        ]
        room = limits.device_bytes - kept.device_bytes
        fast = [cost.seconds for cost in costs if cost.device_bytes <= room]
        if fast and limits.aim is Aim.FASTEST:
            return False, kept.seconds + min(fast)
        return True, kept.device_bytes + min(cost.device_bytes for cost in costs)

    def _near(self, limits: Limits, mixtures: Mixtures) -> Iterator[Search]:
        """Return programs that store as much as fits, and somewhat more."""
        if limits.aim is not Aim.FASTEST:
            yield self._search_of(mixtures.at(0))
            return
        most, limit = mixtures.most_bytes, limits.device_bytes
        nbytes, best = most, 0.0
        for _ in range(ROUNDS):
            search = self._search_of(mixtures.at(nbytes))
            room = limit - search.kept.timeline.device_bytes
            if room >= 0:
                best = max(best, nbytes)
            following = _other_bytes(mixtures, nbytes, room)
            if following is None:
                break
            nbytes = following
        search = self._search_of(mixtures.at(best))
        yield search
        if best < most:
            slack = _bytes_outside(search)
            for share in SLACK:
                yield self._search_of(mixtures.at(min(most, best + share * slack)))

    def _swapping(self, limits: Limits) -> tuple[bool, ...]:
        """Return whether mixtures may swap: those that do not are tried in any case.

        What an inner loop has swapped cannot be kept by the loop around it.
        """
        return (True, False) if limits.host_bytes != 0 and not self._level else (False,)

    def _mixtures_of(self, may_swap: bool) -> Mixtures:
        if may_swap not in self._mixtures:
            arranger = self._base.arranger
            loops = loops_at(arranger.graph.loops, self._level)
            mixtures = Mixtures(
                [loop.graph for loop, _ in loops],
                arranger.simulator.rates,
                may_swap=may_swap,
                times=[times for _, times in loops],
            )
            self._mixtures[may_swap] = mixtures
        return self._mixtures[may_swap]

    def _search_of(self, mixture: Mixture) -> Search:
        if mixture.key not in self._made:
            self._made[mixture.key] = self._make(mixture.or_else(self._inner))
        return self._made[mixture.key]


def loops_at(loops: Sequence[Loop], level: int) -> list[tuple[Loop, int]]:
    """Return the loops that lie in so many others, and how often each of them runs."""
    if level == 0:
        return [(loop, 1) for loop in loops]
    return [
        (inner, times * loop.graph.trip_count)
        for loop in loops
        for inner, times in loops_at(loop.graph.loops, level - 1)
    ]


def _other_bytes(mixtures: Mixtures, nbytes: float, room: float) -> float | None:
    """Return how much to store instead, if a program leaves room or exceeds its limit.

    Segments are whole iterations. So a little less may be the same mixture, which is
    too much again. Then it is twice as much less.

    Returns:
        Bytes of another mixture, `None` if there is none.
    """
    before, most = mixtures.at(nbytes).key, mixtures.most_bytes
    while True:
        other = min(max(0.0, nbytes + room), most)
        if mixtures.at(other).key != before:
            return other
        if room >= 0 or other == 0:
            return None
        room *= 2


def _bytes_outside(search: Search) -> int:
    """Return the bytes that a plan may free at the peak, what loops store left out."""
    graph: Graph = search.arranger.graph
    timeline = search.kept.timeline
    alive = timeline.alive(int(timeline.device_bytes_at.argmax()))
    makers = graph.producers()
    found = {timeline.steps.values[b] for b in alive} & {*search.candidates.forward}
    return sum(graph.values[v].nbytes for v in found if makers[v].body is None)


class Mixer(Protocol):
    """Makes programs for a limit."""

    def searches(self, limits: Limits) -> Iterable[Search]:
        """Return the programs to search below a limit."""
        ...


Spare = Callable[[], Sequence[Search]]
"""Makes programs that are searched only if all before do not fit, or are slow."""


class Programs:
    """Searches programs that differ in how loops, checkpoints and branches run.

    Args:
        searches: One search for each program.
        plain: The function as JAX runs it, with everything kept.
        mixers: Make further programs for each limit.
        spare: Returns what makes further programs. Each is searched only if all before
            do not fit, or are slow. What was made is made again the same.
        pieces: Makes programs in which values can be stored in pieces. `None`: values
            are stored whole.

    Attributes:
        searches: One search for each program. More may follow, as limits are tried.
        plain: The function as JAX runs it, with everything kept.
    """

    def __init__(
        self,
        searches: Sequence[Search],
        plain: Draft | None = None,
        mixers: Sequence[Mixer] = (),
        spare: Callable[[], Sequence[Spare]] = tuple,
        pieces: InPieces | None = None,
    ) -> None:
        self._spare = spare
        self.searches = sorted(searches, key=_seconds)
        self.plain = searches[0].kept if plain is None else plain
        self._fixed = tuple(self.searches)
        self._mixers = tuple(mixers)
        self._pieces = pieces

    def find(
        self,
        limits: Limits,
        lessons: Mapping[int, Lessons] = NOTHING,
        seconds: float = SEARCH_SECONDS,
    ) -> Found:
        """Find the best draft of all programs.

        A program is not searched if it is clearly slower than the best draft so far
        even with everything kept.

        Args:
            limits: How much memory the draft may use.
            lessons: What is known of each program, by its position in `searches`.
            seconds: How much to search, for all programs together.

        Returns:
            The best draft, with its program. The bound holds for all programs.
        """
        programs = self._hidden(self._programs(limits), lessons)
        best = self._best_of(programs, limits, lessons, seconds)
        assert best is not None
        for make in () if self._is_quick(best) else self._spare():
            programs = self._known(make())
            other = self._best_of(programs, limits, lessons, seconds, best)
            if other is not None and _is_better(other, best, limits):
                best = other
            elif best.fits:
                break
            if self._is_quick(best):
                break
        return self._in_pieces(best, limits, lessons, seconds)

    def _is_quick(self, best: Found) -> bool:
        """Whether a draft is good enough not to look at spare programs."""
        slow = SLOW * self.plain.timeline.seconds
        return best.fits and _seconds_of(best) <= slow

    def _in_pieces(
        self,
        whole: Found,
        limits: Limits,
        lessons: Mapping[int, Lessons],
        seconds: float,
    ) -> Found:
        """Return a draft that stores values in pieces, if it is better than a draft.

        The bound is that of whole values: it allows fractions of them.
        """
        is_fast = _seconds_of(whole) <= (1 + SAVED) * whole.bound_seconds
        if self._pieces is None or (whole.fits and is_fast):
            return whole
        search = self.searches[whole.program]
        cut = self._pieces.search(search, whole.draft, limits)
        if cut is None:
            return whole
        found = self._best_of(self._known([cut]), limits, lessons, seconds, whole)
        if found is None or not _is_better(found, whole, limits, GAIN_BY_PIECES):
            return whole
        bound = min(whole.bound_seconds, _seconds_of(found))
        return dataclasses.replace(found, bound_seconds=bound)

    def _best_of(
        self,
        programs: Sequence[Search],
        limits: Limits,
        lessons: Mapping[int, Lessons],
        seconds: float,
        other: Found | None = None,
    ) -> Found | None:
        """Return the best draft of some programs, the fastest program first.

        Args:
            programs: The programs.
            limits: How much memory the draft may use.
            lessons: What is known of each program, by its position in `searches`.
            seconds: How much to search, for all these programs together.
            other: The best draft of others. Programs that cannot be faster are not
                searched. If none is, the result is `None`.
        """
        best: Found | None = None
        bounds: list[float] = [] if other is None else [other.bound_seconds]
        for search in programs:
            fastest = [f for f in (best, other) if f is not None and f.fits]
            limit = min(map(_seconds_of, fastest), default=math.inf)
            if _seconds(search) >= (1 + SAVED) * limit:
                break
            at = self.searches.index(search)
            known = lessons.get(at, NO_LESSONS)
            found = search.find(limits, known, seconds, len(programs))
            bounds.append(found.bound_seconds)
            if best is None or _rank(found, limits) < _rank(best, limits):
                best = dataclasses.replace(found, program=at)
        if best is None:
            return None
        bound = min(*bounds, _seconds_of(best))
        return dataclasses.replace(best, bound_seconds=bound)

    def _known(self, searches: Sequence[Search]) -> Sequence[Search]:
        """Number some programs. Return them, the fastest first."""
        self.searches += [s for s in searches if s not in self.searches]
        return sorted(searches, key=_seconds)

    def _hidden(
        self, programs: list[Search], lessons: Mapping[int, Lessons]
    ) -> list[Search]:
        """Leave out programs whose loops swap as much as nothing could hide before."""
        exposed = [self.searches[at] for at, one in lessons.items() if one.is_exposed]
        most = min(map(_loop_host_bytes, exposed), default=None)
        if most is None:
            return programs
        return [s for s in programs if _loop_host_bytes(s) < most] or programs

    def _programs(self, limits: Limits) -> list[Search]:
        """Return the programs to search, the fastest first."""
        mixed = [search for mixer in self._mixers for search in mixer.searches(limits)]
        self._known(list(dict.fromkeys(mixed)))
        return sorted(dict.fromkeys((*self._fixed, *mixed)), key=_seconds)

    def lay_out_again(
        self, found: Found, limits: Limits, lessons: Mapping[int, Lessons]
    ) -> Found:
        """Lay the actions of a draft out once more, with what was learnt since then."""
        search = self.searches[found.program]
        again = search.lay_out_again(
            found.draft, limits, lessons.get(found.program, NO_LESSONS)
        )
        return dataclasses.replace(again, program=found.program)

    @property
    def is_cut_short(self) -> bool:
        """Whether a search took so long that it was stopped by the clock."""
        return any(search.is_cut_short for search in self.searches)

    def forget(self) -> None:
        """Let all searches start from nothing."""
        for search in self.searches:
            search.forget()


def _loop_host_bytes(search: Search) -> int:
    return search.arranger.simulator.loop_host_bytes


def _seconds(search: Search) -> float:
    return search.kept.timeline.seconds


def _seconds_of(found: Found) -> float:
    return found.draft.timeline.seconds


def _is_better(spare: Found, best: Found, limits: Limits, gain: float = GAIN) -> bool:
    """Whether a draft of a spare program is worth taking."""
    if spare.fits and best.fits:
        return _seconds_of(spare) <= gain * _seconds_of(best)
    return _rank(spare, limits) < _rank(best, limits)


def _rank(found: Found, limits: Limits) -> tuple[bool, bool, float]:
    """Prefer what fits and is fast, then what is small. Host memory is no way out."""
    timeline = found.draft.timeline
    if found.fits:
        return (False, False, timeline.seconds)
    is_over = limits.is_over_on_host(timeline.host_bytes)
    return (True, is_over, float(timeline.device_bytes))
