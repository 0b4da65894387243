"""A source -> the programs among which a plan is searched for."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from jaxswap._gpu.rates import Rates
from jaxswap._graph.graph import DecideLoop, Graph, Inside
from jaxswap._graph.pieces import Pieces
from jaxswap._graph.signature import Signature, signature_of
from jaxswap._run.source import Source
from jaxswap._schedule.decision import Policy, loops_by
from jaxswap._search.inside_out import InsideOut
from jaxswap._search.limits import Limits
from jaxswap._search.loops import Mixer, Spare
from jaxswap._search.search import Search
from jaxswap._search.ways import LEAST_WAYS, WAYS, keep_all
from jaxswap._slabs.choices import Choice, choices_of, worth_trying
from jaxswap._slabs.settings import settings_of
from jaxswap._slabs.slabs import AUTO, Slabs
from jaxswap._sweeps.lines import longest_of_space
from jaxswap._sweeps.slabbed import Prepared
from jaxswap._trace.describe import Traced
from jaxswap._trace.pieces import in_pieces
from jaxswap._trace.program import Program

FEW = 8
"""Where a loop has fewer iterations, what one of them takes while it runs matters as
much as what all of them store. Mixtures do not see that. So more ways are tried."""


@dataclasses.dataclass(frozen=True)
class Room:
    """What slabs are chosen for.

    Attributes:
        rates: Those of the GPU.
        limits: The memory that a plan may use.
    """

    rates: Rates
    limits: Limits

    @property
    def has_host(self) -> bool:
        """Whether sweeps may read and write windows of host arrays."""
        return self.limits.host_bytes != 0


class ProgramsOf:
    """Traces a function with its loops, checkpoints and branches run in several ways.

    Args:
        source: The function.
        plain: The same, traced as JAX runs it, without slabs.
        policy: Decides on loops. `None`: the planner's own ways are traced.
        search_of: Returns the search for plans of a program.
        room: What slabs are chosen for.
        progress: Is told what is tried, one line at a time.

    Attributes:
        traced: All programs so far, `plain` included.
        searches: The searches to begin with. The first is that of `plain` if `plain` is
            among them.
        mixers: Make further programs, in which loops run in mixtures of ways.
        spare: Returns what makes programs that are searched only if the others do not
            fit, or are slow: those by slabs.
    """

    def __init__(
        self,
        source: Source,
        plain: Traced,
        policy: Policy | None,
        search_of: Callable[[Graph], Search],
        room: Room,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._source = source
        self._progress = progress
        self._search_of = search_of
        self._room = room
        self.traced = [plain]
        self.searches: list[Search] = []
        self.mixers: list[Mixer] = []
        self.spare: Callable[[], Sequence[Spare]] = tuple
        if policy is not None:
            is_plain = not isinstance(source.slabs, Slabs) and not plain.graph.loops
            self._add(plain if is_plain else source.traced(loops_by(policy)))
            return
        if isinstance(source.slabs, Slabs):
            self.searches += self._by_slabs(source.slabs)
            return
        if source.slabs == AUTO:
            self.spare = functools.cache(functools.partial(self._cut, plain))
        for inside in source.insides:
            is_plain = inside is Inside.AS_WRITTEN
            self._ways(plain if is_plain else source.traced(keep_all, inside), inside)

    def _cut(self, plain: Traced) -> list[Spare]:
        """Return what makes programs by slabs, the finest level alone first."""
        program = plain.program
        length = None if program.placement else longest_of_space(program)
        return [
            functools.cache(functools.partial(self._tried, setting))
            for setting in settings_of(length or 0)
        ]

    def _tried(self, setting: Sequence[Slabs]) -> Sequence[Search]:
        most, least = setting[0], setting[-1].count
        levels = "the finest level" if most.levels == 1 else f"{most.levels} levels"
        fewer = f"{least} to " if len(setting) > 1 else ""
        self._progress(f"trying {fewer}{most.count} slabs on {levels}")
        return self._by_slabs(*setting)

    def _by_slabs(self, *setting: Slabs) -> list[Search]:
        """Return programs by slabs, in which more or less is recomputed and swapped.

        Args:
            *setting: Slabs that differ in their number.
        """
        source = self._source.cut(setting[0])
        whole = self._whole
        prepared = Prepared.of(whole, setting[0], source.named(whole))
        known: set[Signature] = set()
        found: list[Search] = []
        for cut in self._numbered(setting, prepared):
            traced = source.described(prepared.cut(cut).program)
            signature = signature_of(traced.graph)
            if signature in known:
                continue
            known.add(signature)
            found.append(self._added(traced))
        return found

    @functools.cached_property
    def _whole(self) -> Program:
        """What is cut into slabs."""
        return self._source.program(keep_all, self._source.insides[0])

    def _numbered(self, setting: Sequence[Slabs], prepared: Prepared) -> list[Slabs]:
        """Return slabs that say how much is recomputed and swapped."""
        first = setting[0]
        swapped = first.swapped if self._room.has_host else first.swapped or 0
        if first.recomputed is not None and swapped is not None:
            return [dataclasses.replace(slabs, swapped=swapped) for slabs in setting]
        by_count: dict[int, Slabs] = {}
        choices: list[Choice] = []
        for slabs in setting:
            storage = prepared.storage(slabs.count, in_pairs=swapped != 0)
            count = storage.sweeping.grid.count
            if count not in by_count:
                by_count[count] = slabs
                numbers = {"recomputed": slabs.recomputed, "swapped": swapped}
                choices += choices_of(storage, self._room.rates, **numbers)
        given_bytes = _given_bytes(self.traced[0].graph)
        limit_bytes = max(0, self._room.limits.device_bytes - given_bytes)
        return [
            dataclasses.replace(
                by_count[c.count], recomputed=c.recomputed, swapped=c.swapped
            )
            for c in worth_trying(choices, limit_bytes)
        ]

    def in_pieces(self, whole: Search, pieces: Sequence[Pieces]) -> Search:
        """Return the search of one of these programs, with values cut into pieces."""
        traced = next(t for t in self.traced if t.graph is whole.arranger.graph)
        return self._added(self._source.described(in_pieces(traced.program, pieces)))

    def _ways(self, kept: Traced, inside: Inside) -> None:
        """Add the programs to begin with, and what mixes the ways of their loops."""
        base = self._add(kept)
        loops = kept.graph.loops
        if not loops:
            return
        make = functools.partial(self._made, inside)
        self.mixers.append(InsideOut(base, make))
        known = {tuple(loop.segments for loop in loops)}
        is_nested = any(loop.graph.loops for loop in loops)
        is_short = any(loop.graph.trip_count < FEW for loop in loops)
        for way in WAYS[1:] if is_short and not is_nested else LEAST_WAYS:
            decided = tuple(way(loop.graph) for loop in loops)
            if decided not in known:
                known.add(decided)
                self._add(self._source.traced(way, inside))

    def _made(self, inside: Inside, decide_loop: DecideLoop) -> Search:
        return self._added(self._source.traced(decide_loop, inside))

    def _added(self, traced: Traced) -> Search:
        self.traced.append(traced)
        return self._search_of(traced.graph)

    def _add(self, traced: Traced) -> Search:
        if traced is not self.traced[0]:
            self.traced.append(traced)
        self.searches.append(self._search_of(traced.graph))
        return self.searches[-1]


def _given_bytes(graph: Graph) -> int:
    """Return the device memory of arguments and results."""
    given = {*graph.arguments, *graph.outputs, *graph.gradients}
    return sum(graph.values[v].nbytes for v in given)
