"""Graph, actions and timing -> `Schedule`: what runs when, and when copies start.

Each pass becomes a list of instructions in the order in which they are issued. XLA may
reorder them. So barriers (`jax.lax.optimization_barrier`) in front of heavy operations
make the order binding where it matters:

    Run a; SwapOut x; ...; Barrier(inputs of b, host copy of x); Run b

Here `b` waits until `x` has arrived on the host. So the device memory of `x` is free
from `b` on, and what runs between `a` and `b` hides the copy. In the other direction

    Barrier(inputs of b, host copy of x); SwapIn x; Run b; ...; Run c reads x

keeps the copy from starting before `b`. So `x` takes no device memory before that, and
`b` hides the copy.
"""

from collections.abc import Sequence

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.by_distance import ByDistance
from jaxswap._schedule.entries import Entry
from jaxswap._schedule.instructions import (
    Barrier,
    Instruction,
    Schedule,
    Swap,
    SwapIn,
    SwapOut,
    free_values,
)
from jaxswap._schedule.order import Order
from jaxswap._schedule.sequencer import Sequencer
from jaxswap._schedule.timing import Timing


def schedule(graph: Graph, actions: Sequence[Action], timing: Timing) -> Schedule:
    """Lay out both passes of `graph` in time.

    Args:
        graph: The traced program.
        actions: One for each value. Those of arguments and of values of the backward
            pass are ignored.
        timing: When copies start.
    """
    order = Order.of(graph, actions, *timing.staleness)
    return issue(order, swaps_by_distance(order, actions, timing))


def swaps_by_distance(
    order: Order, actions: Sequence[Action], timing: Timing
) -> tuple[Swap, ...]:
    """Lay out over an order the swaps that `actions` ask for, by distances."""
    graph, layout = order.graph, ByDistance(order, timing)
    nbytes = {v.index: v.nbytes for v in graph.values}
    leaving = leaving_values(graph, actions, timing)
    found = [layout.swap_of(v, nbytes[v]) for v in leaving]
    return layout.spread([swap for swap in found if swap is not None], nbytes)


def schedule_body(
    graph: Graph, actions: Sequence[Action]
) -> tuple[Schedule, tuple[int, ...]]:
    """Lay out one iteration of a loop.

    Other iterations run between its two passes. The loop itself does the copies: before
    the backward pass of an iteration begins, the loop has brought back what it reads.
    Values that are equal in each iteration are recomputed, not stored each time. So are
    values that an inner loop has swapped. What is recomputed is held until its last
    use: that takes memory in one iteration, and saves time in each of them.

    Args:
        graph: The loop's body.
        actions: One for each value, those of `graph.carried` included.

    Returns:
        The schedule of both passes, and the values to swap between them.
    """
    invariant = _invariant(graph)
    actions = [
        Action.RECOMPUTE if v in invariant or graph.values[v].host_nbytes else action
        for v, action in enumerate(actions)
    ]
    order = Order.of(graph, actions, len(graph.equations), 1)
    given = {*graph.arguments} - {*graph.carried}
    for is_free in (True, False):
        ahead, behind = _Issue(order, (), is_free=is_free).instructions()
        stored, _ = free_values(graph, behind)
        swapped = tuple(
            v
            for v in stored
            if actions[v] is Action.OFFLOAD
            and graph.values[v].nbytes
            and v not in given
        )
        if not swapped:
            break
    return Schedule(ahead, behind, stored, (), ()), swapped


def _invariant(graph: Graph) -> set[int]:
    """Return the forward values of a loop's body that are equal in each iteration."""
    varying = {*graph.carried, *graph.sliced, *graph.cotangents}
    found: set[int] = set()
    for eqn in graph.equations:
        if varying.isdisjoint(eqn.inputs) and eqn.is_pure:
            found.update(eqn.outputs)
        else:
            varying.update(eqn.outputs)
    return found


def issue(order: Order, swaps: Sequence[Swap]) -> Schedule:
    """Turn an order and the swaps over it into instructions."""
    ahead, behind = _Issue(order, swaps).instructions()
    device, host = free_values(order.graph, behind)
    return Schedule(ahead, behind, device, host, tuple(swaps))


def leaving_values(
    graph: Graph, actions: Sequence[Action], timing: Timing
) -> list[int]:
    """Return the values that leave the device if their uses are far enough apart."""
    found = []
    for eqn in graph.equations:
        for v in () if eqn.is_join else eqn.outputs:
            nbytes = graph.values[v].nbytes
            if eqn.is_backward:
                is_idle = timing.swap_cotangents and nbytes >= timing.min_bytes
                if is_idle and not eqn.is_view:
                    found.append(v)
            elif actions[v] is Action.OFFLOAD and nbytes:
                found.append(v)
    return found


class _Issue:
    """Turns an order and swaps into instructions.

    Args:
        order: The order.
        swaps: The swaps over it.
        is_free: Whether XLA may order what no copy waits for, as in `jax.checkpoint`.
            That is for iterations that swap nothing: barriers would only separate what
            XLA fuses. Beside copies, it would hold more than in this order.
    """

    def __init__(
        self, order: Order, swaps: Sequence[Swap], *, is_free: bool = False
    ) -> None:
        self.is_free = is_free
        self.order = order
        self.graph = order.graph
        self.entries = order.entries
        self.producers = order.graph.producers()
        self.swapped = {swap.value for swap in swaps}
        self.leaves: dict[int, list[int]] = {}
        self.waits: dict[int, list[int]] = {}
        self.returns: dict[int, list[int]] = {}
        self.late_returns: dict[int, list[int]] = {}
        self.arrivals: dict[int, list[int]] = {}
        for swap in swaps:
            self.leaves.setdefault(swap.made, []).append(swap.value)
            if swap.free_at is not None:
                self.waits.setdefault(swap.free_at, []).append(swap.value)
            for back in swap.returns:
                place = self.late_returns if back.gate is None else self.returns
                at = back.use if back.gate is None else back.gate
                place.setdefault(at, []).append(swap.value)
                if back.done_at is not None:
                    self.arrivals.setdefault(back.done_at, []).append(swap.value)
        is_again = any(e.is_backward and e.is_recomputed for e in self.entries)
        # Without copies and recomputations, XLA's own order is that of plain JAX.
        self.is_ordered = bool(swaps) or (is_again and not is_free)
        self.held_back = self._held_back() if swaps or is_again else {}
        # Positions where copies or waits are issued, too. Most entries have none.
        self.busy = {*self.leaves, *self.waits, *self.returns, *self.late_returns}
        self.busy.update(self.held_back)

    def instructions(self) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
        """Return the instructions of the forward and of the backward pass."""
        passes: tuple[list[Instruction], list[Instruction]] = ([], [])
        sequencer = Sequencer(self.order, self.swapped)
        for at, entry in enumerate(self.entries):
            if self.graph.is_body and entry.is_backward and not passes[1]:
                # Other iterations run in between, so nothing of this one is awaited.
                sequencer = Sequencer(self.order, self.swapped)
            issued = passes[entry.is_backward]
            if entry.is_heavy or at in self.busy:
                self._issue(at, entry, sequencer, issued)
            else:
                issued.extend(self.order.runs[at])
            sequencer.add(at, entry)
        return tuple(passes[0]), tuple(passes[1])

    def _issue(
        self, at: int, entry: Entry, sequencer: Sequencer, issued: list[Instruction]
    ) -> None:
        """Append an entry with the copies and the barriers around it."""
        returns, late = self.returns.get(at, []), self.late_returns.get(at, [])
        host = tuple(dict.fromkeys((*self.waits.get(at, []), *returns)))
        if at in self.held_back:
            inputs, awaited = self.held_back[at]
            device = (
                *inputs,
                *(awaited or sequencer.token(at) or self.graph.cotangents),
            )
            issued.append(Barrier(tuple(dict.fromkeys(device))))
            sequencer.tie(device)
        if entry.is_heavy and self.is_ordered:
            anchors = tuple(v for v in self._anchors(entry) if v not in late)
            token = () if sequencer.is_next(entry.reads) else sequencer.token(at)
            arrived = self.arrivals.get(at, [])
            device = tuple(
                dict.fromkeys((*anchors, *token, *arrived, *sequencer.due(at)))
            )
            if host or len(device) > len(anchors):
                issued.append(Barrier(device, host))
                sequencer.tie(device)
        if late:
            others = [v for v in entry.reads if v in self.producers]
            awaited = tuple(v for v in others if v not in late)
            issued.append(Barrier(sequencer.token(at) or awaited, tuple(late)))
        issued.extend(SwapIn(v) for v in (*returns, *late))
        issued.extend(self.order.runs[at])
        issued.extend(SwapOut(v) for v in self.leaves.get(at, []))

    def _anchors(self, entry: Entry) -> tuple[int, ...]:
        """Return the inputs of a heavy entry that a barrier holds back: large ones."""
        made = [v for v in entry.reads if v in self.producers] or list(entry.reads)
        largest = max((self.graph.values[v].nbytes for v in made), default=0)
        return tuple(v for v in made if 8 * self.graph.values[v].nbytes >= largest)

    def _held_back(self) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return where barriers stand, the inputs that they hold and what these await.

        The inputs of recomputations, and of whatever else awaits no cotangent, wait for
        a value that the backward pass has just made. This has two effects. They do not
        run early, when they would take memory. And XLA, which merges equal operations,
        cannot replace recomputations by the results of the forward operations. It would
        hold those results all the time.

        Recomputations for a heavy entry wait for its other inputs. Other recomputations
        are fused with what surrounds them. They wait for the previous heavy entry, in a
        barrier right after it. So no barrier separates operations that XLA fuses.
        """
        found: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        behind_heavy: int | None = None
        is_early = self.order.might_run_early
        start = 0
        for end in range(1, len(self.entries) + 1):
            is_end = end == len(self.entries)
            if is_end or is_early[end] != is_early[start]:
                if is_early[start] and self._is_to_be_held(start, end, bool(found)):
                    user = None if is_end else self.entries[end]
                    self._hold(found, start, end, user, behind_heavy)
                start = end
            if self.entries[end - 1].is_backward and behind_heavy is None:
                behind_heavy = end - 1
            if self.entries[end - 1].is_backward and self.entries[end - 1].is_heavy:
                behind_heavy = end
        return found

    def _is_to_be_held(self, start: int, end: int, is_held: bool) -> bool:
        """Whether recomputations might run early, or be merged with forward operations.

        The body of a loop holds only one pass, so there only heavy ones matter: XLA may
        join the passes of a single iteration. If it is free, the first ones are held.
        Others follow from these.
        """
        is_heavy = any(entry.is_heavy for entry in self.entries[start:end])
        is_next = self.is_free and is_held
        return not self.graph.is_body or (is_heavy and not is_next)

    def _hold(
        self,
        found: dict[int, tuple[tuple[int, ...], tuple[int, ...]]],
        start: int,
        end: int,
        user: Entry | None,
        behind_heavy: int | None,
    ) -> None:
        """Add the barrier for the recomputations at `start:end`, which `user` reads."""
        made = {v for entry in self.entries[start:end] for v in entry.makes}
        reads = dict.fromkeys(v for e in self.entries[start:end] for v in e.reads)
        inputs = tuple(v for v in reads if v not in made)
        awaited: tuple[int, ...] = ()
        place = start
        if user is not None and user.is_heavy:
            awaited = tuple(v for v in self._anchors(user) if v not in made)
        if not awaited and behind_heavy is not None and behind_heavy < start:
            place = behind_heavy
        not_yet = {v for entry in self.entries[place:start] for v in entry.makes}
        for at in range(place, end):
            not_yet.update(self.late_returns.get(at, ()))
        inputs = tuple(v for v in inputs if v not in not_yet)
        if inputs:
            before = found.get(place, ((), ()))
            found[place] = ((*before[0], *inputs), (*before[1], *awaited))
