"""The loop of search and compiler, with both of them following a script.

Drafts of the scripted search need as many bytes as they are given room. What their
programs need, and which of their copies are exposed, each test says.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from handmade import MIB, chain

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.attempt import Refined, Task
from jaxswap._search.lessons import Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.measured import Measured
from jaxswap._search.refine import refine
from jaxswap._search.search import Found

CHAIN = chain(2)
GRAPH = dataclasses.replace(
    CHAIN,
    values=tuple(
        dataclasses.replace(v, scope="net/block", source="src/net.py:12 (call)")
        for v in CHAIN.values
    ),
)
LIMIT = 800 * MIB
SWAP_RATE, PLAIN = 400.0, 0.5
"""Bytes a second, and the seconds of plain, where drafts take a second."""
VALUE = GRAPH.values[5]
LABEL = f"net.block.{VALUE.primitive}:net.py:12"


@dataclasses.dataclass(frozen=True)
class Line:
    """The numbers of a timeline."""

    device_bytes: int
    seconds: float
    host_bytes: int = 0
    stall_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class FakeDraft:
    """A draft without a schedule."""

    timeline: Line
    actions: tuple[Any, ...] = (Action.KEEP,) * len(GRAPH.values)
    graph: Graph = GRAPH
    staleness: tuple[int, int] = (6, 1)
    hold_for: int = 0
    fragmented_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Call:
    """One question to the search, with what was known then."""

    limits: Limits
    lessons: Lessons
    seconds: float = 0.0
    again: Any = None

    @property
    def room(self) -> int:
        return self.limits.device_bytes


class FakeSearch:
    """Fills the room it is given, or does what a script says."""

    def __init__(
        self,
        answers: Callable[[Limits], FakeDraft] | None = None,
        plain: FakeDraft | None = None,
    ) -> None:
        self.answers = answers or (lambda limits: draft_of(limits.device_bytes))
        self.plain = plain or draft_of(1000 * LIMIT)
        self.calls: list[Call] = []
        self.forgotten_after: int | None = None
        self.is_cut_short = False

    def find(self, limits: Limits, lessons: Any, seconds: float) -> Found:
        self.calls.append(Call(limits, lessons.get(0, Lessons()), seconds))
        return self.answer(limits)

    def lay_out_again(self, found: Found, limits: Limits, lessons: Any) -> Found:
        known = lessons.get(0, Lessons())
        self.calls.append(Call(limits, known, again=found.draft))
        return self.answer(limits)

    def answer(self, limits: Limits) -> Found:
        draft: Any = self.answers(limits)
        fits = limits.counted_bytes(draft) <= limits.device_bytes
        return Found(draft, 0.5, fits)

    def forget(self) -> None:
        self.forgotten_after = len(self.calls)


class FakeCompiler:
    """Compiles drafts to programs, counting them."""

    def __init__(self, program: Callable[[int, FakeDraft], Measured]) -> None:
        self.program = program
        self.drafts: list[FakeDraft] = []

    def __call__(self, draft: Any) -> Measured:
        self.drafts.append(draft)
        return self.program(len(self.drafts), draft)


def draft_of(nbytes: int, seconds: float = 1.0) -> FakeDraft:
    return FakeDraft(Line(nbytes, seconds))


def measured(device_bytes: int, **more: Any) -> Measured:
    """What is read from a scripted program."""
    sizes: dict[str, Any] = {"temp_bytes": 5, "host_bytes": 0}
    sizes |= {"swapped_bytes": 0, "exposed_bytes": 0}
    return Measured(device_bytes=device_bytes, **(sizes | more))


def adds(nbytes: int, **more: Any) -> Callable[[int, FakeDraft], Measured]:
    """Programs need so many bytes more than simulated."""
    return lambda count, draft: measured(draft.timeline.device_bytes + nbytes, **more)


def inverse(limits: Limits) -> FakeDraft:
    """The more room, the faster."""
    return draft_of(limits.device_bytes, LIMIT / limits.device_bytes)


def exposes(
    seen: Sequence[bool], labels: Sequence[str], **more: Any
) -> Callable[[int, FakeDraft], Measured]:
    """Programs in which, by their number, the copies back are exposed or not."""

    def program(count: int, draft: FakeDraft) -> Measured:
        is_exposed = seen[min(count, len(seen)) - 1]
        return measured(
            draft.timeline.device_bytes,
            swapped_bytes=100,
            exposed_bytes=50 if is_exposed else 0,
            exposed_returns=tuple(labels) if is_exposed else (),
            **more,
        )

    return program


def run(
    search: Any,
    compiler: Any,
    *,
    limit: int = LIMIT,
    host: int | None = None,
    most: int = 4,
    known: int = 0,
    lines: list[str] | None = None,
) -> Refined:
    """Refine; without a limit, for the smallest program."""
    told = [] if lines is None else lines
    limits = Limits(limit, host) if limit else Limits.smallest(host)
    return refine(
        search, compiler, Task(limits, most, 2.5, SWAP_RATE, PLAIN, known), told.append
    )
