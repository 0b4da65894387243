"""Loops and bytes -> how many iterations of each loop run in which way.

A byte of device memory should save as much time as it can. So all loops begin with the
way that stores least. Then those changes of way come first that save most seconds for a
byte. The last change is made for as many iterations as there are bytes left for: the
last ones of the loop, which the backward pass reads first.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

from jaxswap._gpu.rates import Rates
from jaxswap._graph.graph import DecideLoop, Graph, Segment, alike
from jaxswap._graph.signature import signature_of
from jaxswap._search.ways import Way, Ways, lower_hull

ROUNDING = 0.5
"""Bytes that are missing because numbers were rounded."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How some loops run.

    Attributes:
        segments: By the signature of a body.
    """

    segments: Mapping[str, tuple[Segment, ...]]

    def decides(self, body: Graph) -> tuple[Segment, ...] | None:
        """Return how a loop runs, which has this body. `None` for further loops."""
        return self.segments.get(signature_of(body).program)

    def or_else(self, decide: DecideLoop) -> DecideLoop:
        """Return a decision that asks another one about further loops."""

        def decide_loop(body: Graph) -> tuple[Segment, ...]:
            known = self.decides(body)
            return decide(body) if known is None else known

        return decide_loop

    @property
    def key(self) -> tuple[tuple[str, tuple[Segment, ...]], ...]:
        """What differs between two mixtures."""
        return tuple(sorted(self.segments.items(), key=lambda item: item[0]))


@dataclasses.dataclass(frozen=True)
class _Change:
    """A change of all iterations of a loop to a way that stores more."""

    loop: str
    before: Way
    after: Way
    iterations: int
    times: int
    held: int

    @property
    def nbytes(self) -> float:
        """Bytes that it takes for each iteration, in all loops with this body."""
        return (self.after.device_bytes - self.before.device_bytes) * self.held

    @property
    def seconds_per_byte(self) -> float:
        """Seconds that a byte saves."""
        saved = (self.before.seconds - self.after.seconds) * self.times
        return saved / self.nbytes


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a mixture takes more than loops of which everything is kept. Estimated.

    Attributes:
        seconds: Of both passes.
        device_bytes: What is stored, and what an iteration takes while it runs.
    """

    seconds: float
    device_bytes: float


class Mixtures:
    """The mixtures of the ways to run some loops.

    Args:
        bodies: The bodies of the loops.
        rates: Those of the GPU.
        may_swap: Whether values may leave for the host.
        times: How often each of these loops runs, and keeps what it stores. Left out:
            once. A loop that runs several times holds one time more: what it stores is
            copied to and from what the loop around it stores.
    """

    def __init__(
        self,
        bodies: Sequence[Graph],
        rates: Rates,
        *,
        may_swap: bool = True,
        times: Sequence[int] = (),
    ) -> None:
        self._bodies: dict[str, Graph] = {}
        self._times: dict[str, int] = {}
        self._held: dict[str, int] = {}
        for body, count in zip(bodies, times or [1] * len(bodies), strict=True):
            name = signature_of(body).program
            self._bodies[name] = body
            self._times[name] = self._times.get(name, 0) + count
            self._held[name] = self._held.get(name, 0) + count + (count > 1)
        self._rates = rates
        self._ways: dict[str, tuple[Way, ...]] = {}
        self._kept: dict[str, Way] = {}
        self._least: dict[str, Way] = {}
        changes: list[_Change] = []
        for name, body in self._bodies.items():
            ways = Ways(body, rates)
            found = (*ways.single, *ways.blocks)
            self._kept[name] = ways.kept
            self._ways[name] = tuple(w for w in found if may_swap or not w.host_bytes)
            hull = lower_hull(self._ways[name])
            self._least[name] = hull[0]
            changes += (
                self._change(name, before, after)
                for before, after in itertools.pairwise(hull)
            )
        self._changes = sorted(changes, key=lambda c: -c.seconds_per_byte)

    def _change(self, name: str, before: Way, after: Way) -> _Change:
        count = self._bodies[name].trip_count
        return _Change(name, before, after, count, self._times[name], self._held[name])

    @property
    def most_bytes(self) -> float:
        """Bytes with which every loop runs in its fastest way."""
        return sum(change.nbytes * change.iterations for change in self._changes)

    @property
    def steps(self) -> tuple[float, ...]:
        """Bytes with which every loop runs in one way, from the least to the most."""
        taken = (change.nbytes * change.iterations for change in self._changes)
        return tuple(itertools.accumulate(taken, initial=0.0))

    def at(self, nbytes: float) -> Mixture:
        """Return the mixture for some bytes more than the least."""
        segments: dict[str, tuple[Segment, ...]] = {}
        for name, of_loop in self._runs(nbytes).items():
            body = self._bodies[name]
            segments[name] = tuple(_segments(of_loop, body.trip_count))
            for _, way in of_loop:
                if way.again is not None:
                    block = dataclasses.replace(body, trip_count=way.block)
                    again = alike(block, way.again.actions)
                    segments[signature_of(block).program] = again
        return Mixture(segments)

    def cost(self, nbytes: float) -> Cost:
        """Estimate what the mixture for some bytes takes."""
        seconds = stored = 0.0
        running, running_before = [0.0], [0.0]
        for name, of_loop in self._runs(nbytes).items():
            kept, times, held = self._kept[name], self._times[name], self._held[name]
            running_before.append(kept.running_bytes)
            for count, way in of_loop:
                seconds += times * count * (way.seconds - kept.seconds)
                stored += held * count * (way.device_bytes - kept.device_bytes)
                running.append(way.running_bytes)
        return Cost(seconds, stored + max(running) - max(running_before))

    def _runs(self, nbytes: float) -> dict[str, list[tuple[int, Way]]]:
        """Return how many iterations of each loop run in which way."""
        runs = {
            name: [(self._bodies[name].trip_count, way)]
            for name, way in self._least.items()
        }
        left = nbytes
        for change in self._changes:
            if left < change.nbytes * change.iterations - ROUNDING:
                runs[change.loop] = self._partly(change, left)
                break
            runs[change.loop] = [(change.iterations, change.after)]
            left -= change.nbytes * change.iterations
        return runs

    def _partly(self, change: _Change, nbytes: float) -> list[tuple[int, Way]]:
        """Return how a loop runs with fewer bytes than a change takes.

        Either the last iterations change their way, or all of them take one that stores
        no more.
        """
        total, before, after = change.iterations, change.before, change.after
        count = int(nbytes / change.nbytes)
        of_each = before.device_bytes + nbytes / (total * change.held)
        single = min(
            (way for way in self._ways[change.loop] if way.device_bytes <= of_each),
            key=lambda way: way.seconds,
        )
        mixed = (total - count) * before.seconds + count * after.seconds
        mixed += self._joint_seconds(change.loop)
        if not count or single.seconds * total <= mixed:
            return [(total, single)]
        return [(total - count, before), (count, after)]

    def _joint_seconds(self, loop: str) -> float:
        """Seconds to cut and join the arrays that a loop of two segments scans.

        They are cut in both passes, and their gradients are joined.
        """
        body = self._bodies[loop]
        carried = len(body.carried)
        slices = (*body.sliced, *body.sliced, *body.sliced, *body.outputs[carried:])
        nbytes = body.trip_count * sum(body.values[v].nbytes for v in slices)
        return 2 * nbytes / self._rates.memory_bytes_per_second


def _segments(runs: Sequence[tuple[int, Way]], total: int) -> Iterator[Segment]:
    """Return the segments of a loop of which so many iterations run in these ways.

    Blocks are whole. What is left over runs as the iterations of a block do.
    """
    left = total
    for at, (count, way) in enumerate(runs):
        is_last = at == len(runs) - 1
        count = left if is_last else min(left, -(-count // way.block) * way.block)
        in_blocks = count // way.block * way.block
        if in_blocks:
            yield Segment(in_blocks, way.actions, way.block)
        if count > in_blocks:
            assert way.again is not None
            yield Segment(count - in_blocks, way.again.actions)
        left -= count
