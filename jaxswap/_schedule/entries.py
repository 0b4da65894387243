"""Graph and actions -> the entries of both passes, in the order of issue.

An `Entry` is one equation together with the views (reshapes, transposes) of its inputs.
The views are issued right before it. So a barrier in front of the entry never separates
a view from the operation that XLA can fuse it with.
"""

import dataclasses
from collections.abc import Collection, Sequence

from jaxswap._graph.graph import Action, Equation, Graph


@dataclasses.dataclass(frozen=True)
class Entry:
    """Equations issued together.

    Attributes:
        parts: Equation indices, the main one last. Each comes with whether it is
            recomputed.
        reads: Values read from outside the entry.
        makes: Values made.
        flops: Floating point operations of the main equation.
        is_heavy: Whether the main equation is heavy.
        is_backward: Whether the entry belongs to the backward pass.
    """

    parts: tuple[tuple[int, bool], ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    flops: float
    is_heavy: bool
    is_backward: bool

    @property
    def is_recomputed(self) -> bool:
        """Whether the main equation is a forward one that the backward pass issues."""
        return self.parts[-1][1]


def stored_values(
    graph: Graph, actions: Sequence[Action], needed: Collection[int]
) -> tuple[int, ...]:
    """Return the values to store so that the backward pass can have all `needed`.

    A value that is to be recomputed is replaced by the inputs of its equation. This is
    repeated until only stored values and arguments are left. A value whose equation has
    side effects cannot be recomputed, so it is stored. A piece is stored, too.
    """
    remakers = graph.remakers()
    stored: set[int] = set()
    seen: set[int] = set()
    stack = list(needed)
    while stack:
        v = stack.pop()
        if v in seen or v not in remakers:
            continue
        seen.add(v)
        if actions[v] is Action.RECOMPUTE and remakers[v].is_pure:
            stack.extend(remakers[v].inputs)
        else:
            stored.add(v)
    return tuple(sorted(stored))


def entries_of(
    graph: Graph,
    actions: Sequence[Action],
    stale_after: int,
    large_bytes: int,
    hold_for: int = 0,
) -> tuple[Entry, ...]:
    """List the entries of both passes.

    Args:
        graph: The traced program.
        actions: One for each value.
        stale_after: See `backward_entries`.
        large_bytes: See `backward_entries`.
        hold_for: See `backward_entries`.
    """
    stored = stored_values(graph, actions, graph.residuals())
    behind = backward_entries(graph, stored, stale_after, large_bytes, hold_for)
    return (*forward_entries(graph, stored), *behind)


def forward_entries(graph: Graph, stored: Collection[int]) -> tuple[Entry, ...]:
    """List the entries that make the results and the stored values."""
    fixed = {*graph.outputs, *stored}
    wanted = graph.ancestors(tuple(fixed))
    views = _views(graph, fixed)
    entries = []
    for eqn in graph.equations:
        is_wanted = eqn.index in wanted or not (eqn.is_pure or eqn.is_cut)
        if eqn.is_backward or not is_wanted or eqn.outputs[0:1] in views:
            continue
        entries.append(_entry(eqn, views, is_backward=False))
    return tuple(entries)


def backward_entries(
    graph: Graph,
    stored: Collection[int],
    stale_after: int,
    large_bytes: int,
    hold_for: int = 0,
) -> tuple[Entry, ...]:
    """List the entries of the backward pass. Values are recomputed right before use.

    Args:
        graph: The traced program.
        stored: Forward values that are available without a recomputation.
        stale_after: A cheap recomputed value of at least `large_bytes` is not held for
            longer than this many heavy operations after a use. It is recomputed again.
        large_bytes: See `stale_after`.
        hold_for: No recomputed value of at least `large_bytes` is held for longer than
            this many heavy operations of the backward pass itself. It is recomputed
            again, from stored values if those between are no longer held. So a long row
            of recomputations is repeated, and needs the memory of a few. 0: all are
            held until their last use.
    """
    builder = _Backward(graph, stored, stale_after, large_bytes, hold_for)
    wanted = graph.ancestors(graph.gradients)
    for eqn in graph.equations:
        is_wanted = eqn.index in wanted or not eqn.is_pure
        if eqn.is_backward and is_wanted:
            builder.issue(eqn)
    for v in graph.gradients:
        if builder.is_missing(v):
            builder.issue(builder.remakers[v])
    return tuple(builder.entries)


class _Backward:
    """Issues the backward pass entry by entry."""

    def __init__(
        self,
        graph: Graph,
        stored: Collection[int],
        stale_after: int,
        large_bytes: int,
        hold_for: int,
    ) -> None:
        self.graph = graph
        self.remakers = graph.remakers()
        self.ready = {*stored, *graph.arguments, *graph.cotangents}
        self.views = _views(graph, {*graph.gradients, *self.ready})
        self.stale_after = stale_after
        self.large_bytes = large_bytes
        self.hold_for = hold_for
        self.last_use: dict[int, int] = {}
        self.heavy_count = 0
        # The same without recomputations. It stands still while they are issued: what
        # one of them has made is there for the next.
        self.last_own_use: dict[int, int] = {}
        self.own_count = 0
        self.entries: list[Entry] = []

    def issue(self, eqn: Equation) -> None:
        """Append the entry of `eqn`, after recomputations of what it reads."""
        if eqn.outputs[0:1] in self.views:
            return
        stack = [eqn]
        while stack:
            entry = _entry(stack[-1], self.views, is_backward=True)
            missing = next((v for v in entry.reads if self.is_missing(v)), None)
            if missing is None:
                self._append(entry)
                stack.pop()
            else:
                stack.append(self.remakers[missing])

    def is_missing(self, v: int) -> bool:
        """Whether the forward value `v` has to be recomputed before it can be read."""
        if v in self.ready or v not in self.remakers:
            return False
        eqn = self.remakers[v]
        if eqn.is_backward:
            return False
        return v not in self.last_use or self._is_stale(v, eqn)

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.heavy_count += entry.is_heavy
        self.own_count += entry.is_heavy and not entry.is_recomputed
        for v in (*entry.reads, *entry.makes):
            self.last_use[v] = self.heavy_count
            self.last_own_use[v] = self.own_count

    def _is_stale(self, v: int, eqn: Equation) -> bool:
        if self.graph.values[v].nbytes < self.large_bytes:
            return False
        if eqn.is_cheap and self.heavy_count - self.last_use[v] > self.stale_after:
            return True
        own_idle = self.own_count - self.last_own_use[v]
        return 0 < self.hold_for < own_idle


def _views(graph: Graph, fixed: Collection[int]) -> dict[tuple[int, ...], Equation]:
    """Map outputs to their view equations, except views that make a `fixed` value."""
    return {
        eqn.outputs: eqn
        for eqn in graph.equations
        if eqn.is_view and not any(v in fixed for v in eqn.outputs)
    }


def _entry(
    eqn: Equation,
    views: dict[tuple[int, ...], Equation],
    is_backward: bool,
) -> Entry:
    """Return the entry of `eqn` with the views that it reads, innermost first."""
    if not any((v,) in views for v in eqn.inputs):
        return Entry(
            parts=((eqn.index, is_backward and not eqn.is_backward),),
            reads=tuple(dict.fromkeys(eqn.inputs)),
            makes=eqn.outputs,
            flops=eqn.flops,
            is_heavy=eqn.is_heavy,
            is_backward=is_backward,
        )
    chain: dict[int, Equation] = {}

    def add(reader: Equation) -> None:
        for v in reader.inputs:
            view = views.get((v,))
            if view is not None and view.index not in chain:
                add(view)
                chain[view.index] = view
        chain[reader.index] = reader

    add(eqn)
    makes = tuple(v for part in chain.values() for v in part.outputs)
    reads = dict.fromkeys(v for part in chain.values() for v in part.inputs)
    return Entry(
        parts=tuple(
            (part.index, is_backward and not part.is_backward)
            for part in chain.values()
        ),
        reads=tuple(v for v in reads if v not in makes),
        makes=makes,
        flops=eqn.flops,
        is_heavy=eqn.is_heavy,
        is_backward=is_backward,
    )
