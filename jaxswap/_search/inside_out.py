"""Loops, those inside of loops first -> the programs in which they run in mixtures.

How an inner loop runs decides what an iteration of the loop around it stores, and what
it takes to run. So loops are decided on from the inside out: for each of a few choices
for inner loops, the iterations of the loops around them are mixed. Or the iterations of
inner loops are mixed, and the loops around them keep what these store. An estimate
tells below a limit what of this is worth while.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

from jaxswap._graph.graph import DecideLoop, Loop
from jaxswap._search.limits import Limits
from jaxswap._search.loops import MixedPrograms, loops_at
from jaxswap._search.mixtures import Mixture, Mixtures
from jaxswap._search.search import Search
from jaxswap._search.ways import keep_all

LIKELY = 3
"""In how many of these ways programs are made below one limit."""
APART = 0.2
"""Two choices for inner loops differ by at least this share of the seconds between the
slowest and the fastest."""


class InsideOut:
    """Makes the programs in which loops run in mixtures of ways, inner loops included.

    Args:
        base: The program in which all loops keep everything.
        make: Traces the program with other decisions, and returns its search.
    """

    def __init__(self, base: Search, make: Callable[[DecideLoop], Search]) -> None:
        self._base = base
        self._make = make
        self._mixers = functools.cache(self._mixers_of)

    def searches(self, limits: Limits) -> Iterator[Search]:
        """Return the programs to search below a limit."""
        mixers = self._mixers(may_swap=limits.host_bytes != 0)
        for mixer in sorted(mixers, key=lambda m: m.promise(limits))[:LIKELY]:
            yield from mixer.searches(limits)

    def _mixers_of(self, *, may_swap: bool) -> list[MixedPrograms]:
        """Return what mixes the loops of a level, for each choice for inner ones."""
        choices: list[tuple[DecideLoop, Search]] = [(keep_all, self._base)]
        mixers: list[MixedPrograms] = []
        for level in reversed(range(_depth(self._base.arranger.graph.loops))):
            mixers += [MixedPrograms(s, d, self._make, level) for d, s in choices]
            if level:
                choices += [*self._further(choices, level, may_swap=may_swap)]
        return mixers

    def _further(
        self,
        choices: Sequence[tuple[DecideLoop, Search]],
        level: int,
        *,
        may_swap: bool,
    ) -> Iterator[tuple[DecideLoop, Search]]:
        """Go over choices for loops of a level, for each choice for loops in them."""
        for inner, search in choices:
            arranger = search.arranger
            bodies = [loop.graph for loop, _ in loops_at(arranger.graph.loops, level)]
            rates = arranger.simulator.rates
            mixtures = [*_apart(Mixtures(bodies, rates, may_swap=False))]
            if may_swap:
                mixtures.append(Mixtures(bodies, rates).at(0))
            for mixture in mixtures:
                if all(mixture.decides(body) == keep_all(body) for body in bodies):
                    continue
                decide = mixture.or_else(inner)
                yield decide, self._make(decide)


def _apart(mixtures: Mixtures) -> Iterator[Mixture]:
    """Go over mixtures in which loops run in one way, from the least to the most.

    Those are left out that hardly differ from the one before.
    """
    steps = mixtures.steps
    seconds = [mixtures.cost(nbytes).seconds for nbytes in steps]
    apart = APART * (seconds[0] - seconds[-1])
    before = None
    for nbytes, one in zip(steps, seconds, strict=True):
        if before is None or before - one >= apart:
            before = one
            yield mixtures.at(nbytes)


def _depth(loops: Sequence[Loop]) -> int:
    """Return how many loops lie in one another."""
    return max((1 + _depth(loop.graph.loops) for loop in loops), default=0)
