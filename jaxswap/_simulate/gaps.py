"""Buffers of a timeline -> the gaps that XLA leaves between them.

XLA gives each buffer one place for all of its life. It places the largest buffers
first, and of equal ones those that live longest, each into the smallest gap that is
free all the while. It tries the longest lives first, too, and takes what needs less. So
the buffers may need more than the most bytes that are alive at once: the rest are gaps.

A kernel that computes element by element may write over an operand that nothing reads
any more. Then one buffer lives on. XLA does so in most cases, but not in all. So gaps
are counted both ways, and the more of them are expected: a plan with few gaps both ways
was seen to have few.
"""

import bisect
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from jaxswap._graph.graph import Equation, Graph
from jaxswap._simulate.kernels import Kernel
from jaxswap._simulate.timeline import Timeline

SMALL_SHARE = 512
"""A buffer is small if it takes less than one in so many bytes of the peak. Small ones
fit into any gap."""


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """A buffer's bytes, with the first and the last step at which it holds memory."""

    start: int
    end: int
    nbytes: int

    @property
    def steps(self) -> int:
        """How many steps it lives beyond the first."""
        return self.end - self.start


def expected_gap_bytes(graph: Graph, timeline: Timeline) -> int:
    """Return how many bytes XLA is expected to leave free between a draft's buffers."""
    lives = lives_of(graph, timeline)
    large_bytes = timeline.device_bytes // SMALL_SHARE
    return max(
        gap_bytes([life for life in some.values() if life.nbytes >= large_bytes])
        for some in (
            continued(lives, graph, timeline, is_any=is_any) for is_any in (False, True)
        )
    )


def lives_of(graph: Graph, timeline: Timeline) -> dict[int, Life]:
    """Return the life of each buffer that is not the caller's."""
    steps = timeline.steps
    ends = zip(timeline.made(), timeline.freed.tolist(), strict=True)
    return {
        b: Life(start, max(start, end), graph.values[steps.values[b]].nbytes)
        for b, (start, end) in enumerate(ends)
        if not steps.is_fixed[b]
    }


def continued(
    lives: Mapping[int, Life], graph: Graph, timeline: Timeline, *, is_any: bool
) -> dict[int, Life]:
    """Return the lives if operands live on in the results that are written over them.

    Args:
        lives: Those of single buffers.
        graph: The program.
        timeline: What runs.
        is_any: Whether kernels write over operands wherever XLA may do so, not only
            where results are written in place.
    """
    found, first = dict(lives), {b: b for b in lives}

    def live_on(old: int, b: int) -> None:
        found[old] = dataclasses.replace(found[old], end=found.pop(b).end)
        first[b] = old

    for at, step in enumerate(timeline.steps.steps):
        if not isinstance(step, Kernel):
            continue
        if step.is_in_place:
            live_on(first[step.overwrites[0]], step.makes[0])
            continue
        if not (is_any and overwrites(graph.equations[step.equation])):
            continue
        for b in step.makes:
            olds = (first[r] for r in sorted(step.reads) if r in first and b in first)
            ending = (old for old in olds if found[old].start < at == found[old].end)
            old = next((o for o in ending if found[o].nbytes == found[b].nbytes), None)
            if old is not None:
                live_on(old, b)
    return found


def overwrites(eqn: Equation) -> bool:
    """Whether the kernel of an equation may write over what it reads."""
    return eqn.is_cheap and not (eqn.is_heavy or eqn.is_reduction)


def gap_bytes(lives: Sequence[Life]) -> int:
    """Return how much more memory placed buffers need than the most that are alive."""
    by_size = sorted(lives, key=lambda life: (-life.nbytes, -life.steps))
    by_steps = sorted(lives, key=lambda life: (-life.steps, -life.nbytes))
    return min(_placed_bytes(by_size), _placed_bytes(by_steps)) - _most_alive(lives)


def _placed_bytes(lives: Iterable[Life]) -> int:
    """Place buffers one after the other. Return where the highest one ends."""
    placed: list[tuple[int, Life]] = []  # By the byte at which each begins.
    top = 0
    for life in lives:
        start = _best_start(placed, life)
        bisect.insort_right(placed, (start, life), key=lambda p: p[0])
        top = max(top, start + life.nbytes)
    return top


def _best_start(placed: Iterable[tuple[int, Life]], life: Life) -> int:
    """Return the byte at which the smallest gap begins that holds a buffer."""
    best, room, end = None, 0, 0
    for start, other in placed:
        if other.end < life.start or other.start > life.end:
            continue
        gap = start - end
        if gap >= life.nbytes and (best is None or gap < room):
            best, room = end, gap
        end = max(end, start + other.nbytes)
    return end if best is None else best


def _most_alive(lives: Sequence[Life]) -> int:
    """Return the most bytes that are alive at once."""
    changes = [(life.start, life.nbytes) for life in lives]
    changes += [(life.end + 1, -life.nbytes) for life in lives]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
