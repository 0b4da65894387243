"""A loop's body -> the ways in which an iteration may run, with seconds and bytes."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence

from jaxswap._gpu.rates import Rates
from jaxswap._graph.compress import copied_bytes
from jaxswap._graph.graph import Action, DecideLoop, Graph, Segment, alike
from jaxswap._schedule.instructions import Instruction, Run
from jaxswap._schedule.issue import schedule_body
from jaxswap._simulate.simulate import iteration_of


def keep_all(body: Graph) -> tuple[Segment, ...]:
    """Keep every value, as plain JAX does with a loop."""
    return alike(body, [Action.KEEP] * len(body.values))


@dataclasses.dataclass(frozen=True)
class WayToRun:
    """One way to run the iterations of any loop.

    Attributes:
        carry: The action of what one iteration hands to the next.
        heavy: The action of a share of the results of heavy operations.
        share: This share, in bytes. It takes the results that are most costly to
            recompute for their size. Everything else is recomputed.
    """

    carry: Action
    heavy: Action
    share: float

    def decide(self, body: Graph) -> tuple[Segment, ...]:
        """Return one segment: the actions are the same in each iteration."""
        costly = by_cost(body)
        left = self.share * sum(body.values[v].nbytes for v in costly)
        count = 0
        for v in costly:
            left -= body.values[v].nbytes
            if left < -body.values[v].nbytes / 2:
                break
            count += 1
        return alike(body, self.actions(body, costly[:count]))

    def actions(self, body: Graph, stored: Iterable[int]) -> tuple[Action, ...]:
        """Return the actions with which these heavy results are stored."""
        actions = [Action.RECOMPUTE] * len(body.values)
        for v in body.carried:
            actions[v] = self.carry
        for v in stored:
            actions[v] = self.heavy
        return tuple(actions)


_SHARES = (1.0, 0.75, 0.5, 0.25)
WAYS: tuple[DecideLoop, ...] = (
    keep_all,
    *(WayToRun(Action.KEEP, Action.KEEP, share).decide for share in _SHARES),
    *(WayToRun(Action.OFFLOAD, Action.KEEP, share).decide for share in _SHARES),
    *(WayToRun(Action.OFFLOAD, Action.OFFLOAD, share).decide for share in _SHARES),
    WayToRun(Action.KEEP, Action.RECOMPUTE, 0.0).decide,
    WayToRun(Action.OFFLOAD, Action.RECOMPUTE, 0.0).decide,
)
"""From what plain JAX does to what needs least memory."""

LEAST_WAYS = WAYS[-2:]
"""Those in which each iteration stores its carry alone."""


def by_cost(body: Graph) -> list[int]:
    """Return the heavy results that the backward pass needs, the most costly first.

    Costly is what takes long to recompute for its size.
    """
    needed = _needed(body)
    flops = {
        v: eqn.flops
        for eqn in body.equations
        if eqn.is_heavy and not eqn.is_backward
        for v in eqn.outputs
        if body.values[v].nbytes and v in needed
    }
    return sorted(flops, key=lambda v: -flops[v] / body.values[v].nbytes)


def _needed(body: Graph) -> set[int]:
    """Return the forward values that the backward pass reads, directly or not."""
    needed = set(body.residuals())
    for eqn in reversed(body.equations):
        if not eqn.is_backward and not needed.isdisjoint(eqn.outputs):
            needed.update(eqn.inputs)
    return needed


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to run iterations of one loop, and what an iteration costs then.

    Attributes:
        actions: One for each value of the body.
        seconds: Of both passes.
        device_bytes: What an iteration leaves in device memory for its backward pass.
        host_bytes: What it leaves in host memory.
        block: How many iterations are recomputed together.
        again: How the iterations of a block run when it is recomputed.
        running_bytes: What an iteration takes in device memory while it runs, beside
            what is stored.
    """

    actions: tuple[Action, ...]
    seconds: float
    device_bytes: float
    host_bytes: float
    block: int = 1
    again: "Way | None" = None
    running_bytes: float = 0.0


class Ways:
    """The ways to run the iterations of one loop.

    Args:
        body: The loop's body.
        rates: Those of the GPU.
    """

    def __init__(self, body: Graph, rates: Rates) -> None:
        self.body = body
        self._rates = rates
        self._carry_bytes = sum(body.values[v].nbytes for v in body.carried)

    @functools.cached_property
    def kept(self) -> Way:
        """The way that plain JAX runs the loop."""
        return self._way(keep_all(self.body)[0].actions)

    @functools.cached_property
    def single(self) -> tuple[Way, ...]:
        """Ways in which each iteration is by itself."""
        costly = by_cost(self.body)
        step = max(1, math.ceil(len(costly) / MOST_SHARES))
        counts = [*range(0, len(costly), step), len(costly)]
        decided = [keep_all(self.body)[0].actions]
        for carry, heavy in _ACTIONS:
            way = WayToRun(carry, heavy, 0.0)
            decided += [way.actions(self.body, costly[:count]) for count in counts]
        return tuple(map(self._way, dict.fromkeys(decided)))

    @functools.cached_property
    def blocks(self) -> tuple[Way, ...]:
        """Ways in which blocks of iterations are recomputed together."""
        if self.body.trip_count < 2 * FEWEST_IN_A_BLOCK:
            return ()
        found: list[Way] = []
        for again in lower_hull(w for w in self.single if not w.host_bytes):
            one = self._blocks_of(again, self.body.trip_count)
            if one is not None:
                found.append(one)
        return tuple(found)

    def _way(self, actions: tuple[Action, ...]) -> Way:
        """Simulate both passes of an iteration, each as the loop that runs it does."""
        body, rates = self.body, self._rates
        schedule, swapped = schedule_body(body, actions)
        given = {*body.arguments} - {*body.carried}
        stored = [v for v in schedule.device_residuals if v not in given]
        ahead = _pass_of(body, schedule.forward, body.arguments, body.outputs, stored)
        read = (*schedule.device_residuals, *body.cotangents)
        behind = _pass_of(body, schedule.backward, read, body.gradients)
        host = sum(copied_bytes(body.values[v], body.compress) for v in swapped)
        stayed = [v for v in stored if v not in swapped]
        latency = len(swapped) * rates.copy_latency_seconds
        forward, backward = iteration_of(ahead, rates), iteration_of(behind, rates)
        return Way(
            actions=tuple(actions),
            seconds=max(
                forward.seconds, latency + host / rates.swap_out_bytes_per_second
            )
            + max(backward.seconds, latency + host / rates.swap_in_bytes_per_second),
            device_bytes=sum(body.values[v].nbytes for v in stayed),
            host_bytes=host,
            running_bytes=max(forward.device_bytes, backward.device_bytes),
        )

    def _blocks_of(self, again: Way, count: int) -> Way | None:
        """Return blocks of the length with which all of the loop needs least memory."""
        if not again.device_bytes or not self._carry_bytes:
            return None
        best = math.sqrt(count * self._carry_bytes / again.device_bytes)
        block = _near_divisor(count, max(2, round(best)))
        if block * 2 > count:
            return None
        recompute = WayToRun(Action.KEEP, Action.RECOMPUTE, 0.0)
        border_bytes = self._carry_bytes / block
        return Way(
            actions=recompute.actions(self.body, ()),
            seconds=again.seconds + self._forward_seconds,
            device_bytes=border_bytes + block * again.device_bytes / count,
            host_bytes=0,
            block=block,
            again=again,
            running_bytes=again.running_bytes,
        )

    @functools.cached_property
    def _forward_seconds(self) -> float:
        """Seconds of an iteration of which nothing is stored."""
        body = self.body
        schedule, _ = schedule_body(body, keep_all(body)[0].actions)
        ahead = _pass_of(body, schedule.forward, body.arguments, body.outputs)
        return iteration_of(ahead, self._rates).seconds


def _pass_of(
    body: Graph,
    instructions: Sequence[Instruction],
    arguments: Sequence[int],
    *results: Sequence[int],
) -> Graph:
    """Return one pass of an iteration as a program of its own."""
    equations = [
        body.equations[step.equation] for step in instructions if isinstance(step, Run)
    ]
    return dataclasses.replace(
        body,
        equations=tuple(
            dataclasses.replace(eqn, index=at, is_backward=False)
            for at, eqn in enumerate(equations)
        ),
        arguments=tuple(arguments),
        outputs=tuple(dict.fromkeys(v for group in results for v in group)),
        cotangents=(),
        gradients=(),
    )


_ACTIONS = (
    (Action.KEEP, Action.KEEP),
    (Action.OFFLOAD, Action.KEEP),
    (Action.OFFLOAD, Action.OFFLOAD),
)
"""What becomes of the carry and of heavy results that are stored."""
MOST_SHARES = 12
"""How many shares of the heavy results are tried at most."""
FEWEST_IN_A_BLOCK = 8
"""A loop of fewer than twice as many iterations is not cut into blocks."""


def _near_divisor(count: int, wanted: int) -> int:
    """Return a divisor of a number near another one. If there is none, that one."""
    divisors = [d for d in range(2, count) if count % d == 0]
    near = min(divisors, key=lambda d: abs(math.log(d / wanted)), default=wanted)
    return near if 0.5 <= near / wanted <= 2 else wanted


def lower_hull(ways: Iterable[Way]) -> list[Way]:
    """Return the ways of which no mixture of others is better, the smallest first."""
    hull: list[Way] = []
    for way in sorted(ways, key=lambda w: (w.device_bytes, w.seconds)):
        if hull and way.seconds >= hull[-1].seconds:
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-2], way):
            hull.pop()
        hull.append(way)
    return hull


def _gain(smaller: Way, larger: Way) -> float:
    """Seconds that are saved for each byte more."""
    nbytes = larger.device_bytes - smaller.device_bytes
    return (smaller.seconds - larger.seconds) / nbytes if nbytes else math.inf
